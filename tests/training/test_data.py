from __future__ import annotations

import json

import pytest
import torch

from training.data import COLOUR_NAMES, COLOURS, Backgrounds, Pictures, composite, draw_colours, read_rows

STILL = {"scale": [1.0, 1.0], "shift": 0.0, "flip": 0.0}


@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_the_background_has_the_named_colour(pixels, name):
    source = Backgrounds(pixels, STILL, 0, torch.zeros(len(pixels), dtype=torch.bool))
    colour = torch.full((len(pixels),), COLOUR_NAMES.index(name))
    picture = source.place(torch.arange(len(pixels)), colour)
    corner = (picture[0, :, 0, 0] + 1) * 127.5
    assert torch.allclose(corner, torch.tensor(COLOURS[name]).float(), atol=1e-3)
    centre = (picture[0, :, 32, 32] + 1) * 127.5
    assert torch.allclose(centre, torch.tensor([255.0, 0.0, 0.0]), atol=1e-3)


def test_scale_shrinks_shift_moves_and_flip_mirrors(pixels):
    many, white = len(pixels), torch.full((len(pixels), 3), 255.0)
    none, still = torch.zeros(many, dtype=torch.bool), torch.zeros(many, 2)

    def mass(**changed):
        given = {"scale": torch.ones(many), "shift": still, "flip": none} | changed
        ink = composite(pixels, white, **given)[0, 1] < 0
        return ink, int(ink.sum())

    assert mass(scale=torch.full((many,), 0.5))[1] == mass()[1] // 4
    right = mass(shift=still + torch.tensor([0.25, 0.0]))[0]
    assert right[:, 48].any()
    assert not right[:, 16].any()
    mirrored = mass(shift=still + torch.tensor([0.25, 0.0]), flip=~none)[0]
    assert torch.equal(mirrored, right)  # the picture turns in place, the shift stays


def test_white_has_its_share():
    colour = draw_colours(torch.rand(10_000, generator=torch.Generator().manual_seed(0)))
    share = (colour == 0).float().mean()
    assert 0.32 < share < 0.38
    assert set(colour.tolist()) == set(range(len(COLOUR_NAMES)))


def test_sided_pictures_are_not_mirrored(pixels, rows):
    named = [row | {"name": name} for row, name in zip(rows, ["left speech bubble", "tiger"], strict=False)]
    assert Pictures(pixels[:2], named).flips.tolist() == [False, True]


def test_two_renderings_of_one_drawing_are_one_style(tmp_path, rows):
    told = [rows[0] | {"style": style} for style in ("3d", "fluent", "flat", "noto")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, told)))
    assert [row["style"] for row in read_rows(tmp_path, [], False)] == ["3d", "3d", "flat", "noto"]
