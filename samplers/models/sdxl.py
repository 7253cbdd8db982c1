"""Stable Diffusion XL and what is distilled from it: two CLIP text encoders, a UNet told the picture's size.

Micro-conditioning (arXiv 2307.01952, section 2.2) has diffusers' defaults: original and target size are the
picture's, nothing is cropped. Compared with diffusers 0.42's `StableDiffusionXLPipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidance.asks import Cond
from samplers.models.control import ControlledModel, residuals
from samplers.models.prompts import Embedded
from samplers.models.text import pieces


class StableDiffusionXL(ControlledModel):
    """The adapter. A condition's data is the text's embedding (tokens, width) and its pooled one (width).

    The empty prompt is the unconditional one: all zeros where the model was trained so. Of a long prompt the
    embeddings of its pieces are joined, and the first one's pooled one is taken.
    """

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        if self._compelled is not None and prompt:
            return Embedded(self._compelled.read(prompt))
        parts = pieces(self._pipeline.tokenizer_2, prompt)
        text, _, pooled, _ = self._pipeline.encode_prompt(
            parts, device=self.device, do_classifier_free_guidance=False, clip_skip=clip_skip
        )
        if not prompt and self._pipeline.config.force_zeros_for_empty_prompt:
            text, pooled = torch.zeros_like(text), torch.zeros_like(pooled)
        return Embedded((text.flatten(0, 1), pooled[0]), pieces=len(parts))

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        texts, pooled = [cond.data[0] for cond in conds], torch.stack([cond.data[1] for cond in conds])
        size = [cells * self._cell_px for cells in x.shape[2:]]
        sizes = torch.tensor([*size, 0, 0, *size], dtype=x.dtype, device=x.device).expand(len(x), -1)
        told = {"text_embeds": pooled, "time_ids": sizes}
        added = residuals(self._controlnet, x, timestep, texts, conds, added_cond_kwargs=told)
        text = self._told(net, conds, texts)
        return net(
            x, timestep, encoder_hidden_states=text, added_cond_kwargs=told, return_dict=False, **added
        )[0]
