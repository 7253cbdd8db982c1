"""What the ControlNet is shown."""

from __future__ import annotations

import torch

from training import controlnet
from training.controlnet import CELL_PX, View

CONFIG = {"modules": [8, 21], "canvas_px": [168, 200], "crop_px": 96, "latest": 0.65}


def test_a_square_of_the_canvas_is_a_latent() -> None:
    for view in controlnet.views(CONFIG, 64):
        if view.canvas_px > 64:
            assert view.squares * CELL_PX == view.side_px
            assert (view.canvas_px - view.side_px) % CELL_PX == 0


def test_larger_views_come_in_smaller_batches() -> None:
    for view in controlnet.views(CONFIG, 64):
        assert round(view.share * view.side_px**2) == 64**2


def test_a_blend_moves_every_square_towards_its_bit() -> None:
    picture = torch.rand(4, 3, 64, 64) * 2 - 1
    pattern = torch.randint(2, (4, 1, 64, 64)).float()
    moved = controlnet.blend(picture, pattern, 0.25, 0.6) - picture
    assert (moved[pattern.expand_as(moved) == 1] >= 0).all()
    assert (moved[pattern.expand_as(moved) == 0] <= 0).all()
    assert moved.abs().max() > 0.25


def test_bits_follow_brightness_or_chance() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(200, 3, 64, 64)
    grid = controlnet.bits(ramp, 8)
    assert set(grid.unique().tolist()) == {0.0, 1.0}
    own = (grid == (torch.arange(8) >= 4).float()).flatten(1).all(1).float().mean()
    assert 0.2 < own < 0.4


def test_a_crop_lies_on_the_grid() -> None:
    squares = torch.randint(2, (1, 1, 21, 21)).float() * 2 - 1
    canvas = squares.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(1, 3, 168, 168)
    cut = controlnet.crop(canvas, View(168, 96, 12, 0.4, 0.65))
    middles = cut[:, :1, 4::8, 4::8]
    assert middles.shape == (1, 1, 12, 12)
    assert any(
        torch.equal(middles.sign(), squares[..., top : top + 12, left : left + 12])
        for top in range(10)
        for left in range(10)
    )
