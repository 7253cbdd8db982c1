"""Stable Diffusion 1.x and 2.x: CLIP text encoder, UNet, KL or tiny autoencoder, in a diffusers layout.

A UNet with `time_cond_proj_dim` has its guidance scale built in, as LCM's (arXiv 2310.04378): each row tells
its own (`Cond.scale`), and a guidance method on top of it is two passes, each told that scale. Compared with
diffusers 0.42's `StableDiffusionPipeline` and `LatentConsistencyModelPipeline`, whose latents it reproduces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from guidance.asks import Cond
from samplers.models.control import ControlledModel, residuals
from samplers.models.prompts import Embedded
from samplers.models.text import pieces


class StableDiffusion(ControlledModel):
    """The adapter. A condition's data is the embedding (tokens, width), of a long prompt piece by piece."""

    def __init__(self, name: str, pipeline: Any, *parts: Any, **named: Any) -> None:
        super().__init__(name, pipeline, *parts, **named)
        if self._config.in_channels != self._config.out_channels or self._config.addition_embed_type:
            raise ValueError(
                "this UNet takes more than a latent, a time and a text; it is not a plain SD model"
            )

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        if self._compelled is not None:
            return Embedded(self._compelled.read(prompt)[0])
        parts = pieces(self._pipeline.tokenizer, prompt)
        if clip_skip is None:
            text, _ = self._pipeline.encode_prompt(parts, self.device, 1, False)
        else:
            text = self._skipping(clip_skip, parts)
        return Embedded(text.flatten(0, 1), pieces=len(parts))

    def _skipping(self, layers: int, parts: list[str]) -> Tensor:
        """Without the encoder's last layers; diffusers 0.42's own way fails with transformers 5."""
        encoder, tokenizer = self._pipeline.text_encoder, self._pipeline.tokenizer
        tokens = tokenizer(
            parts,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states = encoder(tokens.input_ids.to(self.device), output_hidden_states=True).hidden_states
        return encoder.final_layer_norm(states[-(layers + 1)])

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        texts = [cond.data for cond in conds]
        added = residuals(self._controlnet, x, timestep, texts, conds)
        text = self._told(net, conds, texts)
        scales = _scale_embedding(conds, net.config.time_cond_proj_dim, self._embedded_scale, x)
        return net(x, timestep, timestep_cond=scales, encoder_hidden_states=text, return_dict=False, **added)[
            0
        ]


def _scale_embedding(
    conds: Sequence[Cond], width: int | None, default: float | None, like: Tensor
) -> Tensor | None:
    """Sines, then cosines, of `1000 (scale - 1)` for each row (rows, width); None where none is built in."""
    if width is None:
        return None
    scales = [default if cond.scale is None else cond.scale for cond in conds]
    w = torch.tensor(scales, device=like.device) - 1
    half = width // 2
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000) / (half - 1)))
    angles = 1000 * w[:, None] * rates
    waves = functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width % 2))
    return waves.to(like.dtype)
