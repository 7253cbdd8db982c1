"""All faults at once, in an order that a seed draws."""

import asyncio
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.process import BaseProcess

import pytest
from redis.exceptions import RedisError

from app.jobs import JobStatus
from tests.chaos.processes import send
from tests.chaos.proxy import Proxy
from tests.chaos.site import LEASE_MS, Site, new_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FAULTS = ("kill", "pause", "cut", "reset", "server", "cancel")
MIX_S = 45.0
PAST_LEASE_S = 1.5 * LEASE_MS / 1e3


@pytest.mark.parametrize("seed", range(2))
async def test_faults_in_random_order(site: Site, seed: int) -> None:
    """Workers are killed and paused, the network cut and reset, the server killed, jobs canceled."""
    chance, seen = random.Random(seed), Counter[str]()
    proxy = Proxy(site.server_socket)
    far = await proxy.start()
    crew: list[BaseProcess] = [site.worker(redis_url=far), site.worker(), site.worker()]
    over, canceled = asyncio.Event(), set[str]()
    producing = asyncio.create_task(produce(site, over))
    ends_at = time.monotonic() + MIX_S

    async def strike(fault: str) -> None:
        place = chance.randrange(len(crew))
        match fault:
            case "kill":
                send(crew[place], signal.SIGKILL)
                await site.gone(crew[place])
                crew[place] = site.worker(redis_url=far) if place == 0 else site.worker()
            case "pause":
                send(crew[place], signal.SIGSTOP)
                await asyncio.sleep(chance.choice([0.3, 1.0]) * PAST_LEASE_S)
                send(crew[place], signal.SIGCONT)
            case "cut":
                proxy.cut()
                await asyncio.sleep(PAST_LEASE_S)
                proxy.heal()
            case "reset":
                proxy.reset()
            case "server":
                await site.kill_server()
                await asyncio.sleep(chance.uniform(0, 0.3))
                await site.start_server()
            case _:
                job_id = f"mixed{len(site.accepted) - 1}"  # the last one that was accepted
                with suppress(RedisError, OSError):
                    await site.queue.cancel(job_id)
                canceled.add(job_id)

    while time.monotonic() < ends_at:
        await site.begun()
        fault = chance.choice(FAULTS)
        seen[fault] += 1
        await strike(fault)
    over.set()
    await producing
    outcome = await site.audit(f"{seen.total()} mixed faults, seed {seed}")
    assert set(outcome.ends) <= {JobStatus.SUCCEEDED, JobStatus.CANCELED}
    assert outcome.ends[JobStatus.CANCELED] <= len(canceled)
    assert outcome.again, f"nobody noticed {seen}"
    await proxy.close()


async def produce(site: Site, over: asyncio.Event) -> None:
    """Keep some jobs in line; each is sent until it is said that it is there."""
    count = 0
    while not over.is_set():
        with suppress(RedisError, OSError):
            if (await site.queue.depth())["queued"] < 6:
                job = new_job(f"mixed{count}")
                await site.queue.enqueue(job)
                site.accepted.add(job.id)
                count += 1
        await asyncio.sleep(0.02)
