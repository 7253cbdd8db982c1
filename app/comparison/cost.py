"""What a comparison will cost before it runs: network evaluations by arm, and steps that make them equal."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from app.comparison.spec import Arm, Comparison
from app.jobs import JobRecord
from guidance import Guidance
from guidance.base import Level, Step
from samplers.cards import CARDS

LEVEL = Level(alpha=0.5**0.5, sigma=0.5**0.5, timestep=0)
MOST_STEPS = 200


class ArmEstimate(BaseModel):
    """One arm: evaluations per picture, and the steps at which it costs what the baseline does."""

    label: str
    steps: int
    nfe: int
    matched_steps: int


class Estimate(BaseModel):
    """The whole comparison. `seconds` is None while nothing is known of the model's pace."""

    pictures: int
    nfe: int
    compute_matched: bool
    seconds: float | None
    arms: list[ArmEstimate]


def estimate(found: Comparison, recent: Sequence[JobRecord]) -> Estimate:
    """Count before anything runs. `recent`: jobs that ended lately, for the pace."""
    rows = len(found.prompts) * len(found.seeds)
    costs = [nfe_per_picture(arm.guidance, arm.sampler, arm.steps) for arm in found.arms]
    total, pace = rows * sum(costs), evaluations_per_second(found, recent)
    return Estimate(
        pictures=rows * len(found.arms),
        nfe=total,
        compute_matched=len(set(costs)) == 1,
        seconds=total / pace if pace else None,
        arms=[
            ArmEstimate(
                label=arm.label, steps=arm.steps, nfe=cost, matched_steps=matched_steps(arm, costs[0])
            )
            for arm, cost in zip(found.arms, costs, strict=True)
        ],
    )


def nfe_per_picture(guidance: Guidance, sampler: str, steps: int) -> int:
    """Network evaluations of one picture; an upper bound for a method that decides while it runs."""
    card = CARDS[sampler]
    rows = [Step(row // card.evaluations_per_step, steps, LEVEL, LEVEL) for row in range(card.rows(steps))]
    return guidance.nfe(rows)


def matched_steps(arm: Arm, nfe: int) -> int:
    """The number of steps at which the arm comes closest to so many evaluations."""
    return min(
        range(1, MOST_STEPS + 1),
        key=lambda steps: abs(nfe_per_picture(arm.guidance, arm.sampler, steps) - nfe),
    )


def evaluations_per_second(found: Comparison, recent: Sequence[JobRecord]) -> float | None:
    """The pace of this model and size lately: evaluations by the time in which any such job ran."""
    size = (found.shared.model, found.shared.width, found.shared.height)
    done = [
        (job.started_at_ms, job.completed_at_ms, len(job.result.images) * job.result.nfe.model)
        for job in recent
        if job.result and job.started_at_ms is not None and job.completed_at_ms is not None
        if (job.resolved.model, job.resolved.width, job.resolved.height) == size
    ]
    busy_ms, until = 0, 0
    for began, ended, _ in sorted(done):
        busy_ms += max(0, ended - max(began, until))
        until = max(until, ended)
    return sum(nfe for _, _, nfe in done) / busy_ms * 1e3 if busy_ms else None
