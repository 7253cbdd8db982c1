"""Emoji pictures on named backgrounds, and the captions that describe them."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (20, 20, 24),
    "grey": (150, 155, 165),
    "red": (220, 40, 45),
    "orange": (250, 130, 40),
    "yellow": (250, 210, 60),
    "green": (50, 165, 85),
    "blue": (45, 105, 230),
    "purple": (140, 70, 200),
    "pink": (245, 150, 195),
}
COLOUR_NAMES = tuple(COLOURS)
MIRRORED = frozenset({"Animals & Nature", "Food & Drink", "Smileys & Emotion", "Activities"})
SAME_STYLE = {"fluent": "3d"}
"""Microsoft's colour SVGs are its 3D pictures drawn again with gradients: at 64 px they look alike."""
SIDED = frozenset({"left", "right", "zzz", "ZZZ", "hundred", "exclamation", "symbols", "symbol"})


@dataclass(frozen=True)
class Pictures:
    """Premultiplied RGBA pictures, uint8 (N, 4, H, W), and their caption rows."""

    pixels: Tensor
    rows: list[dict]

    @property
    def flips(self) -> Tensor:
        """(N,) bool: the caption stays true in a mirror."""
        kept = [row["group"] in MIRRORED and not set(row["name"].split()) & SIDED for row in self.rows]
        return torch.tensor(kept, device=self.pixels.device)


def read_rows(data: Path, groups: list[str], skin_tones: bool) -> list[dict]:
    """The caption rows of `groups` (all groups where the list is empty), styles that look alike as one."""
    with (data / "captions.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        row | {"style": SAME_STYLE.get(row["style"], row["style"])}
        for row in rows
        if (not groups or row["group"] in groups) and (skin_tones or not row["skin_tone"])
    ]


def read_pixels(data: Path, rows: list[dict], size: int) -> Tensor:
    """Decode, premultiply and resize; premultiplied edges do not fringe."""
    out = np.empty((len(rows), 4, size, size), np.uint8)
    with zipfile.ZipFile(data / "images.zip") as archive:
        for at, row in enumerate(rows):
            picture = Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGBa")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BOX)
            out[at] = np.asarray(picture).transpose(2, 0, 1)
    return torch.from_numpy(out)


def composite(pixels: Tensor, colours: Tensor, scale: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Put premultiplied pictures (B, 4, H, W) uint8 on colours (B, 3) in 0..255.

    `scale` (B,) is the picture's share of the side, `shift` (B, 2) its move in
    shares of the side, `flip` (B,) bool mirrors it. Returns (B, 3, H, W) in -1..1.
    """
    theta = pixels.new_zeros((len(pixels), 2, 3), dtype=torch.float32)
    theta[:, 0, 0] = torch.where(flip, -1.0, 1.0) / scale
    theta[:, 1, 1] = 1.0 / scale
    theta[:, :, 2] = -2.0 * shift / scale[:, None]
    theta[:, 0, 2] = torch.where(flip, -theta[:, 0, 2], theta[:, 0, 2])
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    warped = F.grid_sample(pixels.float(), grid, mode="bilinear", align_corners=False)
    alpha = warped[:, 3:] / 255
    return (warped[:, :3] + (1 - alpha) * colours[:, :, None, None]) / 127.5 - 1


def colour_table(device: torch.device | str = "cpu") -> Tensor:
    """(10, 3) float, in the order of COLOUR_NAMES."""
    return torch.tensor([COLOURS[name] for name in COLOUR_NAMES], device=device).float()


class Backgrounds:
    """Randomly places pictures on named colours."""

    def __init__(self, pixels: Tensor, config: dict, seed: int, flips: Tensor) -> None:
        self.pixels, self.config, self.flips = pixels, config, flips
        self.generator = torch.Generator(pixels.device).manual_seed(seed)
        self.colours = colour_table(pixels.device)
        self.weights = torch.ones(len(pixels), device=pixels.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.pixels.device)

    def choose(self, batch: int) -> tuple[Tensor, Tensor]:
        """Picture indices and colour indices, (B,) each."""
        index = self.weights.multinomial(batch, replacement=True, generator=self.generator)
        return index, draw_colours(self.uniform(batch))

    def place(self, index: Tensor, colour: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 with random scale, shift and, where allowed, flip."""
        many, (low, high) = len(index), self.config["scale"]
        return composite(
            self.pixels[index],
            self.colours[colour],
            low + (high - low) * self.uniform(many),
            (self.uniform(many, 2) * 2 - 1) * self.config["shift"],
            self.flips[index] & (self.uniform(many) < self.config["flip"]),
        )


def draw_colours(uniform: Tensor, white: float = 0.35) -> Tensor:
    """Indices into COLOUR_NAMES: white with its share, the others alike."""
    others = 1 + ((uniform - white) / (1 - white) * (len(COLOURS) - 1)).long()
    return torch.where(uniform < white, 0, others.clamp(1, len(COLOURS) - 1))
