"""The way into the queue."""

from __future__ import annotations

import asyncio
import builtins
from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.jobs import JobRecord
from app.queue.base import NewJob
from app.queue.keys import Key
from app.queue.records import arguments, compact, fresh_record, idempotency
from app.queue.refusals import IdempotencyConflict, LimitReached, QueueFull
from app.queue.roundtrips import STEPS
from app.queue.scripted import Scripted


class Intake(Scripted):
    """The part of a `JobQueue` that takes jobs in."""

    async def enqueue(self, job: NewJob) -> tuple[JobRecord, bool]:
        """Queue `job`: (record, created)."""
        return await self._enqueued(job, await self._run("enqueue", arguments(job, place=True)))

    async def enqueue_many(
        self, jobs: Sequence[NewJob], *, together: bool = False
    ) -> builtins.list[tuple[JobRecord, bool] | QueueFull | IdempotencyConflict]:
        """Queue many, those of one model and client `together`: all or none. Each has its own answer."""
        answers: builtins.list[Future[Any]] = []
        if together and jobs:
            spent = sum(job.limits.get("spent", 0) for job in jobs)
            first = replace(jobs[0], limits={**jobs[0].limits, "spent": spent})
            steps = [arguments(first, together=len(jobs)), *(arguments(job, together=0) for job in jobs[1:])]
            answers += self._trips.run_together(self._scripts["enqueue"], self._keys.root, steps)
        for job in () if together else jobs:
            answers.append(self._run("enqueue", arguments(job)))
            if len(answers) % STEPS == 0:  # the server works on these while the next are written down
                await asyncio.sleep(0)
        outcomes: builtins.list[tuple[JobRecord, bool] | QueueFull | IdempotencyConflict] = []
        for job, answer in zip(jobs, await asyncio.gather(*answers), strict=True):
            try:
                outcomes.append(await self._enqueued(job, answer))
            except (QueueFull, IdempotencyConflict) as refusal:
                outcomes.append(refusal)
        return outcomes

    async def _enqueued(self, job: NewJob, answer: builtins.list[Any]) -> tuple[JobRecord, bool]:
        match answer:
            case "created", now_ms, ahead:
                return fresh_record(job, now_ms, ahead, self._max_attempts), True
            case "known", job_id:
                known = await self.get(job_id)
                return (known, False) if known else await self.enqueue(job)  # deleted just now
            case "limited", what, seconds:
                raise LimitReached(what, int(seconds))
            case "conflict", _:
                raise IdempotencyConflict("the idempotency key or job id was used with another request")
            case _:
                raise QueueFull(int(answer[1]), answer[2])

    async def knows(self, job: NewJob) -> bool:
        """Whether there is a job of this id or idempotency key."""
        first = await self._redis.get(self._keys(Key.IDEMPOTENCY, idempotency(job)))
        return bool(await self._redis.exists(self._keys(Key.JOB, str(first or job.id))))

    async def retry(self, job_id: str, limits: Mapping[str, float] | None = None) -> JobRecord | None:
        """Queue an ended job again."""
        answer = await self._run("retry", [job_id, compact(dict(limits or {}))])
        match answer:
            case "full", seconds, of:
                raise QueueFull(int(seconds), of)
            case "limited", what, seconds:
                raise LimitReached(what, int(seconds))
            case _:
                pass
        return await self.get(job_id)
