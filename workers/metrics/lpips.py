"""How different two pictures look, by LPIPS: no score of one picture, but features whose distance it is."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from workers.metrics import Features, Pixels, Scorer, Unavailable, identity_of

SIDE = 64
"""Pictures are scaled to it: the size of the patches on which people judged for LPIPS."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
"""AlexNet's convolutions: index in torchvision's `features`, stride, padding."""
POOLED = (3, 6)
"""Before these the activations are pooled."""
NETWORK, HEAD = "alexnet-owt-7be5be79.pth", "alex.pth"
Weights = dict[str, Tensor]


def look(pixels: Pixels, prompt: str = "", scorer: Path | None = None) -> tuple[dict[str, float], Features]:
    """No score, and features (31872,) in float16 whose squared distance is LPIPS. Raises Unavailable.

    LPIPS is a sum of weighted squared differences of unit activations, averaged over places; so with the
    roots of weights and of 1 / (h w) in the features, their squared Euclidean distance is LPIPS itself.
    Source: R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    CVPR 2018, eq. 1, version 0.1 with AlexNet.
    """
    network, head = _load(_folder(scorer))[0]
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
    return {}, features(image, network, head)[0].numpy().astype(np.float16)


@torch.no_grad()
def features(images: Tensor, network: Weights, head: Weights) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] -> (N, D), by torchvision's AlexNet and LPIPS' linear layers."""
    x = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    parts = list[Tensor]()
    for number, (layer, stride, padding) in enumerate(LAYERS):
        if layer in POOLED:
            x = functional.max_pool2d(x, 3, 2)
        weight, bias = (network[f"features.{layer}.{name}"] for name in ("weight", "bias"))
        x = functional.conv2d(x, weight, bias, stride, padding).relu()
        unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
        share = head[f"lin{number}.model.1.weight"] / x[0, 0].numel()
        parts.append((unit * share.sqrt()).flatten(1))
    return torch.cat(parts, 1)


def identity(scorer: Path | None) -> Scorer:
    """Which weights look. Raises Unavailable."""
    return _load(_folder(scorer))[1]


def _folder(scorer: Path | None) -> Path:
    if scorer is None or not all((scorer / name).is_file() for name in (NETWORK, HEAD)):
        raise Unavailable(
            f"weights not installed: put torchvision's {NETWORK} and {HEAD} of LPIPS 0.1 into {scorer}"
        )
    return scorer


@lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[tuple[Weights, Weights], Scorer]:
    network, head = (
        torch.load(folder / name, map_location="cpu", weights_only=True) for name in (NETWORK, HEAD)
    )
    return (network, head), identity_of(folder, "*.pth")
