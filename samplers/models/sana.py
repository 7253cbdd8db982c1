"""SANA: a linear transformer that attends to Gemma's tokens, a flow on latents of 32 x 32 pixels per cell.

Prompts are read behind the pipeline's instruction to Gemma, the empty one alone; so is, where the pipeline
reads it alone, a negative prompt. Compared with diffusers 0.42's `SanaPipeline` without its binning of sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from guidance.asks import Cond
from samplers.architectures import SANA_TOKENS
from samplers.models.pipeline import PipelineModel, stacked
from samplers.models.prompts import Embedded
from samplers.models.text import overflow


class Sana(PipelineModel):
    """The adapter. A condition's data is the text's embedding (tokens, width) and its mask (tokens)."""

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        usual = inspect.signature(self._pipeline.__call__).parameters["complex_human_instruction"].default
        text, mask, _, _ = self._pipeline.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=SANA_TOKENS,
            complex_human_instruction=usual if prompt else None,
        )
        return Embedded((text[0], mask[0]), overflow(self._pipeline.tokenizer, prompt, SANA_TOKENS))

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        text, mask = stacked(conds)
        return net(
            x,
            encoder_hidden_states=text.to(x.dtype),
            encoder_attention_mask=mask,
            timestep=timestep * net.config.timestep_scale,
            return_dict=False,
        )[0]
