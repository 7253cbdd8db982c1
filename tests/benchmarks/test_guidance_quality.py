from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.guidance_quality import CELLS, Kept, asked
from benchmarks.quality_plots import curves
from benchmarks.quality_report import ORDERINGS, Against, Made, Seen, report
from guidance import REGISTRY

ROWS: list[dict[str, Any]] = [
    {"name": name, "style": style, "subgroup": group}
    for group, names in {"heart": ["Red heart", "blue heart"], "animal": ["owl", "ant", "cat"]}.items()
    for name in names
    for style in ("3d", "flat")
]


def unit(count: int, shift: float, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 6)) + shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made(count: int, shift: float = 0.0, **changes: float) -> Made:
    values = {"clip": 0.3, "right": 0.5, "nfe": 20.0, "seconds": 1.0, "saturation": 0.4, "contrast": 0.2}
    noise = 0.01 * np.random.default_rng(1).normal(size=count)
    rows = {name: np.full(count, value) + noise for name, value in (values | changes).items()}
    return Made(features=unit(count, shift, 2), **rows)


def test_cells_and_orderings_name_what_there_is() -> None:
    for cell in CELLS.values():
        REGISTRY[cell.guidance["method"]].model_validate(cell.guidance)
    for one in ORDERINGS:
        assert {one.first, one.second} <= set(CELLS)
    for cells in curves({label: {} for label in CELLS}).values():
        assert list(cells) == [1, 2, 4, 8, 16]


def test_image_i_is_asked_for_alike_however_many_there_are() -> None:
    few, many = asked(ROWS, 4), asked(ROWS, 12)
    assert many[:4] == few
    assert len({one.prompt for one in many}) == 6, "two of each before any comes again"
    assert all(one.prompt == two.prompt for one, two in zip(many[::2], many[1::2], strict=True))
    for one in many:
        assert one.prompt not in one.rivals
        own = {"heart": "heart", "animal": ""}[one.subgroup]
        assert all(own in rival for rival in one.rivals)


def test_distances_tell_near_from_far_and_kid_needs_no_many_images() -> None:
    real = unit(300, 0.0, 5)
    near, far = Against(unit(200, 0.0, 6), real), Against(unit(200, 1.5, 7), real)
    assert abs(near.kid()) < 0.1 * far.kid()
    assert near.fd < 0.1 * far.fd
    assert near.precision.mean() > 0.9
    assert near.recall.mean() > 0.9
    assert far.recall.mean() < 0.3
    small = np.mean([Against(unit(20, 0.0, seed), real).kid() for seed in range(40)])
    assert abs(small) < 0.05 * far.kid()


def test_verdicts_follow_from_intervals_and_the_page_has_them(tmp_path: Path) -> None:
    cells = {label: made(40) for label in CELLS}
    cells["cfg 1"] = made(48, 1.5, right=0.2)  # more images than the others have
    cells["cfg 16"] = made(40, saturation=0.3)  # less than at 2: not what the paper says
    real = Seen(unit(200, 0.0, 5), saturation=np.full(200, 0.25), contrast=np.full(200, 0.1))
    told = json.loads(json.dumps(report(cells, real, {"steps": 10}, tmp_path)))
    verdicts = {one["claim"]: one["verdict"] for one in told["orderings"]}
    assert told["images_per_cell"] == 40
    assert verdicts["CFG raises class precision"] == "reproduced"
    assert verdicts["much CFG saturates"] == "not reproduced"
    assert verdicts["CFG++ has the higher CLIP score"] == "undecided"
    assert verdicts["GFCG is nearer to real pictures than none"] == "reproduced"
    assert told["table"]["cfg 1"]["class precision"] == pytest.approx(0.2, abs=0.01)
    page = (tmp_path / "guidance_quality.md").read_text()
    assert "| much CFG saturates | [2410.02416](https://arxiv.org/abs/2410.02416) | saturation |" in page
    assert "| *real pictures* |" in page
    assert {path.name for path in tmp_path.glob("*.png")} == {"guidance_quality.png", "guidance_scales.png"}


def test_more_images_are_put_after_the_first() -> None:
    both = made(3).with_more(made(2, clip=0.9))
    assert both.count == 5
    assert both.first(3).clip == pytest.approx(made(3).clip)
    assert both.clip[3:].min() > 0.8


def test_two_images_of_a_prompt_are_held_against_each_other() -> None:
    one = made(4)
    same = np.repeat(one.features[:2], 2, axis=0)
    assert Made(**{**vars(one), "features": same}).diversity == pytest.approx([0, 0])
    assert one.diversity == pytest.approx(1 - (one.features[[0, 2]] * one.features[[1, 3]]).sum(1))


def test_what_is_made_is_kept_per_cell_and_not_mixed_with_another_setting(tmp_path: Path) -> None:
    kept = Kept(tmp_path, steps=10)
    assert kept.read("cfg 2") is None
    kept.add("cfg 2", made(3))
    kept.add("cfg 2", made(2, clip=0.9))
    again = Kept(tmp_path, steps=10).read("cfg 2")
    assert again is not None
    assert again.count == 5
    assert kept.read("cfg 4") is None
    with pytest.raises(ValueError, match="another setting"):
        Kept(tmp_path, steps=12).read("cfg 2")
