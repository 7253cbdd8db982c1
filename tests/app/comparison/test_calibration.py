"""The scale at which a sweep matches another arm, on cells whose scores follow a known line."""

from __future__ import annotations

import pytest

from app.comparison.calibration import Calibration, NothingToMatch, Point, calibration, crossings
from app.comparison.cells import Cell
from app.comparison.spec import Comparison, ComparisonSpec, plan
from app.jobs import JobStatus
from tests.app.comparison.made import CATALOGUE, SETTINGS, record, result


def swept(*scales: float) -> Comparison:
    arms = [{"label": "APG", "guidance": {"method": "apg", "scale": 12}}]
    arms += [{"label": f"CFG {scale:g}", "guidance": {"method": "cfg", "scale": scale}} for scale in scales]
    asked = {"model": "toy", "prompts": ["high", "low"], "seeds": [1], "arms": arms, "steps": 4}
    return plan(ComparisonSpec.model_validate(asked), CATALOGUE, SETTINGS, 0)


def calibrated(found: Comparison, target: float, of: str = "saturation") -> Calibration:
    """Saturation is a tenth of CFG's scale, and `target` for APG; the norm is ten times as much."""
    cells, traces = list[Cell](), dict[int, list[dict[str, float]]]()
    for place in found.places:
        scale = found.arms[place.arm].guidance.model_dump()["scale"]
        value = scale / 10 if place.arm else target
        done = {"status": JobStatus.SUCCEEDED, "result": result(place.index, 8, {"saturation": value})}
        cells.append(Cell(place, record(found, place.index).model_copy(update=done)))
        traces[place.index] = [
            {"step": 0, "guidance_norm": 9 * value},
            {"step": 1, "guidance_norm": 11 * value},
        ]
    return calibration(found, cells, traces, of)


@pytest.mark.parametrize(("of", "mean"), [("saturation", 0.35), ("guidance_norm", 3.5)])
def test_the_matched_scale_lies_between_those_that_were_run(of: str, mean: float) -> None:
    told = calibrated(swept(6, 2, 4), 0.35, of)
    assert told.matched == pytest.approx(3.5)
    assert told.mean == pytest.approx(mean)
    assert [point.scale for point in told.points] == [2, 4, 6]
    assert [point.n for point in told.points] == [2, 2, 2]
    assert {choice.name for choice in told.choices} == {"saturation", "guidance_norm"}
    assert "at scale 3.5" in told.text


def test_at_the_matched_scale_the_other_quantities_are_compared() -> None:
    """Of equal saturation; the norm is ten times the scale's in the sweep, and three more in the target."""
    found = swept(2, 4, 6)
    cells, traces = list[Cell](), dict[int, list[dict[str, float]]]()
    for place in found.places:
        scale = found.arms[place.arm].guidance.model_dump()["scale"]
        value = scale / 10 + 0.1 * place.prompt if place.arm else 0.5 + 0.1 * place.prompt
        done = {"status": JobStatus.SUCCEEDED, "result": result(place.index, 8, {"saturation": value})}
        cells.append(Cell(place, record(found, place.index).model_copy(update=done)))
        traces[place.index] = [{"step": 0, "guidance_norm": 10 * value + (0 if place.arm else 3)}]
    told = calibration(found, cells, traces, "saturation")
    assert told.matched == pytest.approx(5)
    (norm,) = told.differences
    assert (norm.name, norm.difference.over, norm.difference.n) == ("guidance_norm", "prompts", 2)
    assert norm.difference.mean == pytest.approx(-3)
    assert norm.difference.clear
    assert calibrated(swept(2, 4), 0.9).differences == []


def test_what_the_sweep_does_not_reach_is_said() -> None:
    told = calibrated(swept(2, 4), 0.9)
    assert told.matched is None
    assert "nearest is 0.4 at 4. Sweep a wider range" in told.text


def test_a_curve_may_meet_its_target_twice_or_exactly() -> None:
    points = [Point(arm=i, scale=i, mean=mean, deviation=None, n=1) for i, mean in enumerate((0.0, 2.0, 0.0))]
    assert crossings(points, 1.0) == [0.5, 1.5]
    assert crossings(points, 2.0) == [1.0]
    assert crossings(points, 0.0) == [0.0, 2.0]


def test_it_takes_a_sweep_and_something_to_match() -> None:
    with pytest.raises(NothingToMatch, match="at least two arms"):
        calibrated(swept(2), 0.5)
    with pytest.raises(NothingToMatch, match="there is: saturation, guidance_norm"):
        calibrated(swept(2, 4), 0.5, "clip")
