"""Arms as sets of pictures, on features that are known."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from app.comparison.cells import Cell
from app.comparison.distribution import KID_LEAST, SpaceResult, distribution
from app.comparison.report import report
from app.comparison.spec import Comparison
from app.storage.arrays import array_bytes, array_of
from tests.app.comparison.made import PNG, comparison, made

SCORER = {"name": "emoji/scorer", "sha256": "ab" * 32}


def scored(found: Comparison, warning: str = "", *others: str) -> list[Cell]:
    """Cells whose workers say which model saw the pictures, or why none did."""
    cells = made(found)
    for number, cell in enumerate(cells):
        assert cell.record is not None
        assert cell.record.result is not None
        sha256 = [SCORER["sha256"], *others][number % (1 + len(others))]
        cell.record.result.ran = {} if warning else {"scorers": {"clip": SCORER | {"sha256": sha256}}}
        cell.record.result.warnings = [warning] if warning else []
    return cells


def asked(prompts: int, seeds: int, *metrics: str, arms: int = 2) -> Comparison:
    found = comparison([f"prompt {n}" for n in range(prompts)], list(range(seeds)), arms)
    return found.model_copy(update={"shared": found.shared.model_copy(update={"metrics": list(metrics)})})


def clip(found: Comparison, cells: list[Cell], seen: dict[int, np.ndarray]) -> SpaceResult:
    (space,) = (one for one in distribution(found, cells, {"clip": seen}).spaces if one.name == "clip")
    return space


def turned(found: Comparison, *degrees: float) -> dict[int, np.ndarray]:
    """Two dimensions: a picture lies at its seed's number of times its arm's degrees."""
    angles = {place.index: np.deg2rad(place.seed * degrees[place.arm]) for place in found.places}
    return {index: np.array([np.cos(a), np.sin(a)], np.float32) for index, a in angles.items()}


def test_diversity_is_told_of_each_arm_and_as_a_difference_to_the_first() -> None:
    found = asked(3, 2, "clip")
    told = clip(found, scored(found), turned(found, 60, 90))
    assert [one.diversity for one in told.arms] == pytest.approx([0.5, 1.0], abs=1e-6)
    assert [(one.pictures, one.prompts) for one in told.arms] == [(6, 3), (6, 3)]
    difference = told.differences[1]
    assert difference is not None
    assert (difference.mean, difference.n, difference.over) == (pytest.approx(0.5, abs=1e-6), 3, "prompts")
    assert difference.clear
    assert told.differences[0] is told.apart[0] is None
    apart = told.apart[1]
    assert apart is not None
    assert apart.moved == pytest.approx((1 - np.cos(np.deg2rad(30))) / 2, abs=1e-6)  # of seed 1 alone
    assert (apart.pairs, apart.kid, apart.fd) == (6, None, None)
    assert told.scorer is not None
    assert told.scorer.model_dump() == SCORER
    assert told.notes == ["There is KID from 50 pairs of pictures on, FD from 50 pairs on; there are 6."]


def test_sets_are_compared_from_the_stated_size_on() -> None:
    found = asked(KID_LEAST // 2, 2, "clip", arms=3)
    chance = np.random.default_rng(0)
    seen = {
        place.index: chance.normal(size=30) + (place.arm == 1) * np.eye(30)[0] * 5 for place in found.places
    }
    cells = scored(found)
    told = clip(found, cells, seen)
    assert told.least is not None
    assert (told.least.kid, told.least.fd) == (50, 60)
    moved, alike = told.apart[1:]
    assert moved is not None
    assert alike is not None
    assert moved.kid is not None
    assert moved.kid_low is not None
    assert alike.kid is not None
    assert moved.kid_low > 0
    assert abs(alike.kid) < moved.kid / 10
    assert moved.fd is alike.fd is None
    assert "FD from 60 pairs on; there are 50" in told.notes[0]
    fewer = {index: row for index, row in seen.items() if index != 1}
    short = clip(found, cells, fewer).apart[1]
    assert short is not None
    assert (short.pairs, short.kid) == (49, None)
    narrow = {index: row[:20] for index, row in seen.items()}
    both = clip(found, cells, narrow).apart[1:]
    assert [one.fd for one in both if one] == [pytest.approx(25, abs=8), pytest.approx(0, abs=15)]


@pytest.mark.parametrize(
    ("metrics", "warning", "said"),
    [
        (["basic"], "", "not measured: ask for the metric 'clip'"),
        (["clip"], "", "no features are kept for these pictures"),
        (
            ["clip"],
            "metric 'clip' is unavailable: weights not installed: the model",
            "weights not installed: the",
        ),
    ],
)
def test_what_is_not_there_says_why(metrics: list[str], warning: str, said: str) -> None:
    found = asked(1, 2, *metrics)
    told = clip(found, scored(found, warning), {})
    assert told.unavailable is not None
    assert told.unavailable.startswith(said)
    assert told.arms == []
    assert clip(found, [Cell(place, None) for place in found.places], {}).unavailable is not None


def test_models_that_differ_are_not_compared() -> None:
    found = asked(1, 2, "clip")
    told = clip(found, scored(found, "", "cd" * 32), turned(found, 10, 20))
    assert told.unavailable is not None
    assert "different models" in told.unavailable
    assert "emoji/scorer abababab, emoji/scorer cdcdcdcd" in told.unavailable


def test_lpips_has_distances_and_no_distribution() -> None:
    found = asked(2, 2, "lpips")
    cells = made(found)
    for cell in cells:
        assert cell.record is not None
        assert cell.record.result is not None
        cell.record.result.ran = {"scorers": {"lpips": SCORER}}
    seen = {index: row.astype(np.float16) for index, row in turned(found, 60, 90).items()}
    (told,) = (one for one in distribution(found, cells, {"lpips": seen}).spaces if one.name == "lpips")
    assert [one.diversity for one in told.arms] == pytest.approx([1.0, 2.0], abs=1e-2)
    assert told.least is None
    assert told.notes == []


def test_the_report_shows_what_was_asked_for() -> None:
    found = asked(3, 2, "clip", "lpips")
    told = report(found, scored(found), [], {0: PNG}, {"clip": turned(found, 60, 90)})
    assert "The pictures as sets: CLIP features" in told
    assert "<td>0.5</td><td>1</td>" in told
    assert "By emoji/scorer, SHA-256 abababababababab" in told
    assert "unavailable: no features are kept" in told  # LPIPS
    plain = report(asked(1, 1, "basic"), made(asked(1, 1, "basic")), [], {}, {})
    assert "as sets" not in plain


def test_features_travel_as_arrays_and_execute_nothing() -> None:
    row = np.arange(4, dtype=np.float16)
    assert array_of(array_bytes(row)).tolist() == [0, 1, 2, 3]
    out = BytesIO()
    np.save(out, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        array_of(out.getvalue())
