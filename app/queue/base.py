"""What a job queue does, whoever implements it. Times are the server's clock, in milliseconds."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from app.costs import Cost
from app.jobs import (
    FailedAttempt,
    JobError,
    JobEvent,
    JobRecord,
    JobResult,
    JobStatus,
    Priority,
    Progress,
    Resolved,
)
from app.queue.outbox import Outbox
from app.queue.refusals import IdempotencyConflict, QueueFull


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue. `group` is the compatibility group, `cost` its rows x steps."""

    id: str
    resolved: Resolved
    input: dict[str, Any]
    group: str
    cost: float = 1.0
    client: str = "anonymous"
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    idempotency_key: str | None = None
    delay_s: float = 0.0
    deadline_s: float | None = None
    webhook: str | None = None
    weight: float = 1.0
    """Its client's share of the service, by which clients take turns."""
    account: str | None = None
    """The API key that it belongs to; None where nobody asks for one."""
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the key may use: per_minute, max_open, pixel_steps; and `spent`, the pixel-steps of this job."""

    @property
    def rows(self) -> int:
        """Network rows of a forward that it takes."""
        return rows_of(self.resolved)


def rows_of(ran: Resolved) -> int:
    """Network rows of a forward that a job takes: images x particles x branches."""
    population = ran.guidance.population()
    particles = population.particles if population else 1
    return len(ran.seeds) * particles * (2 if ran.guidance.requires().negative else 1)


@dataclass(frozen=True, slots=True)
class Claim:
    """A job leased to a worker. `attempt` counts from 1 and was counted before the work began."""

    id: str
    attempt: int
    resolved: Resolved
    created_at_ms: int
    claimed_at_ms: int
    traceparent: str = ""
    """The span of the request that made it (W3C Trace Context); empty where nobody traces."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed for good, and why each of its attempts did."""

    id: str
    errors: list[FailedAttempt]


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's report on one job it holds; it renews the lease. `events` go to the listeners."""

    id: str
    progress: Progress | None = None
    events: Sequence[tuple[str, dict[str, Any]]] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, in the asked order. `last_id`: the last one looked at, where others go on."""

    records: list[JobRecord]
    has_more: bool
    last_id: str | None


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a worker tells of itself; it expires unless repeated."""

    id: str
    host: str
    pid: int
    device: str
    models: Sequence[str]
    rows: int
    max_rows: int
    left_ms: float = 0.0
    """How long it is busy with the jobs that it holds."""
    costs: Sequence[Cost] = ()
    heartbeat_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """The jobs of one model and priority that wait, and for how long the first of them has."""

    model: str
    priority: Priority
    waiting: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Census:
    """The queue as those see it who watch over it.

    `ended`: jobs by (status, model) and `takeovers`: leases that ran out by model, both since it began.
    """

    lines: Sequence[Line]
    ended: Mapping[tuple[str, str], int]
    takeovers: Mapping[str, int]


Forgotten = tuple[str, int]
"""A job that the queue knows no more: its id and when it was created, in milliseconds."""

BeatAnswer = Literal["ok", "cancel", "lost"]


