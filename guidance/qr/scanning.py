"""The scanning-robust loss: how far a picture is from being read as a symbol, module by module.

    L_SR = mean over all modules k of  phi_k * e_k,     e_k = sum over the module's pixels of K * E

with E the pixel's error of luminance, K a weight that is largest at the module's centre, and phi_k = 1 where
the mean of the centre reads as the wrong bit. `phi` carries no gradient, so a module that reads right is left
alone.

Source: arXiv 2409.06355, equations 4 to 8; jwliao1209/DiffQRCoder @ e24ea73e, `scanning_robust_loss.py`.
    Paper and code differ: `PAPER` and `CODE`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from guidance.qr.symbol import Symbol

Variant = Literal["paper", "code"]
DARK_AT_MOST, LIGHT_AT_LEAST = 0.2, 0.85
"""Luminance of protected modules: as dark, as light as any scanner wants them, with the picture's hue."""
REACH = 0.03
"""No module shall be nearer to black or white than this, however much contrast is asked for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where the two variants differ: weights of luminance, and its limits, 0 to 1, for dark and light."""

    luma: tuple[float, float, float]
    dark: float
    light: float


RULES: dict[Variant, Rule] = {
    "paper": Rule((0.299, 0.587, 0.114), 0.5, 0.5),
    "code": Rule((0.2999, 0.587, 0.1114), 0.45, 0.65),
}


