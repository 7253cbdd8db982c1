"""Workers that die, sleep, kill themselves on a job, or have the wrong time."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import get_args

import pytest

from app.background import pause
from app.jobs import JobStatus
from tests.chaos.processes import POISON, Faults, Moment, send
from tests.chaos.site import Site

pytestmark = pytest.mark.timeout(200)


SHORT = ("mid-run", "stored")
"""Moments that `make test` tries too."""


@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=[] if m in SHORT else pytest.mark.slow) for m in get_args(Moment)]
)
async def test_a_worker_is_killed(site: Site, moment: Moment) -> None:
    await site.submit(6)
    victim = site.worker(Faults(die=moment))
    assert await site.gone(victim) == -signal.SIGKILL
    killed_at = time.time()
    site.worker()
    outcome = await site.audit(f"worker killed: {moment}", killed_at)
    assert outcome.ends == {JobStatus.SUCCEEDED: 6}
    assert (outcome.again > 0) == (moment in ("after claim", "mid-run", "stored")) or moment == "finished"


async def test_a_worker_sleeps_past_its_lease_and_comes_back(site: Site) -> None:
    await site.submit(12)
    sleeper = site.worker()
    await site.begun()
    send(sleeper, signal.SIGSTOP)
    stopped_at = time.time()
    site.worker()
    await site.ended()
    send(sleeper, signal.SIGCONT)
    await site.submit(6)
    outcome = await site.audit("worker paused past its lease", stopped_at)
    assert outcome.ends == {JobStatus.SUCCEEDED: 18}
    assert outcome.again


async def test_a_job_kills_every_worker_that_takes_it(open_site: Callable[..., Site]) -> None:
    site = open_site(max_attempts=3)
    (poison,) = await site.submit(1, prompt=POISON)
    await site.submit(6)
    over = asyncio.Event()

    async def crew() -> None:
        while not over.is_set():
            worker = site.worker()
            while worker.is_alive() and not over.is_set():
                await pause(0.02, over)

    keeping = asyncio.create_task(crew())
    outcome = await site.audit("poison job")
    over.set()
    await keeping
    assert outcome.ends == {JobStatus.SUCCEEDED: 6, JobStatus.FAILED: 1}
    (letter,) = await site.queue.dead_letters()
    assert letter.id == poison
    assert [failed.error.code for failed in letter.errors] == ["worker_lost"] * 3


async def test_an_answer_to_a_claim_is_lost(site: Site) -> None:
    await site.submit(6)
    site.worker(Faults(lost_claims=1))
    outcome = await site.audit("answer to a claim lost")
    assert outcome.ends == {JobStatus.SUCCEEDED: 6}
    assert outcome.again, "what was leased by the lost answer is delivered once more"


@pytest.mark.slow
async def test_clocks_disagree_by_a_minute(site: Site) -> None:
    await site.submit(12)
    for clock_s in (60, -60):
        site.worker(Faults(clock_s=clock_s))
    await site.begun(2)
    await site.turn_clock(60)
    outcome = await site.audit("clocks a minute apart, server's turned")
    assert outcome.ends == {JobStatus.SUCCEEDED: 12}


@pytest.mark.slow
async def test_workers_are_replaced_one_by_one(site: Site) -> None:
    """A rolling restart: nothing is lost, and no job loses an attempt by it."""
    old = [site.worker(), site.worker()]
    for worker in old:
        await site.submit(10)
        await site.begun()
        site.worker()
        send(worker, signal.SIGTERM)
        assert await site.gone(worker) == 0
    outcome = await site.audit("rolling restart")
    assert outcome.ends == {JobStatus.SUCCEEDED: 20}
