"""What can be said of an arm's pictures as a set: how varied they are, how far they are from the baseline's.

It is measured in features that workers kept beside the pictures, by metric: CLIP's, and LPIPS'.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from app.comparison.cells import Cell
from app.comparison.results import DifferenceAnswer, ScorerAnswer, scorers_of, told
from app.comparison.sets import frechet, kernel_distance, spread
from app.comparison.spec import Comparison
from app.comparison.stats import paired_difference

Seen = Mapping[str, Mapping[int, NDArray[Any]]]
"""Metric -> cell index -> the features of the cell's picture (D,)."""


@dataclass(frozen=True, slots=True)
class Space:
    """Features to compare in. A distance is `share` of the squared Euclidean one."""

    title: str
    unit: str
    share: float
    sets: bool
    """Whether KID and FD mean something in it."""


SPACES = {
    "clip": Space("CLIP features", "1 - cosine, 0 to 2", 0.5, sets=True),
    "lpips": Space("LPIPS", "LPIPS 0.1 with AlexNet, at 64 x 64", 1.0, sets=False),
}
"""Metric whose features are compared -> how."""
KID_LEAST = 50
"""Pairs of pictures below which KID is not told: its interval would be wider than what it finds."""
FD_LEAST = 2
"""Pairs per dimension of the features below which FD is not told: its bias would be larger than it."""


class ArmSpread(BaseModel):
    """One arm: the mean distance of two pictures of one prompt, over prompts with two seeds or more."""

    pictures: int
    prompts: int
    diversity: float | None


class ArmApart(BaseModel):
    """An arm against the baseline, over the `pairs` of pictures with the same prompt and seed.

    `moved`: their mean distance. `kid` (with a 95 % interval) and `fd` compare the two as sets, and are
    None below `least`.
    """

    pairs: int
    moved: float | None
    kid: float | None = None
    kid_low: float | None = None
    kid_high: float | None = None
    fd: float | None = None


class Least(BaseModel):
    """How many pairs of pictures KID and FD take at least."""

    kid: int
    fd: int


class SpaceResult(BaseModel):
    """All of it in one kind of features; `unavailable` says why there is nothing."""

    name: str
    title: str
    unit: str
    scorer: ScorerAnswer | None = None
    unavailable: str | None = None
    least: Least | None = None
    arms: list[ArmSpread] = []
    differences: list[DifferenceAnswer | None] = []
    """Of diversity: arm minus baseline, paired by prompt."""
    apart: list[ArmApart | None] = []
    """None for the baseline."""
    notes: list[str] = []


class Distribution(BaseModel):
    """What can be said of the arms' pictures as sets, by kind of features."""

    spaces: list[SpaceResult]


def distribution(found: Comparison, cells: Sequence[Cell], seen: Seen) -> Distribution:
    """All that can be said now."""
    return Distribution(
        spaces=[_space(found, cells, name, space, seen.get(name, {})) for name, space in SPACES.items()]
    )


def _space(
    found: Comparison, cells: Sequence[Cell], name: str, space: Space, seen: Mapping[int, NDArray[Any]]
) -> SpaceResult:
    result = SpaceResult(name=name, title=space.title, unit=space.unit)
    scorers = scorers_of(cells, name)
    if (reason := _unavailable(found, cells, name, scorers, seen)) is not None:
        return result.model_copy(update={"unavailable": reason})
    at = {(one.place.prompt, one.place.seed, one.place.arm): seen.get(one.place.index) for one in cells}
    spreads = [_spreads(found, space, at, arm) for arm in range(len(found.arms))]
    dimensions = next(iter(seen.values())).size
    least = Least(kid=KID_LEAST, fd=max(KID_LEAST, FD_LEAST * dimensions)) if space.sets else None
    apart = [_apart(found, space, at, arm, least) if arm else None for arm in range(len(found.arms))]
    return SpaceResult(
        name=name,
        title=space.title,
        unit=space.unit,
        scorer=scorers[0],
        least=least,
        arms=[
            ArmSpread(
                pictures=sum(at[place] is not None for place in at if place[2] == arm),
                prompts=len(spreads[arm]),
                diversity=statistics.fmean(spreads[arm].values()) if spreads[arm] else None,
            )
            for arm in range(len(found.arms))
        ],
        differences=[_difference(spreads[arm], spreads[0]) if arm else None for arm in range(len(spreads))],
        apart=apart,
        notes=list(_notes(least, [one for one in apart if one is not None], spreads)),
    )


