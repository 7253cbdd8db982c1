"""PixArt-Sigma: a transformer on 4-channel latents that attends to T5's tokens under their mask.

Compared with diffusers 0.42's `PixArtSigmaPipeline` without its binning of sizes: a size that the network was
not trained on is sampled as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from guidance.asks import Cond
from samplers.architectures import PIXART_TOKENS
from samplers.models.pipeline import PipelineModel, stacked
from samplers.models.prompts import Embedded
from samplers.models.text import overflow


class PixArt(PipelineModel):
    """The adapter. A condition's data is the text's embedding (tokens, width) and its mask (tokens)."""

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        text, mask, _, _ = self._pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, device=self.device, max_sequence_length=PIXART_TOKENS
        )
        return Embedded((text[0], mask[0]), overflow(self._pipeline.tokenizer, prompt, PIXART_TOKENS))

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        text, mask = stacked(conds)
        out = net(
            x,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            timestep=timestep,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return out[:, : x.shape[1]]  # what follows is the variance that some of these networks learned
