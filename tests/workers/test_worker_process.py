import signal
from collections.abc import Callable

import pytest

from app.jobs import JobStatus
from app.queue.base import JobQueue
from app.settings import Settings
from app.storage.local import LocalStorage
from tests.workers.serving import Process, begun, ended, eventually, new_job, working
from workers.worker import PARENT

pytestmark = pytest.mark.timeout(400)  # a busy machine takes long to import torch, and these do it often


async def test_when_a_worker_is_killed_another_finishes_its_job(
    queue: JobQueue, storage: LocalStorage, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=8))
    first = process()
    await begun(queue, "a")
    first.send(signal.SIGKILL)
    process()
    record = await ended(queue, "a")
    assert (record.status, record.attempt) == (JobStatus.SUCCEEDED, 2)
    assert record.result is not None
    assert await storage.get(record.result.images[0].key)


async def test_a_worker_told_to_stop_gives_back_what_it_cannot_finish(
    settings: Settings, queue: JobQueue, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=100))
    worker = process(settings.model_copy(update={"drain_s": 0}))
    await begun(queue, "a")
    worker.send(signal.SIGTERM)
    assert await worker.left() == 0
    record = await queue.get("a")
    assert record is not None
    assert (record.status, record.attempt, record.worker_id) == (JobStatus.QUEUED, 0, None)
    assert await queue.workers() == []


async def test_a_worker_told_to_stop_finishes_what_it_holds_and_claims_nothing_more(
    queue: JobQueue, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=4))
    worker = process()
    await begun(queue, "a")
    worker.send(signal.SIGTERM)
    await queue.enqueue(new_job("b"))
    assert await worker.left() == 0
    statuses = [(await queue.get(job)).status for job in ("a", "b")]  # type: ignore[union-attr]
    assert statuses == [JobStatus.SUCCEEDED, JobStatus.QUEUED]


async def test_a_worker_that_lost_its_lease_drops_the_work(
    settings: Settings, queue: JobQueue, storage: LocalStorage, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=6))
    frozen = process()
    await begun(queue, "a")
    frozen.send(signal.SIGSTOP)
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
    frozen.send(signal.SIGCONT)

    async def dropped() -> bool:
        return "stopped (lost)" in frozen.log.read_text()

    assert await eventually(dropped)
    assert (record.status, record.attempt) == (JobStatus.SUCCEEDED, 2)
    assert await queue.get("a") == record
    assert record.result is not None
    assert await storage.get(record.result.images[0].key)


async def test_a_worker_stops_when_its_parent_is_gone(
    queue: JobQueue, process: Callable[..., Process]
) -> None:
    worker = process(**{PARENT: "1"})
    assert await worker.left() == 0
    assert "process that started this worker is gone" in worker.log.read_text()
