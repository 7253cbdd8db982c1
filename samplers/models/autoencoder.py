"""Between pictures and latents: a diffusers autoencoder, or none where a network works on pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samplers.architectures import cell_px_of

SLICE = 4
"""Latents that are decoded at once; more take memory and bring no speed."""
TILE_PX = 1024
"""Larger pictures are read and made in overlapping tiles of this size, so that memory stays bounded."""


class Autoencoder:
    """Pictures (N, 3, H, W) in [-1, 1] <-> latents (N, C, h, w), all float32."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self.cell_px = cell_px_of(vae.config)
        """Pixels per latent cell."""
        if hasattr(vae, "tiled_decode"):  # a tiny one is small enough as it is
            vae.use_tiling = True
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE_PX, TILE_PX // self.cell_px

    def decode(self, latents: Tensor, grad: bool = False) -> Tensor:
        """Pictures; with `grad` not clipped, so that the gradient is not lost where they clip."""
        scale, shift = self._affine(latents)
        with torch.set_grad_enabled(grad):
            scaled = (latents * scale + shift).to(self._vae.dtype)
            images = torch.cat([self._vae.decode(some, return_dict=False)[0] for some in scaled.split(SLICE)])
        return images.float() if grad else images.float().clamp(-1, 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents, the mean where the autoencoder gives a distribution."""
        encoded = self._vae.encode(images.to(self._vae.device, self._vae.dtype))
        if hasattr(encoded, "latent_dist"):
            z = encoded.latent_dist.mode().float()
        else:
            z = (encoded.latents if hasattr(encoded, "latents") else encoded.latent).float()
        scale, shift = self._affine(z)
        return (z - shift) / scale

    def _affine(self, like: Tensor) -> tuple[Any, Any]:
        """Scale and shift from latents to the decoder's. Some SDXL autoencoders give mean and deviation."""
        config = self._vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            std, mean = (torch.tensor(row, device=like.device).view(1, -1, 1, 1) for row in (std, mean))
            return std / config.scaling_factor, mean
        return 1 / config.scaling_factor, getattr(config, "shift_factor", None) or 0.0


class Pixels:
    """No autoencoder: the network's samples are the pictures."""

    cell_px = 1

    def decode(self, latents: Tensor, grad: bool = False) -> Tensor:
        """The samples themselves, clipped unless the gradient is wanted."""
        return latents if grad else latents.clamp(-1, 1)

    def encode(self, images: Tensor) -> Tensor:
        """The pictures themselves."""
        return images
