"""Stable Diffusion 1.x and 2.x: CLIP text encoder, UNet, KL or tiny autoencoder, in a diffusers layout.

Compared with diffusers 0.42's `StableDiffusionPipeline`, whose latents it reproduces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidance.base import Cond
from samplers.models.pipeline import PipelineModel
from samplers.models.text import overflow


class StableDiffusion(PipelineModel):
    """The adapter. A condition's data is the text's embedding (tokens, width)."""

    def __init__(self, name: str, pipeline: Any, weak: Any = None) -> None:
        super().__init__(name, pipeline, weak)
        if self._config.time_cond_proj_dim is not None:
            raise ValueError(
                "this UNet takes its guidance scale as an input (time_cond_proj_dim, as LCM does), which is "
                "not supported; use the model it was distilled from"
            )
        if self._config.in_channels != self._config.out_channels or self._config.addition_embed_type:
            raise ValueError(
                "this UNet takes more than a latent, a time and a text; it is not a plain SD model"
            )

    def _embed(self, prompt: str) -> tuple[Tensor, str | None]:
        tokenizer = self._pipeline.tokenizer
        embedding, _ = self._pipeline.encode_prompt(prompt, self.device, 1, False)
        return embedding[0], overflow(tokenizer, prompt, tokenizer.model_max_length)

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        text = torch.stack([cond.data for cond in conds])
        return net(x, timestep, encoder_hidden_states=text, return_dict=False)[0]
