"""The job queue on Redis 7+ or Valkey: one Lua script per transition, each one atomic step.

The state machine, with what makes each step safe, is in the scripts; this module turns wire types into their
arguments and back. redis-py sends a command again after a lost connection, so every script may run twice.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import time
from asyncio import Future
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, cast

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from app.jobs import FailedAttempt, JobError, JobEvent, JobRecord, JobResult, JobStatus, Resolved
from app.meters import QUEUE_SECONDS
from app.queue import registry
from app.queue.base import (
    Beat,
    BeatAnswer,
    Census,
    Claim,
    DeadLetter,
    Forgotten,
    IdempotencyConflict,
    JobRunning,
    LimitReached,
    NewJob,
    Page,
    QueueFull,
    WorkerCard,
)
from app.queue.census import census
from app.queue.connection import SOCKET_S, connect
from app.queue.events import Events
from app.queue.keys import Key, Keys
from app.queue.listing import page, records, statuses
from app.queue.outbox import Outbox
from app.queue.records import arguments, compact, fresh_record, idempotency, record, state_event
from app.queue.roundtrips import STEPS, Argument, RoundTrips
from app.queue.scripts import load_scripts
from app.settings import Settings

BLOCK_S = 5.0
"""The longest that one command waits at the server; below SOCKET_S, or the client would give up first."""


class RedisQueue:
    """A `JobQueue`. `url`: see `app.queue.connection`. All keys begin with `{prefix}`."""

    def __init__(
        self,
        url: str,
        prefix: str = "lodestar",
        *,
        lease_ms: int = 15_000,
        max_attempts: int = 3,
        retry_backoff_ms: int = 1_000,
        result_ttl_s: int = 7 * 86_400,
        idempotency_ttl_s: int = 86_400,
        swap_after_ms: int = 10_000,
        max_queued: int = 10_000,
        max_queued_per_model: int | None = None,
        max_queued_per_client: int | None = None,
    ) -> None:
        self._redis = connect(url, prefix)
        # A claim that is sent twice would lease twice: the lost one waits for its lease to run out instead.
        self._once = connect(url, prefix, repeats=False)
        self._trips = RoundTrips(self._redis)
        self._keys = Keys(prefix)
        self._max_attempts = max_attempts
        self.outbox = Outbox(self._redis, self._keys, self._run)
        self._events = Events(self._once, self._keys, self._now)
        self._scripts = load_scripts(
            LEASE_MS=lease_ms,
            MAX_ATTEMPTS=max_attempts,
            BACKOFF_MS=retry_backoff_ms,
            RESULT_TTL_MS=result_ttl_s * 1000,
            IDEMPOTENCY_TTL_MS=idempotency_ttl_s * 1000,
            SWAP_MS=swap_after_ms,
            MAX_QUEUED=max_queued,
            MAX_PER_MODEL=max_queued_per_model or max_queued,
            MAX_PER_CLIENT=max_queued_per_client or max_queued,
        )

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect as the settings say; their `redis_url` must be set."""
        if settings.redis_url is None:
            raise ValueError("no redis_url; start the embedded server first and set it")
        return cls(
            settings.redis_url,
            settings.redis_prefix,
            lease_ms=settings.lease_ms,
            max_attempts=settings.max_attempts,
            retry_backoff_ms=settings.retry_backoff_ms,
            result_ttl_s=settings.result_ttl_s,
            idempotency_ttl_s=settings.idempotency_ttl_s,
            swap_after_ms=settings.swap_after_ms,
            max_queued=settings.max_queued,
            max_queued_per_model=settings.max_queued_per_model,
            max_queued_per_client=settings.max_queued_per_client,
        )

    # What clients do

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

    async def get(self, job_id: str) -> JobRecord | None:
        """The record. A `listen` that began before it hears of every later change."""
        await self._events.settled(job_id)
        fields = cast(dict[str, str], await self._trips.ask("HGETALL", self._keys(Key.JOB, job_id)))
        return record(job_id, fields) if fields else None

    async def get_many(self, job_ids: Sequence[str]) -> builtins.list[JobRecord | None]:
        """`get` for many in one round trip."""
        for job_id in job_ids:
            await self._events.settled(job_id)
        return await records(self._redis, self._keys, job_ids)

    async def statuses(self, job_ids: Sequence[str]) -> builtins.list[JobStatus | None]:
        """The status of each, None for one that is not there, in one round trip."""
        return await statuses(self._redis, self._keys, job_ids)

    async def position(self, job_id: str) -> int | None:
        """How many jobs of its model wait before it."""
        return await self._run("position", [job_id])

    async def list(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        status: Collection[JobStatus] | None = None,
        tag: str | None = None,
        account: str | None = None,
    ) -> Page:
        """Jobs by time of creation, newest first by default. Raises ValueError when `after` is unknown."""
        return await page(self._redis, self._keys, limit, after, order, status, tag, account)

    async def cancel(self, job_id: str) -> JobRecord | None:
        """End a queued job; ask the worker of a running one to stop."""
        await self._run("cancel", [job_id])
        return await self.get(job_id)

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

    async def dead_letters(self, limit: int = 100) -> builtins.list[DeadLetter]:
        """The jobs that failed for good, the latest first, each with all its failed attempts. See `retry`."""
        entries = cast(
            builtins.list[tuple[str, dict[str, str]]],
            await self._redis.xrevrange(self._keys(Key.DEAD), count=limit),
        )
        return [
            DeadLetter(fields["id"], [FailedAttempt(**one) for one in json.loads(fields["errors"])])
            for _, fields in entries
        ]

    async def delete(self, job_id: str) -> JobRecord | None:
        """Forget a job and its short-lived bytes; its record as it was."""
        before = await self.get(job_id)
        if await self._run("delete", [job_id]) == "running":
            raise JobRunning(f"job {job_id} is running; cancel it and wait for its end, then delete it")
        if before is not None:
            blobs = [f"trace:{job_id}", *(f"preview:{job_id}:{i}" for i in range(len(before.resolved.seeds)))]
            await self._redis.unlink(*(self._keys(Key.BLOB, name) for name in blobs))
        return before

    async def litter(self, limit: int = 100) -> builtins.list[Forgotten]:
        """Forgotten jobs whose files may still lie in the storage. Delete those, then say so by `cleaned`."""
        found = cast(builtins.list[str], await self._redis.srandmember(self._keys(Key.LITTER), limit))
        parts = [entry.rpartition(":") for entry in found]
        return [(job_id, int(created)) for job_id, _, created in parts]

    async def cleaned(self, jobs: Sequence[Forgotten]) -> None:
        """The files of these forgotten jobs are deleted."""
        if jobs:
            entries = [f"{job_id}:{created}" for job_id, created in jobs]
            await self._redis.srem(self._keys(Key.LITTER), *entries)

    # What workers do

    async def claim(
        self,
        worker: str,
        models: Collection[str],
        cost: float,
        wait_s: float = 0.0,
        loaded: Collection[str] | None = None,
    ) -> builtins.list[Claim]:
        """Lease jobs; with none there, wait for a bell or for a lease or delay that runs out."""
        near = [model for model in models if loaded is None or model in loaded]
        far = [model for model in models if model not in near]
        deadline = time.monotonic() + wait_s
        bells = [self._keys(Key.BELL, model) for model in models]
        while True:
            due_ms, *rows = await self._claim([worker, cost, len(near), *near, *far])
            left_s = deadline - time.monotonic()
            if rows or left_s <= 0 or not models:
                return [
                    Claim(job_id, attempt, Resolved.model_validate_json(resolved), int(created), now, parent)
                    for job_id, attempt, resolved, created, now, parent in rows
                ]
            pause_s = min(left_s, BLOCK_S) if due_ms < 0 else min(left_s, BLOCK_S, due_ms / 1e3)
            await self._once.blpop(bells, max(0.001, pause_s))

    async def beat(self, worker: str, beats: Sequence[Beat]) -> dict[str, BeatAnswer]:
        """Renew leases and report."""
        if not beats:
            return {}
        args: builtins.list[str | int] = [worker]
        for one in beats:
            progress = one.progress.model_dump_json() if one.progress is not None else ""
            args += [one.id, progress, len(one.events)]
            for kind, data in one.events:
                args += [kind, compact(data)]
        answers: builtins.list[BeatAnswer] = await self._run("beat", args)
        return {one.id: answer for one, answer in zip(beats, answers, strict=True)}

    async def finish(self, worker: str, job_id: str, result: JobResult) -> bool:
        """Hand in a result."""
        return bool(await self._run("finish", [worker, job_id, result.model_dump_json()]))

    async def fail(self, worker: str, job_id: str, error: JobError) -> bool:
        """Hand in a failure."""
        return bool(await self._run("fail", [worker, job_id, error.model_dump_json(), int(error.retryable)]))

    async def stop(self, worker: str, job_id: str) -> bool:
        """Confirm a cancellation."""
        return bool(await self._run("stop", [worker, job_id]))

    async def release(self, worker: str, job_ids: Sequence[str]) -> None:
        """Give jobs back."""
        await self._run("release", [worker, *job_ids])

    async def sweep(self) -> int:
        """Do what is due: expired leases, delayed jobs, records to forget. The number of leases taken."""
        return int(await self._run("sweep", []))

    # Hints and short-lived things

    def listen(self, *job_ids: str) -> AsyncIterator[JobEvent]:
        """Events from now on; a `get` of the same jobs waits until the subscription is there."""
        return self._events.listen(*job_ids)

    async def _now(self, job_id: str) -> JobEvent | None:
        job = await self.get(job_id)
        return state_event(job) if job is not None else None

    async def put_blob(self, key: str, data: bytes, ttl_s: int = 60) -> None:
        """Keep bytes for a while."""
        await self._redis.set(self._keys(Key.BLOB, key), data, ex=ttl_s)

    async def get_blob(self, key: str) -> bytes | None:
        """Bytes that are still kept."""
        return await self._redis.execute_command("GET", self._keys(Key.BLOB, key), **{NEVER_DECODE: True})

    async def announce(self, card: WorkerCard, ttl_s: int = 15) -> None:
        """Tell of a worker."""
        await registry.announce(self._redis, self._keys, card, ttl_s)

    async def retire(self, worker: str) -> None:
        """Tell no more of a worker."""
        await registry.retire(self._redis, self._keys, worker)

    async def workers(self) -> builtins.list[WorkerCard]:
        """The workers that were heard of lately, by id."""
        return await registry.workers(self._redis, self._keys)

    async def depth(self) -> dict[str, int]:
        """Open jobs: queued (delayed ones among them), running."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcard(self._keys(Key.STATUS, JobStatus.QUEUED))
            pipeline.zcard(self._keys(Key.LEASES))
            queued, running = await pipeline.execute()
        return {"queued": queued, "running": running}

    async def census(self) -> Census:
        """Who waits since when, and what has happened so far."""
        return await census(self._redis, self._keys)

    async def ping(self) -> float:
        """Round trip in milliseconds."""
        began = time.perf_counter()
        async with asyncio.timeout(SOCKET_S):
            await self._once.ping()
        return (time.perf_counter() - began) * 1e3

    async def close(self) -> None:
        """End all listeners and connections."""
        await self._events.close()
        await self._trips.close()
        await self._redis.aclose()
        await self._once.aclose()

    def _run(self, name: str, args: Sequence[Argument]) -> Future[Any]:
        return self._trips.run(self._scripts[name], self._keys.root, args)

    async def _claim(self, args: Sequence[Argument]) -> Any:
        """Run `claim`, never twice."""
        script, step = self._scripts["claim"], (len(args), *args)
        with QUEUE_SECONDS.labels("claim").time():
            try:
                (answer,) = await self._once.evalsha(script.sha, 1, self._keys.root, *step)
            except NoScriptError:
                (answer,) = await self._once.eval(script.text, 1, self._keys.root, *step)
            return answer
