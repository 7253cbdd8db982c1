"""A queue server that is killed, and a network that fails."""

import asyncio
import time
from contextlib import suppress

import pytest
from redis.exceptions import RedisError

from app.jobs import JobStatus
from tests.chaos.proxy import Proxy
from tests.chaos.site import LEASE_MS, Site, new_job

pytestmark = pytest.mark.timeout(300)


async def produce(site: Site, count: int, over: asyncio.Event) -> None:
    """Enqueue again and again until it is said that it was; what is accepted goes into the books."""
    for k in range(count):
        job = new_job(f"produced{k}")
        while not over.is_set():
            with suppress(RedisError, OSError):
                await site.queue.enqueue(job)
                site.accepted.add(job.id)
                break
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.slow)])
async def test_the_server_is_killed_and_started_again(site: Site, times: int) -> None:
    for _ in range(2):
        site.worker()
    over = asyncio.Event()
    producing = asyncio.create_task(produce(site, 20 * times, over))
    killed_at = 0.0
    for _ in range(times):
        await site.begun()
        killed_at = await site.kill_server()
        await asyncio.sleep(0.2)
        await site.start_server()
    async with asyncio.timeout(60):
        await producing
    outcome = await site.audit(f"server killed {times} times", killed_at)
    assert outcome.ends == {JobStatus.SUCCEEDED: 20 * times}


@pytest.mark.slow
async def test_the_network_between_worker_and_server_fails(site: Site) -> None:
    proxy = Proxy(site.server_socket)
    far = await proxy.start()
    await site.submit(12)
    site.worker(redis_url=far)
    await site.begun()
    proxy.cut()
    cut_at = time.time()
    await asyncio.sleep(1.5 * LEASE_MS / 1e3)
    site.worker()
    await site.ended()
    proxy.heal()
    more = await site.submit(6)
    await site.begun()
    proxy.reset()
    await site.ended(more)
    outcome = await site.audit("network cut, healed, reset", cut_at)
    assert outcome.ends == {JobStatus.SUCCEEDED: 18}
    assert outcome.again
    await proxy.close()
