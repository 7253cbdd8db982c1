"""What every job queue does. Leases are short, and nothing sleeps: `claim` waits for what falls due."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.queue.base import JobQueue
from app.queue.redis import RedisQueue
from tests.contracts.queues.asking import LONG_MS, Open


@pytest.fixture(params=[RedisQueue], ids=["redis"])
async def open_queue(
    request: pytest.FixtureRequest, redis_url: str, redis_prefix: str
) -> AsyncIterator[Open]:
    """Opens the test's queue, with settings."""
    opened: list[JobQueue] = []

    def open(**settings: Any) -> JobQueue:
        settings = {"lease_ms": LONG_MS, "retry_backoff_ms": 0} | settings
        opened.append(request.param(redis_url, redis_prefix, **settings))
        return opened[-1]

    yield open
    for queue in opened:
        await queue.close()


@pytest.fixture
def queue(open_queue: Open) -> JobQueue:
    return open_queue()
