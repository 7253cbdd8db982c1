"""From the line to a worker and to the result."""

import asyncio

from app.jobs import JobStatus
from app.queue.base import Beat, JobQueue
from tests.contracts.queues.asking import HALF_WAY, TOY, Open, claim_ids, status
from tests.queued import CRASH, REFUSAL, RESULT, new_job


async def test_a_job_goes_from_the_line_to_its_result(queue: JobQueue) -> None:
    job, created = await queue.enqueue(new_job("a", tags=["t"], metadata={"k": "ü"}))
    assert created
    assert job.model_copy(update={"ahead": None}) == await queue.get("a")
    assert (job.status, job.attempt, job.worker_id, job.tags) == (JobStatus.QUEUED, 0, None, ["t"])

    (claim,) = await queue.claim("w", TOY, 1)
    assert (claim.id, claim.attempt, claim.resolved) == ("a", 1, job.resolved)
    assert job.created_at_ms == claim.created_at_ms <= claim.claimed_at_ms
    starting = await queue.get("a")
    assert starting is not None
    assert (starting.status, starting.worker_id) == (JobStatus.STARTING, "w")
    assert starting.started_at_ms == claim.claimed_at_ms

    assert await queue.beat("w", [Beat("a", HALF_WAY)]) == {"a": "ok"}
    processing = await queue.get("a")
    assert processing is not None
    assert (processing.status, processing.progress) == (JobStatus.PROCESSING, HALF_WAY)

    assert await queue.finish("w", "a", RESULT)
    done = await queue.get("a")
    assert done is not None
    assert (done.status, done.result, done.worker_id) == (JobStatus.SUCCEEDED, RESULT, "w")
    assert done.progress.stage == "done"
    assert job.seq < starting.seq < processing.seq < done.seq
    assert await queue.depth() == {"queued": 0, "running": 0}


async def test_a_beat_without_progress_keeps_a_job_starting(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    assert await queue.beat("w", [Beat("a")]) == {"a": "ok"}
    assert await status(queue, "a") == JobStatus.STARTING


async def test_a_claim_takes_as_many_rows_as_there_is_room_for_and_at_least_one_job(queue: JobQueue) -> None:
    for job_id, rows in [("a", 3), ("b", 2), ("c", 2), ("d", 9)]:
        await queue.enqueue(new_job(job_id, rows=rows))
    assert await claim_ids(queue, room=5) == ["a", "b"]
    assert await claim_ids(queue, room=1) == ["c"]
    assert await claim_ids(queue, room=1) == ["d"]
    assert await claim_ids(queue) == []


async def test_a_claim_takes_jobs_of_one_group_and_of_the_asked_models_only(queue: JobQueue) -> None:
    await queue.enqueue(new_job("small1"))
    await queue.enqueue(new_job("other", model="other"))
    await queue.enqueue(new_job("large", group="64x64"))
    await queue.enqueue(new_job("small2"))
    assert await claim_ids(queue) == ["small1", "small2"]
    assert await claim_ids(queue) == ["large"]
    assert await claim_ids(queue) == []
    assert [claim.id for claim in await queue.claim("w", ["toy", "other"], 9)] == ["other"]
    assert await queue.claim("w", [], 9, wait_s=0.01) == []


async def test_a_waiting_claim_is_woken_by_a_new_job(queue: JobQueue) -> None:
    waiting = asyncio.create_task(claim_ids(queue, wait_s=30))
    assert await claim_ids(queue, wait_s=0.01) == []
    await queue.enqueue(new_job("a"))
    async with asyncio.timeout(10):
        assert await waiting == ["a"]


async def test_many_claiming_workers_never_share_a_job(queue: JobQueue) -> None:
    for k in range(60):
        await queue.enqueue(new_job(f"j{k}"))
    taken = await asyncio.gather(*(claim_ids(queue, f"w{k}", room=2) for k in range(40)))
    ids = [job_id for some in taken for job_id in some]
    assert len(ids) == len(set(ids)) == 60


async def test_position_counts_the_jobs_ahead(queue: JobQueue) -> None:
    jobs = [new_job(job_id, group=group) for job_id, group in [("a", "x"), ("b", "y"), ("c", "x")]]
    assert [(await queue.enqueue(job))[0].ahead for job in jobs] == [0, 1, 2]
    assert [await queue.position(job_id) for job_id in "abc"] == [0, 1, 2]
    await claim_ids(queue, room=1)
    assert [await queue.position(job_id) for job_id in "abc"] == [None, 0, 1]
    assert await queue.position("unknown") is None


async def test_a_retryable_failure_is_tried_again_until_the_attempts_run_out(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    for attempt in (1, 2, 3):
        (claim,) = await queue.claim("w", TOY, 1)
        assert claim.attempt == attempt
        assert await queue.fail("w", "a", CRASH)
    job = await queue.get("a")
    assert job is not None
    assert (job.status, job.error, job.result) == (JobStatus.FAILED, CRASH, None)


async def test_a_final_failure_is_not_tried_again_and_may_be_told_twice(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    assert await queue.fail("w", "a", REFUSAL)
    job = await queue.get("a")
    assert await queue.fail("w", "a", REFUSAL)
    assert job == await queue.get("a")
    assert job is not None
    assert (job.status, job.error, job.attempt) == (JobStatus.FAILED, REFUSAL, 1)


async def test_a_failed_attempt_waits_before_the_next(open_queue: Open) -> None:
    queue = open_queue(retry_backoff_ms=80)
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    await queue.fail("w", "a", CRASH)
    assert await claim_ids(queue) == []
    assert await status(queue, "a") == JobStatus.QUEUED
    (claim,) = await queue.claim("w", TOY, 1, wait_s=10)
    assert claim.attempt == 2


async def test_what_is_given_back_keeps_its_place_and_its_attempts(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await queue.enqueue(new_job("b"))
    assert await claim_ids(queue, room=1) == ["a"]
    await queue.release("w", ["a"])
    await queue.release("w", ["a"])
    job = await queue.get("a")
    assert job is not None
    assert (job.status, job.attempt, job.worker_id, job.started_at_ms) == (JobStatus.QUEUED, 0, None, None)
    assert await claim_ids(queue, "other") == ["a", "b"]


async def test_finishing_twice_answers_the_same(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    assert await queue.finish("w", "a", RESULT)
    job = await queue.get("a")
    assert await queue.finish("w", "a", RESULT.model_copy(update={"warnings": ["again"]}))
    assert await queue.get("a") == job
    assert not await queue.finish("w", "unknown", RESULT)
