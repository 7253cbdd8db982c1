"""Unconditional models on pixels: `UNet2DModel` as DDPM, DDIM and their like store it.

Where the scheduler's config clips the estimate (`clip_sample`), so does this; DDIM's noise then follows from
the clipped estimate. Compared with diffusers 0.42's `DDPMPipeline`, and with its `DDIMPipeline` with
`use_clipped_model_output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from guidance.asks import Cond, Level, Network
from samplers.models.pipeline import PipelineModel
from samplers.models.prompts import Embedded


class Unconditional(PipelineModel):
    """The adapter. Conditions are empty; a prompt is not read, of which a warning tells."""

    def __init__(self, name: str, pipeline: Any, weak: Any = None) -> None:
        super().__init__(name, pipeline, weak)
        if self._config.class_embed_type is not None or self._config.num_class_embeds is not None:
            raise ValueError("this UNet takes a class, which its pipeline does not give it")

    def denoise(
        self,
        x_t: Tensor,
        levels: Sequence[Level],
        conds: Sequence[Cond],
        network: Network = "main",
        grad: bool = False,
    ) -> Tensor:
        """One forward for all rows."""
        denoised = super().denoise(x_t, levels, conds, network, grad)
        if not self.scheduler_config.get("clip_sample"):
            return denoised
        limit = self.scheduler_config["clip_sample_range"]
        return denoised.clamp(-limit, limit)

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        return Embedded((), "this model takes no prompt; what you gave was not read" if prompt else None)

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        return net(x, timestep, return_dict=False)[0]
