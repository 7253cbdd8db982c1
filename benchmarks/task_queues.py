"""The same no-op job through arq, saq and taskiq: what general task queues reach on the same server.

None of them keeps a job's state machine, so each does less per job than our queue does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import arq
import saq
import saq.queue.redis
from arq.worker import Worker as ArqWorker
from redis.asyncio import BlockingConnectionPool, Redis
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

TASKS = 16
"""That enqueue at once."""
AT_ONCE = 64
"""Jobs that a worker has in its hands."""

Measure = Callable[[str, int, Awaitable[object]], Awaitable[None]]


class Countdown:
    """Done when so many jobs have run."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.over = asyncio.Event()

    async def run(self, *_: Any, **__: Any) -> None:
        """One of them."""
        self._left -= 1
        if not self._left:
            self.over.set()


async def _by_tasks(count: int, enqueue: Callable[[], Awaitable[object]]) -> None:
    async def some() -> None:
        for _ in range(count // TASKS):
            await enqueue()

    await asyncio.gather(*(some() for _ in range(TASKS)))


async def through_arq(url: str, payload: dict[str, Any], count: int, measure: Measure) -> None:
    path = url.removeprefix("unix://")
    pool = await arq.create_pool(arq.connections.RedisSettings(unix_socket_path=path))
    await measure("arq_enqueue", count, _by_tasks(count, lambda: pool.enqueue_job("noop", payload)))
    done = Countdown(count)
    worker = ArqWorker(
        functions=[arq.func(done.run, name="noop", keep_result=0)], redis_pool=pool, burst=True,
        max_jobs=AT_ONCE, poll_delay=0.001, handle_signals=False,
    )  # fmt: skip
    await measure("arq_work", count, worker.async_run())
    assert done.over.is_set()
    await worker.close()


async def through_saq(url: str, payload: dict[str, Any], count: int, measure: Measure) -> None:
    queue = saq.queue.redis.RedisQueue(
        Redis.from_pool(BlockingConnectionPool.from_url(url, socket_timeout=None))
    )
    await measure("saq_enqueue", count, _by_tasks(count, lambda: queue.enqueue("noop", asked=payload)))
    done = Countdown(count)
    worker = saq.Worker(queue, functions=[("noop", done.run)], concurrency=AT_ONCE)
    running = asyncio.create_task(worker.start())
    await measure("saq_work", count, done.over.wait())
    await worker.stop()
    await asyncio.wait([running])
    await queue.disconnect()


async def through_taskiq(url: str, payload: dict[str, Any], count: int, measure: Measure) -> None:
    broker = RedisStreamBroker(url, socket_timeout=None, xread_count=AT_ONCE)
    done = Countdown(count)

    @broker.task
    async def noop(asked: dict[str, Any]) -> None:
        await done.run()

    await broker.startup()
    await measure("taskiq_enqueue", count, _by_tasks(count, lambda: noop.kiq(payload)))
    running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=AT_ONCE))
    await measure("taskiq_work", count, done.over.wait())
    running.cancel()
    await asyncio.wait([running])
    await broker.shutdown()


ALL = (through_arq, through_saq, through_taskiq)