class JobQueue(Protocol):
    """At-least-once delivery with leases; every method is one atomic step and safe to repeat."""

    outbox: Outbox
    """The ends of jobs that are to be told to webhooks."""

    async def enqueue(self, job: NewJob) -> tuple[JobRecord, bool]:
        """Queue `job`; (record, created). The same id or idempotency key again answers the first record.

        Raises QueueFull, LimitReached, IdempotencyConflict.
        """
        ...

    async def enqueue_many(
        self, jobs: Sequence[NewJob], *, together: bool = False
    ) -> builtins.list[tuple[JobRecord, bool] | QueueFull | IdempotencyConflict]:
        """`enqueue` for many in few round trips; each has its own answer, those refused an exception.

        `together`, of one model and client: in one step, where all find room or none does.
        """
        ...

    async def knows(self, job: NewJob) -> bool:
        """Whether there is a job of this id or idempotency key, so that `enqueue` would queue nothing."""
        ...

    async def get(self, job_id: str) -> JobRecord | None: ...

    async def get_many(self, job_ids: Sequence[str]) -> builtins.list[JobRecord | None]:
        """`get` for many in one round trip."""
        ...

    async def statuses(self, job_ids: Sequence[str]) -> builtins.list[JobStatus | None]:
        """The status of each job, None for one that is not there; for callers that follow many."""
        ...

    async def position(self, job_id: str) -> int | None:
        """How many waiting jobs are ahead of it; None when it does not wait."""
        ...

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
        """Jobs by time of creation, within `created_ms` (from, before). ValueError: `after` is unknown.

        With `wanted` not more than some thousand are looked at for a page, which may then hold few or none.
        """
        ...

    async def cancel(self, job_id: str) -> JobRecord | None:
        """Queued: canceled at once. Running: asked to stop; seen at the worker's next beat."""
        ...

    async def retry(self, job_id: str, limits: Mapping[str, float] | None = None) -> JobRecord | None:
        """A new attempt of a finished job, same seeds; an open job is left alone.

        Raises QueueFull, LimitReached.
        """
        ...

    async def dead_letters(self, limit: int = 100, account: str | None = None) -> list[DeadLetter]:
        """The jobs that failed for good, an account's or all, the latest first; `retry` takes one out."""
        ...

    async def litter(self, limit: int = 100) -> builtins.list[Forgotten]:
        """Forgotten jobs whose files may still lie in the storage; `cleaned` says that they are gone."""
        ...

    async def cleaned(self, jobs: Sequence[Forgotten]) -> None: ...

    async def delete(self, job_id: str) -> JobRecord | None:
        """Forget a job that waits or has ended (its files are the storage's business); None if there is none.

        Raises JobRunning when a worker holds it.
        """
        ...

    async def claim(
        self,
        worker: str,
        models: Collection[str],
        cost: float,
        wait_s: float = 0.0,
        loaded: Collection[str] | None = None,
    ) -> list[Claim]:
        """Lease waiting jobs of these models worth up to `cost` rows (at least one); wait for one if none.

        Those that are `loaded` (None: all) come first, until a job of another has waited for long.
        """
        ...

    async def beat(self, worker: str, beats: Sequence[Beat]) -> dict[str, BeatAnswer]:
        """Renew leases and report progress in one round trip."""
        ...

    async def finish(self, worker: str, job_id: str, result: JobResult) -> bool:
        """Hand in a result. False: the lease was lost or the job canceled; drop the work."""
        ...

    async def fail(self, worker: str, job_id: str, error: JobError) -> bool:
        """Hand in a failure; a retryable one is queued again until its attempts run out."""
        ...

    async def stop(self, worker: str, job_id: str) -> bool:
        """Confirm that a job asked to cancel has stopped."""
        ...

    async def release(self, worker: str, job_ids: Sequence[str]) -> None:
        """Give jobs back unharmed (shutdown): no attempt is counted."""
        ...

    async def sweep(self) -> int:
        """Take back expired leases; the number taken. Called by workers and by the API every few seconds."""
        ...

    def listen(self, *job_ids: str) -> AsyncIterator[JobEvent]:
        """Events of these jobs from now on. Subscribe first, then `get` the record: nothing is missed."""
        ...

    async def put_blob(self, key: str, data: bytes, ttl_s: int = 60) -> None:
        """Keep something short-lived and overwritable (a preview, the trace so far)."""
        ...

    async def get_blob(self, key: str) -> bytes | None: ...

    async def announce(self, card: WorkerCard, ttl_s: int = 15) -> None: ...

    async def retire(self, worker: str) -> None: ...

    async def workers(self) -> list[WorkerCard]: ...

    async def depth(self) -> dict[str, int]:
        """Open jobs per status: queued, running."""
        ...

    async def census(self) -> Census:
        """Who waits since when, and what has happened so far."""
        ...

    async def ping(self) -> float:
        """Round trip in milliseconds; raises when the server cannot be reached."""
        ...

    async def close(self) -> None: ...
