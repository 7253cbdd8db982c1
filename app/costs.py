"""What jobs cost: measured by the workers per model, size and method, and what follows for jobs to come."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from app.jobs import Resolved
from guidance.asks import Level, Step
from guidance.base import Guidance
from guidance.limited import Limited
from samplers.cards import CARDS

MEMORY = 20
"""Runs after which a measurement counts a third."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image costs here, as moving averages over the runs that ended.

    `evaluations`: network evaluations a step. `busy_ms`: the worker's time for a step, when rows that share a
    forward share its time. `step_ms`: how long a step lasts for the one who waits. `image_ms`: encoding,
    decoding, scoring and storing of the image. `image_bytes`: what the storage keeps of it, its previews
    and trace too; 0 where nobody measured.
    """

    model: str
    width: int
    height: int
    method: str
    evaluations: float
    busy_ms: float
    step_ms: float
    image_ms: float
    image_bytes: float = 0.0

    def moved(self, latest: Cost) -> Cost:
        """This average, moved towards the latest measurement."""
        fields = ("evaluations", "busy_ms", "step_ms", "image_ms", "image_bytes")
        old, new = asdict(self), asdict(latest)
        return replace(self, **{name: old[name] + (new[name] - old[name]) / MEMORY for name in fields})

    def scaled(self, factor: float) -> Cost:
        """The cost of a step that takes `factor` times as much."""
        return replace(
            self,
            evaluations=self.evaluations * factor,
            busy_ms=self.busy_ms * factor,
            step_ms=self.step_ms * factor,
        )


def steps_of(resolved: Resolved) -> int:
    """Rows of the sampler's table: its steps, or nearly twice as many for a solver that looks twice."""
    return CARDS[resolved.sampler].rows(resolved.steps_run)


def evaluations_of(resolved: Resolved) -> int:
    """Network evaluations per image, at most: some methods decide on the way that they need less."""
    return _evaluations(resolved.guidance, steps_of(resolved))


def cost_of(resolved: Resolved, costs: Iterable[Cost]) -> Cost | None:
    """What this job costs by what was measured, None where the model was never run.

    Where the method was not run at this size, the nearest measurement of the model is scaled by evaluations
    and pixels.
    """
    known = [cost for cost in costs if cost.model == resolved.model]
    if not known:
        return None
    pixels, steps = resolved.width * resolved.height, steps_of(resolved)
    method, wanted = resolved.guidance.method, evaluations_of(resolved) / steps

    def distance(cost: Cost) -> tuple[bool, bool, float]:
        other_size = (cost.width, cost.height) != (resolved.width, resolved.height)
        return other_size, cost.method != method, abs(cost.evaluations - wanted)

    nearest = min(known, key=distance)
    factor = pixels / (nearest.width * nearest.height)
    return nearest.scaled(factor if nearest.method == method else factor * wanted / nearest.evaluations)


def work_ms(resolved: Resolved, cost: Cost) -> float:
    """How long a worker is busy with this job, all its images together."""
    return len(resolved.seeds) * (steps_of(resolved) * cost.busy_ms + cost.image_ms)


def run_ms(resolved: Resolved, cost: Cost) -> float:
    """How long this job takes from its first step to its last image."""
    return steps_of(resolved) * cost.step_ms + len(resolved.seeds) * cost.image_ms


def image_bytes(resolved: Resolved, costs: Iterable[Cost]) -> float | None:
    """What the storage will keep of an image of this job, by the model's measured ones of the nearest size.

    None where none was measured.
    """
    pixels = resolved.width * resolved.height

    def distance(cost: Cost) -> tuple[float, bool]:
        return abs(math.log(cost.width * cost.height / pixels)), cost.method != resolved.guidance.method

    known = [cost for cost in costs if cost.model == resolved.model and cost.image_bytes]
    if not known:
        return None
    nearest = min(known, key=distance)
    return nearest.image_bytes * pixels / (nearest.width * nearest.height)


def _evaluations(guidance: Guidance, rows: int) -> int:
    if isinstance(guidance, Limited):  # levels are the worker's business: count as if all were guided
        guidance = guidance.model_copy(update={"sigma_low": 0.0, "sigma_high": None})
    level = Level(0.5**0.5, 0.5**0.5, 0)
    return guidance.nfe([Step(i, rows, level, level) for i in range(rows)])
