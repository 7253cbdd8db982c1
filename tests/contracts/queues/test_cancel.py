"""Canceling, before, at and after every end."""

import pytest

from app.jobs import JobStatus
from app.queue.base import Beat, JobQueue
from tests.contracts.queues.asking import HALF_WAY, SHORT_MS, Open, claim_ids, status
from tests.queued import CRASH, RESULT, new_job


async def test_a_queued_job_is_canceled_at_once(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    job = await queue.cancel("a")
    assert job is not None
    assert (job.status, job.worker_id) == (JobStatus.CANCELED, None)
    assert await queue.cancel("a") == job
    assert await claim_ids(queue) == []
    assert await queue.cancel("unknown") is None


async def test_a_delayed_job_can_be_canceled(open_queue: Open) -> None:
    queue = open_queue(retry_backoff_ms=60_000)
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    await queue.fail("w", "a", CRASH)
    job = await queue.cancel("a")
    assert job is not None
    assert job.status == JobStatus.CANCELED
    assert await queue.depth() == {"queued": 0, "running": 0}


async def test_a_running_job_is_asked_to_stop(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    assert not await queue.stop("w", "a"), "nobody asked for it"
    job = await queue.cancel("a")
    assert job is not None
    assert (job.status, job.cancel_requested) == (JobStatus.STARTING, True)
    assert await queue.cancel("a") == job
    assert await queue.beat("w", [Beat("a", HALF_WAY)]) == {"a": "cancel"}
    assert await queue.stop("w", "a")
    assert await queue.stop("w", "a")
    assert await status(queue, "a") == JobStatus.CANCELED


@pytest.mark.parametrize("end", ["finish", "fail", "release"])
async def test_a_cancel_that_comes_before_the_end_wins(queue: JobQueue, end: str) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    await queue.cancel("a")
    if end == "finish":
        assert not await queue.finish("w", "a", RESULT)
        assert not await queue.finish("w", "a", RESULT)
    elif end == "fail":
        assert await queue.fail("w", "a", CRASH)
    else:
        await queue.release("w", ["a"])
    job = await queue.get("a")
    assert job is not None
    assert (job.status, job.result) == (JobStatus.CANCELED, None)


async def test_a_cancel_that_comes_after_the_end_changes_nothing(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    await queue.finish("w", "a", RESULT)
    job = await queue.get("a")
    assert await queue.cancel("a") == job


async def test_a_canceled_job_whose_worker_died_ends_canceled(open_queue: Open) -> None:
    queue = open_queue(lease_ms=SHORT_MS)
    await queue.enqueue(new_job("a"))
    await claim_ids(queue, "dead")
    await queue.cancel("a")
    assert await claim_ids(queue, wait_s=5 * SHORT_MS / 1e3) == []
    assert await status(queue, "a") == JobStatus.CANCELED
