"""What a CLIP picture encoder sees: features by which pictures look alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Perceptor:
    """The layers of a CLIP vision transformer, as maps over its patches."""

    def __init__(self, clip: Any, processor: Any) -> None:
        self._vision = clip.vision_model
        self._size = clip.config.vision_config.image_size
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1)
        self._std = torch.tensor(processor.image_std).view(3, 1, 1)

    def features(self, images: Tensor, grad: bool = False) -> list[Tensor]:
        """Pictures (N, 3, H, W) in [-1, 1] -> one map (N, C, h, w) per layer, float32."""
        with torch.set_grad_enabled(grad):
            small = functional.interpolate(
                images / 2 + 0.5, (self._size, self._size), mode="bilinear", antialias=True
            )
            pixels = (small - self._mean.to(small)) / self._std.to(small)
            out = self._vision(pixel_values=pixels.to(self._vision.dtype), output_hidden_states=True)
            side = round((out.hidden_states[0].shape[1] - 1) ** 0.5)
            return [
                layer[:, 1:].transpose(1, 2).unflatten(2, (side, side)).float()
                for layer in out.hidden_states[1:]
            ]
