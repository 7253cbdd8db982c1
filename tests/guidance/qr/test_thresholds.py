"""What separates dark from light around a module."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from guidance.qr.scanning import Target, light_modules, read
from guidance.qr.symbol import encode
from guidance.qr.thresholds import local

SYMBOL = encode("https://lodestar.dev", 3)
LIGHT = light_modules(SYMBOL, torch.zeros(1))
INNER = (slice(10, 18), slice(10, 18))
"""Far from the finders, whose black and white readers would compare with."""


def drawn(dark: float, light: float, module_px: int = 8) -> Tensor:
    grey = dark + (light - dark) * LIGHT
    return grey.repeat_interleave(module_px, 0).repeat_interleave(module_px, 1).expand(1, 3, -1, -1)


@pytest.mark.parametrize("module_px", [7, 8, 16])
@pytest.mark.parametrize(("dark", "light"), [(0.6, 0.9), (0.1, 0.4), (0.0, 1.0)])
def test_a_symbol_of_any_two_shades_reads_right(dark: float, light: float, module_px: int) -> None:
    """Where a half reads all of it as one colour."""
    image = drawn(dark, light, module_px)
    limits = local(image, Target(SYMBOL, module_px))
    assert limits[0].shape == limits[1].shape == (1, 29, 29)
    found = read(image, LIGHT, module_px, limits=limits)
    assert not found.misread[0][INNER].any()
    assert bool((found.wrong == found.misread).all())
    if dark > 0.5 or light < 0.5:
        assert read(image, LIGHT, module_px).misread[0][INNER].float().mean() > 0.4


def test_contrast_is_asked_for_on_both_sides() -> None:
    image = drawn(0.45, 0.65)
    limits = local(image, Target(SYMBOL, 8))
    more = read(image, LIGHT, 8, contrast=0.5, limits=limits)
    assert more.wrong[0][INNER].mean() > 0.9
    assert not more.misread[0][INNER].any()
    assert more.loss > 0


def test_a_flat_area_takes_the_threshold_of_what_is_around_it() -> None:
    image = drawn(0.3, 0.9).clone()
    image[..., 11 * 8 : 18 * 8, 11 * 8 : 18 * 8] = 0.3
    least, most = local(image, Target(SYMBOL, 8))
    assert (least[0, 14, 14] > 0.35, most[0, 14, 14] < 0.85) == (True, True)


def test_thresholds_carry_no_gradient_and_pictures_do_not_mix() -> None:
    one, other = drawn(0.3, 0.9).clone().requires_grad_(), drawn(0.1, 0.6)
    both = local(torch.cat([one, other]), Target(SYMBOL, 8))
    assert not both[0].requires_grad
    for alone, row in ((one, 0), (other, 1)):
        assert torch.allclose(local(alone, Target(SYMBOL, 8))[1][0], both[1][row])
