"""What all sides of the queue stand on: its connections, its keys and its scripts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Sequence
from typing import Any, Self

from app.jobs import JobEvent, JobRecord
from app.queue.connection import connect
from app.queue.events import Events
from app.queue.keys import Keys
from app.queue.outbox import Outbox
from app.queue.records import state_event
from app.queue.roundtrips import Argument, RoundTrips
from app.queue.scripts import load_scripts
from app.settings import Settings


class Scripted(ABC):
    """`url`: see `app.queue.connection`. All keys begin with `{prefix}`."""

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

    @abstractmethod
    async def get(self, job_id: str) -> JobRecord | None:
        """The record."""

    async def _now(self, job_id: str) -> JobEvent | None:
        job = await self.get(job_id)
        return state_event(job) if job is not None else None

    def _run(self, name: str, args: Sequence[Argument]) -> Future[Any]:
        return self._trips.run(self._scripts[name], self._keys.root, args)
