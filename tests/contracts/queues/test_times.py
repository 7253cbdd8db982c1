"""Jobs that wait for a moment, or only until one."""

from app.jobs import JobStatus
from app.queue.base import JobQueue
from tests.contracts.queues.asking import TOY, Open, claim_ids, status
from tests.queued import CRASH, RESULT, new_job


async def test_a_delayed_job_waits_for_its_moment(queue: JobQueue) -> None:
    await queue.enqueue(new_job("later", delay_s=0.08))
    await queue.enqueue(new_job("never", delay_s=3600))
    await queue.enqueue(new_job("now"))
    assert await claim_ids(queue) == ["now"]
    (claim,) = await queue.claim("w", TOY, 1, wait_s=10)
    assert claim.id == "later"
    assert claim.claimed_at_ms - claim.created_at_ms >= 80
    assert await status(queue, "never") == JobStatus.QUEUED


async def test_a_job_that_waits_past_its_deadline_expires(queue: JobQueue) -> None:
    late, _ = await queue.enqueue(new_job("late", deadline_s=0.001))
    await queue.enqueue(new_job("delayed", delay_s=3600, deadline_s=0.001))
    await queue.enqueue(new_job("timely", deadline_s=3600))
    assert late.deadline_at_ms == late.created_at_ms + 1
    while await status(queue, "delayed") != JobStatus.EXPIRED:
        await queue.sweep()
    assert await status(queue, "late") == JobStatus.EXPIRED
    assert await claim_ids(queue) == ["timely"]
    assert await queue.finish("w", "timely", RESULT)
    again = await queue.retry("late")
    assert again is not None
    assert (again.status, again.deadline_at_ms) == (JobStatus.QUEUED, None)


async def test_a_deadline_holds_for_the_next_attempt_and_not_for_a_running_one(open_queue: Open) -> None:
    queue = open_queue(retry_backoff_ms=3_600_000)
    await queue.enqueue(new_job("a", deadline_s=0.05))
    (claim,) = await queue.claim("w", TOY, 1)
    await queue.enqueue(new_job("later", deadline_s=0.05))
    while await status(queue, "later") != JobStatus.EXPIRED:
        await queue.sweep()
    assert await status(queue, claim.id) == JobStatus.STARTING
    await queue.fail("w", "a", CRASH)
    await queue.sweep()
    assert await status(queue, "a") == JobStatus.EXPIRED
