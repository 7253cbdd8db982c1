"""The job queue on Redis 7+ or Valkey: one Lua script per transition, each one atomic step.

The state machine, with what makes each step safe, is in the scripts; `intake`, `leasing` and this module turn
wire types into their arguments and back. redis-py sends a command again after a lost connection, so every
script may run twice.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Literal, cast

from redis.client import NEVER_DECODE

from app.jobs import FailedAttempt, JobEvent, JobRecord, JobStatus
from app.queue import registry
from app.queue.base import Census, DeadLetter, Forgotten, Page, WorkerCard
from app.queue.census import census
from app.queue.connection import SOCKET_S
from app.queue.intake import Intake
from app.queue.keys import Key
from app.queue.leasing import Leasing
from app.queue.listing import page, records, statuses
from app.queue.records import record
from app.queue.refusals import JobRunning


class RedisQueue(Intake, Leasing):
    """A `JobQueue`: taking in and leasing, and here what reads, ends and watches over."""

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
        created_ms: tuple[int | None, int | None] = (None, None),
        wanted: Callable[[JobRecord], bool] | None = None,
    ) -> Page:
        """Jobs by time of creation, newest first by default. Raises ValueError when `after` is unknown."""
        return await page(
            self._redis, self._keys, limit, after, order, status, tag, account, created_ms, wanted
        )

    async def cancel(self, job_id: str) -> JobRecord | None:
        """End a queued job; ask the worker of a running one to stop."""
        await self._run("cancel", [job_id])
        return await self.get(job_id)

    async def dead_letters(self, limit: int = 100, account: str | None = None) -> builtins.list[DeadLetter]:
        """The jobs that failed for good, the latest first, each with all its failed attempts. See `retry`."""
        letters: builtins.list[DeadLetter] = []
        before = "+"
        while len(letters) < limit:
            entries = cast(
                builtins.list[tuple[str, dict[str, str]]],
                await self._redis.xrevrange(self._keys(Key.DEAD), max=before, count=limit),
            )
            letters += [
                DeadLetter(fields["id"], [FailedAttempt(**one) for one in json.loads(fields["errors"])])
                for _, fields in entries
                if account is None or fields.get("account") == account
            ]
            if len(entries) < limit:
                break
            before = f"({entries[-1][0]}"
        return letters[:limit]

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

    async def sweep(self) -> int:
        """Do what is due: expired leases, delayed jobs, records to forget. The number of leases taken."""
        return int(await self._run("sweep", []))

    # Hints and short-lived things

    def listen(self, *job_ids: str) -> AsyncIterator[JobEvent]:
        """Events from now on; a `get` of the same jobs waits until the subscription is there."""
        return self._events.listen(*job_ids)

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