@dataclass(frozen=True, eq=False)
class Target:
    """What a picture shall be read as, and the picture (1, 3, H, W), 0 to 1, that it shall stay like."""

    symbol: Symbol
    module_px: int
    reference: Tensor | None = None

    @property
    def canvas_px(self) -> int:
        """Side of the symbol's picture, without the quiet zone."""
        return self.symbol.modules * self.module_px


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A picture's modules (B, n, n): error `e_k` (with gradient), mean of the centre, which are wrong.

    `misread` are those that read as the other bit; with contrast asked for, more are `wrong`.
    """

    error: Tensor
    centre: Tensor
    wrong: Tensor
    misread: Tensor

    @property
    def loss(self) -> Tensor:
        """(B,) L_SR."""
        return (self.wrong * self.error).flatten(1).mean(1)

    @property
    def share_wrong(self) -> Tensor:
        """(B,) share of the modules that read as the wrong bit."""
        return self.misread.flatten(1).mean(1)


def read(
    images: Tensor,
    light: Tensor,
    module_px: int,
    variant: Variant = "paper",
    contrast: float = 0.0,
    limits: tuple[Tensor, Tensor] | None = None,
) -> Read:
    """Compare pictures (B, 3, H, W), 0 to 1, with the modules `light` (n, n) or (B, n, n), 1 for light.

    `limits`: what dark modules may have at most and light ones at least, (B, n, n) each; the variant's where
    None. `contrast`: they are moved apart by so much, half of it each. ValueError where the picture does not
    consist of n x n modules of `module_px`.
    """
    n = light.shape[-1]
    if images.shape[-2:] != (n * module_px, n * module_px):
        height, width = images.shape[-2:]
        raise ValueError(f"{width} x {height} pixels are not {n} x {n} modules of {module_px} px")
    rule = RULES[variant]
    grey = luminance(images, rule)
    light = light.to(grey).expand(len(grey), n, n)
    darkest, lightest = limits or (torch.full_like(light, rule.dark), torch.full_like(light, rule.light))
    at_most = (darkest - contrast / 2).clamp(min=REACH)
    at_least = (lightest + contrast / 2).clamp(max=1 - REACH)
    above = 2 * (grey - _wide(at_most, module_px)).relu() * _wide(1 - light, module_px)
    below = 2 * (_wide(at_least, module_px) - grey).relu() * _wide(light, module_px)
    centre = _per_module(grey.detach(), _centre(module_px, variant))
    return Read(
        _per_module(above + below, _kernel(module_px, variant)),
        centre,
        _other_bit(centre, light, at_most, at_least),
        _other_bit(centre, light, darkest, lightest),
    )


def luminance(images: Tensor, rule: Rule = RULES["paper"]) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    return (images * images.new_tensor(rule.luma).view(3, 1, 1)).sum(1, keepdim=True)


def perceptual_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """(B,): mean over layers of the mean squared difference of features (B, C, h, w) of unit length."""
    layers = [
        (functional.normalize(a, dim=1) - functional.normalize(b, dim=1)).square().flatten(1).mean(1)
        for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(layers).mean(0)


def protect(images: Tensor, target: Target) -> Tensor:
    """Tint the function patterns of pictures (B, 3, H, W), 0 to 1, until each pixel is surely dark or light.

    Only as much black or white is mixed in as a pixel needs. Without these patterns no reader finds a symbol,
    however right its data modules are.
    """
    grey = luminance(images)
    function, dark = _enlarged(target, target.symbol.function), _enlarged(target, target.symbol.dark)
    down = (DARK_AT_MOST / grey.clamp(min=1e-6)).clamp(max=1)
    up = ((LIGHT_AT_LEAST - grey) / (1 - grey).clamp(min=1e-6)).clamp(0, 1)
    tinted = torch.where(dark.to(images.device), images * down, images + up * (1 - images))
    return torch.where(function.to(images.device), tinted, images)


def damage(wrong: Tensor, symbol: Symbol) -> list[float]:
    """Per picture the share of the error correction that its wrong data modules (B, n, n) use up."""
    return [symbol.damage(modules) for modules in wrong.detach().cpu().numpy().astype(bool)]


def light_modules(symbol: Symbol, like: Tensor) -> Tensor:
    """(n, n): 1 where a module is light, on the device and in the precision of `like`."""
    return torch.from_numpy(~symbol.dark).to(like)


@cache
def gaussian(size: int, sigma: float = 1.5) -> Tensor:
    """The code's kernel: OpenCV's Gaussian, its outer product scaled to [0, 1], small entries zero.

    For an even size OpenCV gives both middle taps the value of the middle, and so do we.
    """
    x = np.abs(np.arange(size) - (size - 1) / 2)
    if size % 2 == 0:
        x[[size // 2 - 1, size // 2]] = 0
    taps = np.exp(-(x**2) / (2 * sigma**2))
    kernel = np.outer(taps, taps)
    kernel = (kernel - kernel.min()) / (kernel.max() - kernel.min())
    kernel[kernel < 0.1] = 0
    return torch.from_numpy(kernel).float()


def _kernel(size: int, variant: Variant) -> Tensor:
    if variant == "code":
        return gaussian(size)
    return _textbook_gaussian(size)


@cache
def _textbook_gaussian(size: int) -> Tensor:
    x = torch.arange(size) - (size - 1) / 2
    taps = torch.exp(-(x**2) / (2 * max(1, (size - 1) // 5) ** 2))
    kernel = taps[:, None] * taps
    return kernel / kernel.sum()


@cache
def _centre(size: int, variant: Variant) -> Tensor:
    """Weights of the mean over a module's centre: the code's even square, the paper's middle third."""
    if variant == "code":
        half = math.ceil(size / 6)
        begin, end = max(size // 2 - half, 0), min(size // 2 + half, size)
    else:
        third = math.ceil(size / 3)
        begin = (size - third) // 2
        end = begin + third
    weights = torch.zeros(size, size)
    weights[begin:end, begin:end] = 1 / (end - begin) ** 2
    return weights


def _other_bit(centre: Tensor, light: Tensor, at_most: Tensor, at_least: Tensor) -> Tensor:
    return (1 - light) * (centre > at_most) + light * (centre < at_least)


def _wide(modules: Tensor, module_px: int) -> Tensor:
    """(B, n, n) -> (B, 1, H, W)."""
    return modules.repeat_interleave(module_px, 1).repeat_interleave(module_px, 2)[:, None]


def _per_module(images: Tensor, weights: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, n, n): the weighted sum over each module."""
    kernel = weights.to(images)[None, None]
    return functional.conv2d(images, kernel, stride=kernel.shape[-1])[:, 0]


def _enlarged(target: Target, modules: np.ndarray) -> Tensor:
    return torch.from_numpy(np.kron(modules, np.ones((target.module_px,) * 2, dtype=bool)))
