"""Stable Diffusion 3 and 3.5: a rectified flow on 16-channel latents, two CLIP encoders and, optionally, T5.

Without T5 (`without=["text_encoder_3", "tokenizer_3"]`) its tokens are zeros, as in the pipeline. Compared
with diffusers 0.42's `StableDiffusion3Pipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from guidance.asks import Cond
from samplers.architectures import SD3_TOKENS
from samplers.models.pipeline import PipelineModel, stacked
from samplers.models.prompts import Embedded
from samplers.models.text import overflow


class StableDiffusion3(PipelineModel):
    """The adapter. A condition's data is the text's embedding (tokens, width) and its pooled one (width)."""

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        text, _, pooled, _ = self._pipeline.encode_prompt(
            prompt, None, None, device=self.device, do_classifier_free_guidance=False,
            max_sequence_length=SD3_TOKENS, clip_skip=clip_skip,
        )  # fmt: skip
        if self._pipeline.text_encoder_3 is not None:
            warning = overflow(self._pipeline.tokenizer_3, prompt, SD3_TOKENS)
        else:
            warning = overflow(self._pipeline.tokenizer, prompt, self._pipeline.tokenizer_max_length)
        return Embedded((text[0], pooled[0]), warning)

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        text, pooled = stacked(conds)
        return net(
            hidden_states=x,
            timestep=timestep,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
