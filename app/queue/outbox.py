"""Webhooks that are to be sent: the queue puts them in when a job ends, in the same atomic step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from redis.asyncio import Redis

from app.queue.keys import Key, Keys

HOLD_MS = 60_000
"""A sender that dies with a webhook in its hands loses it to another after so long."""


class Delivery(BaseModel):
    """One try to send a webhook: the answer's status, or why there was none."""

    number: int
    at_ms: int
    spent_ms: int
    status: int | None = None
    error: str | None = None

    @property
    def arrived(self) -> bool:
        """Whether the receiver said that it has it."""
        return self.status is not None and 200 <= self.status < 300


class Outbox:
    """`run` runs a script of the queue by its name."""

    def __init__(
        self, redis: Redis, keys: Keys, run: Callable[[str, Sequence[str | int | float]], Awaitable[Any]]
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._run = run

    async def due(self, limit: int = 16) -> list[tuple[str, int]]:
        """Jobs whose end is to be told now, and which try it is; nobody else gets them meanwhile."""
        return [(job_id, number) for job_id, number in await self._run("due", [limit, HOLD_MS])]

    async def told(self, job_id: str, delivery: Delivery, again_in_s: float | None) -> None:
        """Write a try down; the next comes after `again_in_s`, or never."""
        pause_ms = "" if again_in_s is None else round(again_in_s * 1000)
        await self._run("told", [job_id, delivery.model_dump_json(), pause_ms])

    async def log(self, job_id: str) -> list[Delivery]:
        """The last tries to tell of a job, the oldest first."""
        entries = await self._redis.lrange(self._keys(Key.DELIVERIES, job_id), 0, -1)
        return [Delivery.model_validate_json(entry) for entry in entries]

    async def replay(self, job_id: str) -> Literal["ok", "open", "none"]:
        """Tell of an ended job once more; `none` where it names no webhook."""
        return await self._run("replay", [job_id])
