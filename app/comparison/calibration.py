"""At which scale a method does what another arm does: the curve of a sweep, and where it meets that arm."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from pydantic import BaseModel

from app.comparison.cells import Cell
from app.comparison.export import Traces
from app.comparison.results import DifferenceAnswer, told
from app.comparison.spec import Arm, Comparison
from app.comparison.stats import paired_difference
from app.scores import SCORES
from guidance import REGISTRY


class Quantity(BaseModel):
    """What can be matched: a score of the pictures, or the mean of a trace over the steps."""

    name: str
    title: str


class Point(BaseModel):
    """An arm of the sweep: its scale, and the mean over its pictures with their standard deviation."""

    arm: int
    scale: float
    mean: float
    deviation: float | None
    n: int


class AtMatch(BaseModel):
    """Another quantity at the matched scale: the sweep's method minus the target, paired by prompt and seed.

    Between two scales that were run, each picture's value is taken to lie on the line between its two.
    """

    name: str
    title: str
    difference: DifferenceAnswer


class Calibration(BaseModel):
    """The curve and `matched`, the scale at which it first meets the target; None where it does not.

    `differences`: in what else the two differ at that scale, where `of` is the same.
    """

    of: Quantity
    choices: list[Quantity]
    target: int
    mean: float
    points: list[Point]
    matched: float | None
    differences: list[AtMatch]
    text: str


class NothingToMatch(ValueError):
    """No sweep, no other arm, or no picture of it yet; the message says what would do."""


def calibration(found: Comparison, cells: Sequence[Cell], traces: Traces, of: str) -> Calibration:
    """The sweep of `found` against the first arm beside it. Raises NothingToMatch."""
    swept = sweep(found.arms)
    beside = [arm for arm in range(len(found.arms)) if arm not in swept]
    if len(swept) < 2 or not beside:
        raise NothingToMatch(
            "a calibration takes at least two arms that differ in their scale alone, and another arm to match"
        )
    target = beside[0]
    at = {
        (cell.place.prompt, cell.place.seed, cell.place.arm): _quantities(cell, traces)
        for cell in cells
        if cell.place.arm in (target, *swept)
    }
    measured = {arm: [one for place, one in at.items() if place[2] == arm] for arm in [target, *swept]}
    common = [
        name for name in _names(measured[target]) if all(name in _names(measured[arm]) for arm in swept)
    ]
    if of not in common:
        raise NothingToMatch(
            f"{of!r} was not measured in all of these arms, or their pictures are not made yet; "
            f"there is: {', '.join(common) or 'nothing'}"
        )
    titles = _titles(found)
    means = {arm: [one[of] for one in some if of in one] for arm, some in measured.items()}
    points = sorted(
        (
            Point(
                arm=arm,
                scale=found.arms[arm].guidance.model_dump()["scale"],
                mean=statistics.fmean(means[arm]),
                deviation=statistics.stdev(means[arm]) if len(means[arm]) > 1 else None,
                n=len(means[arm]),
            )
            for arm in swept
        ),
        key=lambda point: point.scale,
    )
    mean = statistics.fmean(means[target])
    meetings = crossings(points, mean)
    quantity = Quantity(name=of, title=titles.get(of, of))
    return Calibration(
        of=quantity,
        choices=[Quantity(name=name, title=titles.get(name, name)) for name in common],
        target=target,
        mean=mean,
        points=points,
        matched=meetings[0] if meetings else None,
        differences=[
            AtMatch(name=name, title=titles.get(name, name), difference=told(paired_difference(pairs)))
            for name in common
            if meetings and name != of and any(pairs := _pairs(found, at, points, meetings[0], target, name))
        ],
        text=_said(found, target, quantity, mean, points, meetings),
    )


def sweep(arms: Sequence[Arm]) -> list[int]:
    """The largest group of arms that differ in their scale alone; of equal ones the first."""
    groups: dict[str, list[int]] = {}
    for index, arm in enumerate(arms):
        if hasattr(arm.guidance, "scale"):
            same = arm.model_copy(
                update={"label": "", "guidance": arm.guidance.model_copy(update={"scale": 0})}
            )
            groups.setdefault(same.model_dump_json(), []).append(index)
    return max(groups.values(), key=len, default=[])


def crossings(points: Sequence[Point], value: float) -> list[float]:
    """The scales at which the line through `points`, sorted by scale, has this value."""
    found = [points[0].scale] if points[0].mean == value else []
    for left, right in pairwise(points):
        if (left.mean - value) * (right.mean - value) < 0 or right.mean == value:
            share = (value - left.mean) / (right.mean - left.mean) if right.mean != left.mean else 1.0
            found.append(left.scale + share * (right.scale - left.scale))
    return found


def _pairs(
    found: Comparison,
    at: Mapping[tuple[int, int, int], Mapping[str, float]],
    points: Sequence[Point],
    scale: float,
    target: int,
    name: str,
) -> list[list[float]]:
    """Prompt by prompt and seed by seed, what `name` is at `scale` on the line between the scales run, minus
    what it is in the target."""
    left, right = next(pair for pair in pairwise(points) if pair[0].scale <= scale <= pair[1].scale)
    width = right.scale - left.scale
    share = (scale - left.scale) / width if width else 0.0
    pairs = list[list[float]]()
    for prompt in range(len(found.prompts)):
        row = list[float]()
        for seed in range(len(found.seeds)):
            low, high, other = (
                at.get((prompt, seed, arm), {}).get(name) for arm in (left.arm, right.arm, target)
            )
            if low is not None and high is not None and other is not None:
                row.append((1 - share) * low + share * high - other)
        pairs.append(row)
    return pairs


def _said(
    found: Comparison, target: int, of: Quantity, mean: float, points: list[Point], meetings: list[float]
) -> str:
    method = REGISTRY[found.arms[points[0].arm].guidance.method].title
    label = found.arms[target].label
    head = f"{of.title} of {label} is {mean:.3g}"
    if len(meetings) == 1:
        return f"{head}; {method} has as much at scale {meetings[0]:.3g}."
    if meetings:
        scales = ", ".join(f"{scale:.3g}" for scale in meetings)
        return f"{head}; {method} has as much at several scales ({scales}), of which the smallest is taken."
    near = min(points, key=lambda point: abs(point.mean - mean))
    return (
        f"{head}; {method} does not reach it at scales {points[0].scale:g} to {points[-1].scale:g}: "
        f"nearest is {near.mean:.3g} at {near.scale:g}. Sweep a wider range."
    )


def _quantities(cell: Cell, traces: Traces) -> dict[str, float]:
    rows = traces.get(cell.place.index, [])
    names = dict.fromkeys(name for row in rows for name in row if name not in ("step", "sigma"))
    columns = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return cell.metrics | {name: statistics.fmean(values) for name, values in columns.items() if values}


def _names(some: Sequence[dict[str, float]]) -> dict[str, None]:
    return dict.fromkeys(name for one in some for name in one)


def _titles(found: Comparison) -> dict[str, str]:
    traced = {
        name: f"Mean {name.replace('_', ' ')}"
        for arm in found.arms
        for name in REGISTRY[arm.guidance.method].traces
    }
    return traced | {name: score.title for name, score in SCORES.items()}
