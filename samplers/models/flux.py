"""FLUX.1 dev and schnell: a rectified flow on packed 16-channel latents, CLIP for the pooled text and T5.

dev has its guidance scale built in: each row tells its own (`Cond.scale`). A guidance method on top of it is
what diffusers calls `true_cfg_scale`: two passes, each told the built-in scale. Compared with diffusers
0.42's `FluxPipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidance.asks import Cond
from samplers.architectures import FLUX_TOKENS
from samplers.models.pipeline import PipelineModel, stacked
from samplers.models.prompts import Embedded
from samplers.models.text import overflow


class Flux(PipelineModel):
    """The adapter. A condition's data is the text's embedding (tokens, width) and its pooled one (width)."""

    def __init__(self, name: str, pipeline: Any, weak: Any = None) -> None:
        super().__init__(name, pipeline, weak)
        self.scheduler_config["uniform_sigmas"] = True

    @property
    def _channels(self) -> int:
        return self._config.in_channels // 4

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        text, pooled, _ = self._pipeline.encode_prompt(
            prompt, device=self.device, max_sequence_length=FLUX_TOKENS
        )
        return Embedded((text[0], pooled[0]), overflow(self._pipeline.tokenizer_2, prompt, FLUX_TOKENS))

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        (rows, channels, height, width), flux = x.shape, self._pipeline
        text, pooled = stacked(conds)
        scales = [self._embedded_scale if cond.scale is None else cond.scale for cond in conds]
        out = net(
            hidden_states=flux._pack_latents(x, rows, channels, height, width),
            timestep=timestep.to(x.dtype) / 1000,
            guidance=torch.tensor(scales, device=x.device) if net.config.guidance_embeds else None,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            txt_ids=torch.zeros(text.shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=flux._prepare_latent_image_ids(rows, height // 2, width // 2, x.device, x.dtype),
            return_dict=False,
        )[0]
        return flux._unpack_latents(out, height * self._cell_px, width * self._cell_px, self._cell_px)
