"""Listeners hear of everything, in order."""

import asyncio

from app.jobs import JobStatus, Progress
from app.queue.base import Beat, JobQueue
from tests.contracts.queues.asking import HALF_WAY, Open, claim_ids, hear
from tests.queued import CRASH, REFUSAL, RESULT, new_job


async def test_a_listener_hears_every_change_in_order(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))

    async def work() -> None:
        await claim_ids(queue)
        await queue.beat("w", [Beat("a", HALF_WAY, [("image", {"index": 0, "scores": [], "x": 1 / 3})])])
        await queue.finish("w", "a", RESULT)

    heard = await hear(queue, "a", "completed", work)
    assert [event.type for event in heard] == ["start", "progress", "image", "completed"]
    assert heard[0].data == {"attempt": 1}
    assert heard[1].data == HALF_WAY.model_dump()
    assert heard[2].data == {"index": 0, "scores": [], "x": 1 / 3}, "data are passed on as they were"
    job = await queue.get("a")
    assert job is not None
    assert [event.seq for event in heard] == [2, 3, 4, job.seq]


async def test_a_failure_and_a_new_attempt_are_heard(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))

    async def work() -> None:
        await claim_ids(queue)
        await queue.fail("w", "a", CRASH)
        await claim_ids(queue)
        await queue.fail("w", "a", REFUSAL)

    heard = await hear(queue, "a", "failed", work)
    assert [event.type for event in heard] == ["start", "queued", "start", "failed"]
    assert heard[-1].data == REFUSAL.model_dump()


async def test_what_is_read_after_listening_misses_nothing(queue: JobQueue) -> None:
    """The record's `seq` and the events after it are gapless, however the two race."""
    jobs = [f"j{k}" for k in range(30)]
    for job_id in jobs:
        await queue.enqueue(new_job(job_id))
    await claim_ids(queue)

    async def follow(job_id: str) -> None:
        events = queue.listen(job_id)
        job = await queue.get(job_id)
        assert job is not None
        seq = job.seq
        if job.status == JobStatus.SUCCEEDED:
            return
        async for event in events:
            if event.seq > seq:
                assert event.seq == seq + 1
                seq = event.seq
            if event.type == "completed":
                return

    async def work(job_id: str) -> None:
        for step in range(5):
            await queue.beat("w", [Beat(job_id, Progress(step=step, total=5))])
        await queue.finish("w", job_id, RESULT)

    async with asyncio.timeout(20):
        await asyncio.gather(*(call(job_id) for job_id in jobs for call in (work, follow)))


async def test_a_slow_listener_keeps_the_latest_events(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    events = queue.listen("a")
    other = queue.listen("a")
    await queue.get("a")
    await claim_ids(queue)
    steps = 600
    await queue.beat("w", [Beat("a", None, [("guidance", {"step": k}) for k in range(steps)])])
    async with asyncio.timeout(10):
        async for event in other:
            if event.data == {"step": steps - 1}:
                break
        heard = [await anext(events)]
        while heard[-1].data != {"step": steps - 1}:
            heard.append(await anext(events))
    assert len(heard) < steps
    assert [event.data["step"] for event in heard] == list(range(steps - len(heard), steps))


async def test_listening_ends_with_the_queue(open_queue: Open) -> None:
    queue = open_queue()
    events = queue.listen("a")
    await queue.get("a")
    await queue.close()
    assert [event async for event in events] == []
