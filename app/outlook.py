"""How long a job will wait and run, from what waits, what runs and what the workers measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from app.costs import Cost, cost_of, image_bytes, run_ms, work_ms
from app.jobs import JobStatus, Resolved
from app.queue.base import JobQueue, WorkerCard

FRESH_S = 1.0
"""A look at the fleet serves all who ask within this time."""
SAMPLE = 50
"""So many waiting jobs stand for all."""


PIXEL_BYTES = 3


class Disk(BaseModel):
    """About how many bytes the storage will keep: pictures with their previews and traces.

    `measured`: by what the model's pictures took so far; otherwise three bytes a pixel, uncompressed.
    """

    bytes: int
    measured: bool


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a job has before it. `None`: nothing of its model was measured yet, or no worker serves it."""

    wait_ms: float | None
    run_ms: float | None

    @property
    def eta_ms(self) -> int | None:
        """Until the job is done."""
        return None if self.wait_ms is None or self.run_ms is None else round(self.wait_ms + self.run_ms)


@dataclass(frozen=True, slots=True)
class Fleet:
    """One look: the workers, what they measured, how many jobs wait, and some of them."""

    workers: list[WorkerCard]
    costs: list[Cost]
    queued: int
    waiting: list[Resolved]
    seen_s: float

    def prospect(self, job: Resolved, ahead: int | None = None) -> Prospect:
        """What `job` has before it, with `ahead` jobs before it in line (None: all that wait)."""
        ahead = self.queued if ahead is None else ahead
        cost = cost_of(job, self.costs)
        if cost is None:
            return Prospect(self._wait_ms(job.model, ahead, []), None)
        return Prospect(self._wait_ms(job.model, ahead, [work_ms(job, cost)]), run_ms(job, cost))

    def whole_ms(self, jobs: Sequence[tuple[Resolved, int]]) -> float | None:
        """Until the last of `jobs` is done, each given with how often it comes; all of one model.

        None where nothing of the model was measured yet, or no worker serves it.
        """
        busy_ms, longest_ms = 0.0, 0.0
        for job, times in jobs:
            if (cost := cost_of(job, self.costs)) is None:
                return None
            busy_ms += times * work_ms(job, cost)
            longest_ms = max(longest_ms, run_ms(job, cost))
        wait_ms = self.prospect(jobs[0][0]).wait_ms
        if wait_ms is None:
            return None
        return wait_ms + max(longest_ms, busy_ms / len(self.serving(jobs[0][0].model)))

    def disk(self, jobs: Sequence[tuple[Resolved, int]]) -> Disk:
        """What the storage will keep of `jobs`, each given with how often it comes."""
        known = [image_bytes(job, self.costs) for job, _ in jobs]
        each = [
            job.width * job.height * PIXEL_BYTES if size is None else size
            for (job, _), size in zip(jobs, known, strict=True)
        ]
        total = sum(size * len(job.seeds) * times for size, (job, times) in zip(each, jobs, strict=True))
        return Disk(bytes=round(total), measured=None not in known)

    def serving(self, model: str) -> list[WorkerCard]:
        """The workers that run this model."""
        return [card for card in self.workers if model in card.models]

    def _wait_ms(self, model: str, ahead: int, otherwise: list[float]) -> float | None:
        """`otherwise` stands for the jobs in line where none of them was seen or measured."""
        serving = self.serving(model)
        if not serving:
            return None
        if not ahead and any(card.rows < card.max_rows for card in serving):
            return 0.0
        known = [work_ms(job, cost) for job in self.waiting if (cost := cost_of(job, self.costs)) is not None]
        known = known or otherwise
        if ahead and not known:
            return None
        before = ahead * sum(known) / len(known) if known else 0.0
        return (before + sum(card.left_ms for card in serving)) / len(serving)


class Outlook:
    """The fleet as it was at most `FRESH_S` ago."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._fleet: Fleet | None = None
        self._looking = asyncio.Lock()

    async def fleet(self) -> Fleet:
        """Look again where the last look is too old."""
        if (fleet := self._fresh()) is not None:
            return fleet
        async with self._looking:
            if (fleet := self._fresh()) is None:
                self._fleet = fleet = await self._look()
            return fleet

    def _fresh(self) -> Fleet | None:
        fleet = self._fleet
        return None if fleet is None or time.monotonic() - fleet.seen_s > FRESH_S else fleet

    async def _look(self) -> Fleet:
        workers = await self._queue.workers()
        queued = (await self._queue.depth())["queued"]
        waiting: list[Resolved] = []
        if queued:
            page = await self._queue.list(limit=SAMPLE, order="asc", status=[JobStatus.QUEUED])
            waiting = [record.resolved for record in page.records]
        costs = [cost for card in workers for cost in card.costs]
        return Fleet(workers, costs, queued, waiting, time.monotonic())
