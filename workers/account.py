"""What a job took: milliseconds by kind of work, evaluations, and what they say of the next one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import ParamSpec, TypeVar

from app.costs import Cost, steps_of
from app.jobs import Nfe, Resolved, Timings
from workers.ticket import Outcome

BESIDE = ("encode_ms", "decode_ms", "score_ms", "store_ms")
"""Work beside the step loop."""

P = ParamSpec("P")
T = TypeVar("T")


class Account:
    """The times of one job, in milliseconds, by the names of `Timings`."""

    def __init__(self, queue_ms: float) -> None:
        self._ms = {"queue_ms": queue_ms, "load_ms": 0.0}
        self._stored_bytes = 0

    async def timed(
        self, name: str, executor: Executor | None, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `call` in `executor` (None: some thread) and add its own time, not its wait, to `name`."""

        def timed() -> tuple[T, float]:
            began = time.perf_counter()
            return call(*args, **kwargs), (time.perf_counter() - began) * 1e3

        result, spent_ms = await asyncio.get_running_loop().run_in_executor(executor, timed)
        self.add(name, spent_ms)
        return result

    def add(self, name: str, spent_ms: float) -> None:
        """Add to what `name` took."""
        self._ms[name] = self._ms.get(name, 0.0) + spent_ms

    def longest(self, name: str, spent_ms: float) -> None:
        """Of things done side by side, count the longest."""
        self._ms[name] = max(self._ms.get(name, 0.0), spent_ms)

    def stored(self, data: bytes) -> None:
        """Count what the storage keeps."""
        self._stored_bytes += len(data)

    def timings(self) -> Timings:
        """All of it, as a result tells it."""
        return Timings(**self._ms)

    def cost(self, spec: Resolved, outcomes: Sequence[Outcome]) -> Cost:
        """What a step and a picture of such a job cost, by the runs that it had."""
        count, steps = len(outcomes), steps_of(spec) * len(outcomes)
        return Cost(
            spec.model,
            spec.width,
            spec.height,
            spec.guidance.method,
            evaluations=sum(o.nfe.model + o.nfe.weak - o.nfe.shared for o in outcomes) / steps,
            busy_ms=sum(outcome.busy_ms for outcome in outcomes) / steps,
            step_ms=sum(outcome.denoise_ms for outcome in outcomes) / steps,
            image_ms=sum(self._ms.get(name, 0.0) for name in BESIDE) / count,
            image_bytes=self._stored_bytes / count,
        )


def per_image(outcomes: Sequence[Outcome]) -> Nfe:
    """Evaluations per image: the mean over the images, rounded up where they differ."""
    costs = [asdict(outcome.nfe) for outcome in outcomes]
    return Nfe(**{name: -(-sum(cost[name] for cost in costs) // len(costs)) for name in costs[0]})