At = Mapping[tuple[int, int, int], NDArray[Any] | None]
"""(prompt, seed, arm) -> features."""


def _unavailable(
    found: Comparison,
    cells: Sequence[Cell],
    name: str,
    scorers: Sequence[ScorerAnswer],
    seen: Mapping[int, NDArray[Any]],
) -> str | None:
    """Why there is nothing to tell, for a person; None where there is."""
    if len(scorers) > 1:
        names = ", ".join(f"{one.name} {one.sha256[:8]}" for one in scorers)
        return f"the workers have different models for it ({names}): distances between them mean nothing"
    if seen and scorers:
        return None
    results = [cell.record.result for cell in cells if cell.record and cell.record.result]
    head = f"metric {name!r} is unavailable: "
    warnings = [text.removeprefix(head) for one in results for text in one.warnings if text.startswith(head)]
    if warnings:
        return warnings[0]
    if name not in found.shared.metrics:
        return f"not measured: ask for the metric {name!r}"
    return "no features are kept for these pictures" if results else "no picture is made yet"


def _spreads(found: Comparison, space: Space, at: At, arm: int) -> dict[int, float]:
    """Prompt -> the mean distance of two of the arm's pictures of it."""
    spreads = dict[int, float]()
    for prompt in range(len(found.prompts)):
        rows = [one for seed in range(len(found.seeds)) if (one := at.get((prompt, seed, arm))) is not None]
        if len(rows) > 1:
            spreads[prompt] = space.share * spread(np.stack(rows))
    return spreads


def _difference(spreads: Mapping[int, float], baseline: Mapping[int, float]) -> DifferenceAnswer | None:
    pairs = [[spreads[prompt] - baseline[prompt]] for prompt in spreads if prompt in baseline]
    return told(replace(paired_difference(pairs), over="prompts")) if pairs else None


def _apart(found: Comparison, space: Space, at: At, arm: int, least: Least | None) -> ArmApart:
    pairs = [
        (prompt, mine, other)
        for prompt in range(len(found.prompts))
        for seed in range(len(found.seeds))
        if (mine := at.get((prompt, seed, arm))) is not None
        and (other := at.get((prompt, seed, 0))) is not None
    ]
    far = [float(np.square(mine.astype(float) - other.astype(float)).sum()) for _, mine, other in pairs]
    answer = ArmApart(pairs=len(pairs), moved=space.share * statistics.fmean(far) if far else None)
    if least is None or len(pairs) < least.kid:
        return answer
    mine, other = (np.stack([pair[side] for pair in pairs]).astype(float) for side in (1, 2))
    kid = kernel_distance(mine, other, np.array([prompt for prompt, _, _ in pairs]))
    answer = answer.model_copy(update={"kid": kid.value, "kid_low": kid.low, "kid_high": kid.high})
    return answer if len(pairs) < least.fd else answer.model_copy(update={"fd": frechet(mine, other)})


def _notes(
    least: Least | None, apart: Sequence[ArmApart], spreads: Sequence[Mapping[int, float]]
) -> Iterator[str]:
    """What a reader of the numbers should know."""
    if not any(spreads):
        yield "Diversity takes two seeds of a prompt or more."
    if least is None or not apart:
        return
    pairs = min(one.pairs for one in apart)
    if pairs < least.fd:
        also = f"KID from {least.kid} pairs of pictures on, " if pairs < least.kid else ""
        yield f"There is {also}FD from {least.fd} pairs on; there are {pairs}."
    if pairs >= least.kid:
        yield "KID and FD compare an arm with the baseline, not with real pictures: smaller is not better."
