from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.guidance_quality import CELLS, asked
from benchmarks.quality_report import ORDERINGS, Against, Made, report
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
    for values in CELLS.values():
        REGISTRY[values["method"]].model_validate(values)
    for one in ORDERINGS:
        assert {one.first, one.second} <= set(CELLS)


def test_image_i_is_asked_for_alike_however_many_there_are() -> None:
    few, many = asked(ROWS, 4), asked(ROWS, 12)
    assert many[:4] == few
    assert len({one.prompt for one in many[:10]}) == 10, "each once before any comes again"
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
    cells["none"] = made(48, 1.5, right=0.2)  # more images than the others have
    cells["cfg 8"] = made(40, saturation=0.3)  # less than at 2: not what the paper says
    told = json.loads(
        json.dumps(report(cells, unit(200, 0.0, 5), {"steps": 10, "sampler": "ddim"}, tmp_path))
    )
    verdicts = {one["claim"]: one["verdict"] for one in told["orderings"]}
    assert told["images_per_cell"] == 40
    assert verdicts["CFG raises class precision"] == "reproduced"
    assert verdicts["much CFG saturates"] == "not reproduced"
    assert verdicts["CFG++ has the higher CLIP score"] == "undecided"
    assert verdicts["GFCG is nearer to real pictures than none"] == "reproduced"
    assert told["table"]["none"]["class precision"] == pytest.approx(0.2, abs=0.01)
    page = (tmp_path / "guidance_quality.md").read_text()
    assert "| much CFG saturates | [2410.02416](https://arxiv.org/abs/2410.02416) | saturation |" in page
    assert (tmp_path / "guidance_quality.png").is_file()


def test_more_images_are_put_after_the_first() -> None:
    both = made(3).with_more(made(2, clip=0.9))
    assert both.count == 5
    assert both.first(3).clip == pytest.approx(made(3).clip)
    assert both.clip[3:].min() > 0.8
