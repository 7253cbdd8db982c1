"""What a comparison says: means, paired differences, cost, votes. For the API, the page and the report."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Sequence

from pydantic import BaseModel

from app.comparison.cells import Cell, metric_names
from app.comparison.spec import Comparison
from app.comparison.stats import Difference, paired_difference
from app.comparison.store import Vote
from app.comparison.votes import VoteResult, vote_result
from app.scores import SCORES, Better

FEW_UNITS = 10
"""Below so many prompts (or seeds) a bootstrap interval is too narrow, which is said."""


class ArmMean(BaseModel):
    """One metric in one arm: over its `n` pictures, each prompt counting alike; `low` and `high` as in a
    difference."""

    mean: float | None
    low: float | None
    high: float | None
    deviation: float | None
    n: int


class DifferenceAnswer(BaseModel):
    """Arm minus baseline: the mean of paired differences, its interval, and a word on it."""

    mean: float
    low: float | None
    high: float | None
    n: int
    over: str
    clear: bool
    text: str


class ScorerAnswer(BaseModel):
    """The model behind a score, and the hash of its weights: another one gives other numbers."""

    name: str
    sha256: str


class MetricResult(BaseModel):
    """One metric over all arms; `differences` is None for the baseline and where there is no pair.

    `scorers`: the models behind it, one where all workers have the same; none for plain statistics.
    """

    name: str
    title: str
    unit: str
    better: Better | None
    scorers: list[ScorerAnswer]
    arms: list[ArmMean]
    differences: list[DifferenceAnswer | None]


class ArmCost(BaseModel):
    """Network evaluations per picture (the different values found), and seconds of denoising."""

    nfe: list[int]
    seconds: float | None


class Results(BaseModel):
    """All of it."""

    metrics: list[MetricResult]
    cost: list[ArmCost]
    compute_matched: bool
    nfe_shared: int
    """Network evaluations that were made for one picture and served others too."""
    notes: list[str]
    votes: VoteResult


def results(found: Comparison, cells: Sequence[Cell], votes: Sequence[Vote]) -> Results:
    """Everything that can be said of a comparison now."""
    metrics = [metric_result(found, cells, name) for name in metric_names(cells)]
    cost = [arm_cost([cell for cell in cells if cell.place.arm == arm]) for arm in range(len(found.arms))]
    matched = len({tuple(one.nfe) for one in cost if one.nfe}) < 2
    return Results(
        metrics=metrics,
        cost=cost,
        compute_matched=matched,
        nfe_shared=sum(cell.nfe_shared for cell in cells),
        notes=list(_notes(metrics, matched, cells)),
        votes=vote_result(found, cells, votes),
    )


def metric_result(found: Comparison, cells: Sequence[Cell], name: str) -> MetricResult:
    """One metric: means by arm, and what each arm differs from the first, pair by pair."""
    at = {
        (cell.place.prompt, cell.place.seed, cell.place.arm): cell.metrics[name]
        for cell in cells
        if name in cell.metrics
    }
    arms, differences = list[ArmMean](), list[DifferenceAnswer | None]()
    for arm in range(len(found.arms)):
        arms.append(
            _mean(
                [
                    [at[prompt, seed, arm] for seed in range(len(found.seeds)) if (prompt, seed, arm) in at]
                    for prompt in range(len(found.prompts))
                ]
            )
        )
        pairs = [
            [
                at[prompt, seed, arm] - at[prompt, seed, 0]
                for seed in range(len(found.seeds))
                if (prompt, seed, arm) in at and (prompt, seed, 0) in at
            ]
            for prompt in range(len(found.prompts))
        ]
        differences.append(told(paired_difference(pairs)) if arm and any(pairs) else None)
    score = SCORES.get(name)
    return MetricResult(
        name=name,
        title=score.title if score else name,
        unit=score.unit if score else "",
        better=score.better if score else None,
        scorers=scorers_of(cells, name),
        arms=arms,
        differences=differences,
    )


def _mean(prompts: Sequence[Sequence[float]]) -> ArmMean:
    values = [value for prompt in prompts for value in prompt]
    if not values:
        return ArmMean(mean=None, low=None, high=None, deviation=None, n=0)
    found = paired_difference(prompts)  # a mean is a difference to 0
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return ArmMean(mean=found.mean, low=found.low, high=found.high, deviation=deviation, n=len(values))


def arm_cost(cells: Sequence[Cell]) -> ArmCost:
    """What an arm's pictures cost."""
    seconds = [
        cell.record.result.timings.denoise_ms / 1e3 for cell in cells if cell.record and cell.record.result
    ]
    return ArmCost(
        nfe=sorted({cell.nfe for cell in cells if cell.nfe is not None}),
        seconds=statistics.fmean(seconds) if seconds else None,
    )


def scorers_of(cells: Sequence[Cell], metric: str) -> list[ScorerAnswer]:
    """The models behind a metric, by what the workers say, each once."""
    results = [cell.record.result for cell in cells if cell.record and cell.record.result]
    told = [one.ran["scorers"][metric] for one in results if metric in one.ran.get("scorers", {})]
    return [ScorerAnswer.model_validate(one) for one in {one["sha256"]: one for one in told}.values()]


def told(difference: Difference) -> DifferenceAnswer:
    """The difference in numbers and in words."""
    if difference.low is None or difference.high is None:
        text = f"{difference.mean:+.4g} (one pair: no interval)"
    else:
        text = f"{difference.mean:+.4g} [{difference.low:+.4g}, {difference.high:+.4g}]"
        text += "" if difference.clear else ": no clear difference"
    return DifferenceAnswer(
        mean=difference.mean,
        low=difference.low,
        high=difference.high,
        n=difference.n,
        over=difference.over,
        clear=difference.clear,
        text=text,
    )


def _notes(metrics: Collection[MetricResult], matched: bool, cells: Sequence[Cell]) -> Iterator[str]:
    """What a reader of the tables should know."""
    if shared := sum(cell.nfe_shared for cell in cells):
        total = sum(cell.nfe or 0 for cell in cells)
        yield f"Of {total} network evaluations, {shared} were not run: another arm had the same."
    if not matched:
        yield "Not compute-matched: the arms cost different numbers of network evaluations per picture."
    seen = [one for metric in metrics for one in metric.differences if one is not None]
    if not seen:
        return
    least = min(seen, key=lambda one: one.n)
    note = f"Intervals: bootstrap over {least.over}, n = {least.n} at least. "
    if least.over == "seeds":
        note += "With one prompt they say nothing of other prompts. "
    if least.n < FEW_UNITS:
        note += f"With fewer than {FEW_UNITS} they are too narrow. "
    if len(seen) > 1:
        note += f"Of {len(seen)} intervals at 95 %, some leave out 0 by chance alone."
    yield note.strip()
