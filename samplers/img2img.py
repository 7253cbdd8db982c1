"""Starting from a picture: its latents, noised to a level on the way, and the steps from there on.

    x_t = alpha_t * latents + sigma_t * noise

With a mask the picture is made anew inside of it only: outside, each step ends in the picture's own latents,
noised to the level that it leads to, and the last one in the latents themselves.

Source: arXiv 2108.01073 (SDEdit), algorithm 1; arXiv 2201.09865 (RePaint), eq. 8, without its resampling;
diffusers 0.42 `StableDiffusionImg2ImgPipeline`, `StableDiffusionInpaintPipeline` and those of SDXL.
Deviates: the latents are the mean of what the autoencoder gives, where diffusers samples them; a latent cell
that the mask touches is made anew, where diffusers looks at one of its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samplers.models.base import Model
from samplers.steps.row import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A picture's latents (1, C, h, w) and, where only a part is made anew, its mask (1, 1, h, w), bool."""

    latents: Tensor
    mask: Tensor | None = None

    def begin(self, plan: Plan, noise: Tensor) -> Tensor:
        """The sample that the run begins with; with a mask and no step left out, noise alone."""
        if self.mask is not None and not plan.skipped:
            return plan.init_scale * noise
        level = plan.levels[0]
        return level.alpha * self.latents + level.sigma * noise

    def keep(self, plan: Plan, row: int, x_s: Tensor, noise: Tensor) -> Tensor:
        """The sample after this row: outside the mask the picture's, with the noise of the beginning."""
        if self.mask is None:
            return x_s
        if row == len(plan.rows) - 1:
            return torch.where(self.mask, x_s, self.latents)
        level = plan.rows[row + 1].now
        return torch.where(self.mask, x_s, level.alpha * self.latents + level.sigma * noise)


def start_from(model: Model, image: Image.Image | Tensor, mask: Image.Image | None = None) -> Start:
    """The start from a picture or its latents; white in `mask`, of the picture's size, is made anew."""
    latents = to_latents(model, image)
    return Start(latents, None if mask is None else _cells(model, mask, latents))


def to_latents(model: Model, image: Image.Image | Tensor) -> Tensor:
    """A picture's latents (1, C, h, w) on the model's device; latents stay what they are."""
    if isinstance(image, Tensor):
        return image
    model.latent_shape(*image.size)
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return model.encode_images((pixels.float() / 127.5 - 1).to(model.device))


def _cells(model: Model, mask: Image.Image, latents: Tensor) -> Tensor:
    height, width = latents.shape[2:]
    if model.latent_shape(*mask.size)[1:] != (height, width):
        raise ValueError(f"the mask is {mask.width}x{mask.height}, which is not the size of init_image")
    white = np.array(mask.convert("L")) >= 128
    cells = white.reshape(height, mask.height // height, width, mask.width // width).any(axis=(1, 3))
    if not cells.any():
        raise ValueError("the mask is black everywhere, so nothing would change; white is made anew")
    return torch.from_numpy(cells).to(latents.device)[None, None]
