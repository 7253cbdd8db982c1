"""What a comparison will cost before it runs: evaluations by arm, steps that make them equal, time."""

from __future__ import annotations

from pydantic import BaseModel

from app.catalogue import Catalogue
from app.comparison.spec import Comparison, cell_job
from app.costs import evaluations_of
from app.jobs import Resolved
from app.outlook import Disk, Fleet
from app.reading import Reading, readings
from app.settings import Settings

MOST_STEPS = 200


class ArmEstimate(BaseModel):
    """One arm: evaluations per picture at most, and the steps at which it costs what the baseline does."""

    label: str
    steps: int
    nfe: int
    matched_steps: int


class Estimate(BaseModel):
    """The whole comparison. `seconds` is None while nothing of the model was measured, `prompts` where nobody
    here knows how the model reads them.
    """

    pictures: int
    nfe: int
    compute_matched: bool
    seconds: float | None
    disk: Disk
    prompts: list[Reading] | None
    arms: list[ArmEstimate]


def estimate(found: Comparison, catalogue: Catalogue, settings: Settings, fleet: Fleet) -> Estimate:
    """Count before anything runs."""
    rows = len(found.prompts) * len(found.seeds)
    jobs = [cell_job(found, place, catalogue, settings).resolved for place in found.places[: len(found.arms)]]
    costs = [evaluations_of(job) for job in jobs]
    every = [(job, rows) for job in jobs]
    whole_ms = fleet.whole_ms(every)
    return Estimate(
        pictures=rows * len(jobs),
        nfe=rows * sum(costs),
        compute_matched=len(set(costs)) == 1,
        seconds=None if whole_ms is None else round(whole_ms / 1e3, 3),
        disk=fleet.disk(every),
        prompts=readings(catalogue.models[jobs[0].model], found.prompts),
        arms=[
            ArmEstimate(
                label=arm.label, steps=arm.steps, nfe=cost, matched_steps=matched_steps(job, costs[0])
            )
            for arm, job, cost in zip(found.arms, jobs, costs, strict=True)
        ],
    )


def matched_steps(job: Resolved, nfe: int) -> int:
    """The number of steps at which the job comes closest to so many evaluations per picture."""

    def apart(steps: int) -> int:
        return abs(evaluations_of(job.model_copy(update={"steps": steps})) - nfe)

    return min(range(1, MOST_STEPS + 1), key=apart)
