"""A handful of drawn pictures stand in for the emoji."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from torch import Tensor

ROWS = [
    {
        "file": f"{style}/{name}.webp",
        "style": style,
        "name": name,
        "keywords": [name, word],
        "group": "Food & Drink",
        "subgroup": "food-fruit",
        "skin_tone": False,
    }
    for name, word in (("red apple", "fruit"), ("cherries", "berry"), ("octopus", "ink"))
    for style in ("3d", "flat")
]


@pytest.fixture
def rows() -> list[dict]:
    return ROWS


@pytest.fixture
def pixels() -> Tensor:
    """Opaque red squares in the middle of transparent pictures, (6, 4, 64, 64) uint8."""
    out = torch.zeros(len(ROWS), 4, 64, 64, dtype=torch.uint8)
    out[:, 0, 16:48, 16:48] = 255
    out[:, 3, 16:48, 16:48] = 255
    return out
