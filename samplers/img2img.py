"""Image to image: a picture's latents, noised to a level on the way, and the steps from there on.

    x_t = alpha_t * latents + sigma_t * noise

Source: arXiv 2108.01073 (SDEdit), algorithm 1; diffusers 0.42 `StableDiffusionImg2ImgPipeline`.
Deviates: the latents are the mean of what the autoencoder gives, where diffusers samples them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from guidance.base import Conditions, Guidance, Level
from samplers.loop import Observed, Run, run
from samplers.models.base import Model
from samplers.noise import NoiseSource
from samplers.steps import Plan


class Noised:
    """A noise source whose first draw is the noised picture; what follows is `noise`'s own."""

    def __init__(self, latents: Tensor, level: Level, noise: NoiseSource) -> None:
        self._latents: Tensor | None = latents
        self._level = level
        self._noise = noise

    def draw(self) -> Tensor:
        """The noised latents, then standard normal samples."""
        latents, self._latents = self._latents, None
        noise = self._noise.draw()
        return noise if latents is None else self._level.alpha * latents + self._level.sigma * noise

    def uniform(self) -> float:
        """The next uniform number."""
        return self._noise.uniform()


def run_from(
    latents: Tensor,
    plan: Plan,
    guidance: Guidance,
    cond: Conditions,
    noise: NoiseSource,
    observe: Callable[[Observed], None] | None = None,
) -> Run:
    """`samplers.loop.run` from `latents` (1, C, h, w), noised to where `plan` begins, not from noise."""
    start = Noised(latents, plan.levels[0], noise)
    return run(replace(plan, init_scale=1.0), guidance, cond, start, observe)


def to_latents(model: Model, image: Image.Image | Tensor) -> Tensor:
    """A picture's latents (1, C, h, w) on the model's device; latents stay what they are."""
    if isinstance(image, Tensor):
        return image
    model.latent_shape(*image.size)
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return model.encode_images((pixels.float() / 127.5 - 1).to(model.device))
