"""Once, again, and gone."""

import pytest

from app.jobs import JobStatus
from app.queue.base import JobQueue
from app.queue.refusals import IdempotencyConflict, JobRunning
from tests.contracts.queues.asking import TOY, Open, claim_ids
from tests.queued import CRASH, REFUSAL, RESULT, new_job


async def test_the_same_job_again_is_the_first_one(queue: JobQueue) -> None:
    first, _ = await queue.enqueue(new_job("a"))
    first = first.model_copy(update={"ahead": None})
    assert await queue.enqueue(new_job("a")) == (first, False)
    with pytest.raises(IdempotencyConflict):
        await queue.enqueue(new_job("a", prompt="other"))
    assert await claim_ids(queue) == ["a"]


async def test_an_idempotency_key_makes_one_job_per_client(queue: JobQueue) -> None:
    first, created = await queue.enqueue(new_job("a", idempotency_key="k"))
    assert created
    first = first.model_copy(update={"ahead": None})
    assert await queue.enqueue(new_job("b", idempotency_key="k")) == (first, False)
    assert (await queue.enqueue(new_job("c", idempotency_key="k", client="other")))[1]
    with pytest.raises(IdempotencyConflict):
        await queue.enqueue(new_job("d", idempotency_key="k", prompt="other"))
    assert await queue.get("b") is None
    await queue.delete("a")
    assert (await queue.enqueue(new_job("e", idempotency_key="k")))[1]


async def test_an_ended_job_can_be_tried_again(queue: JobQueue) -> None:
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    await queue.fail("w", "a", REFUSAL)
    job = await queue.retry("a")
    assert job is not None
    assert (job.status, job.error, job.attempt, job.max_attempts) == (JobStatus.QUEUED, None, 1, 4)
    assert job.completed_at_ms is job.expires_at_ms is job.started_at_ms is None
    assert await queue.retry("a") == job
    (claim,) = await queue.claim("w", TOY, 1)
    assert (claim.id, claim.attempt) == ("a", 2)
    assert await queue.finish("w", "a", RESULT)
    assert await queue.retry("unknown") is None


async def test_a_deleted_job_is_gone(queue: JobQueue) -> None:
    for job_id in ("waits", "runs", "ended"):
        await queue.enqueue(new_job(job_id, tags=["t"], group=job_id))
    await claim_ids(queue)
    await queue.cancel("ended")
    running = [job.id for job in (await queue.list(status=[JobStatus.STARTING])).records]
    assert running == ["waits"]
    with pytest.raises(JobRunning, match="cancel it"):
        await queue.delete("waits")
    await queue.put_blob("trace:ended", b"1")
    deleted = await queue.delete("ended")
    assert deleted is not None
    assert deleted.id == "ended"
    assert await queue.delete("ended") is None
    assert await queue.get_blob("trace:ended") is None
    await queue.delete("runs")
    assert [job.id for job in (await queue.list(tag="t")).records] == ["waits"]
    assert await claim_ids(queue) == []
    assert (await queue.enqueue(new_job("ended", prompt="other")))[1]


async def test_an_ended_job_is_forgotten_when_its_time_is_over(open_queue: Open) -> None:
    queue = open_queue(result_ttl_s=0)
    await queue.enqueue(new_job("a", tags=["t"]))
    await queue.enqueue(new_job("open"))
    await queue.cancel("a")
    await queue.sweep()
    assert await queue.get("a") is None
    assert [job.id for job in (await queue.list()).records] == ["open"]
    assert (await queue.list(tag="t")).records == []


async def test_dead_letters_tell_every_failed_attempt_and_can_be_tried_again(open_queue: Open) -> None:
    queue = open_queue(max_attempts=2, lease_ms=1)
    await queue.enqueue(new_job("a"))
    await claim_ids(queue, "dead")
    while not await open_queue().claim("w", TOY, 1, wait_s=10):
        pass
    assert await queue.fail("w", "a", CRASH)
    (letter,) = await queue.dead_letters()
    assert letter.id == "a"
    assert [(one.attempt, one.worker, one.error.code) for one in letter.errors] == [
        (1, "dead", "worker_lost"),
        (2, "w", "internal_error"),
    ]
    assert await queue.retry("a")
    assert await queue.dead_letters() == []


async def test_an_account_finds_its_dead_letters_among_the_others(queue: JobQueue) -> None:
    for k in range(7):
        await queue.enqueue(new_job(f"j{k}", account="ann" if k in (0, 4) else "bob"))
        (job_id,) = await claim_ids(queue)
        await queue.fail("w", job_id, REFUSAL)
    assert [letter.id for letter in await queue.dead_letters(2, "ann")] == ["j4", "j0"]
    assert [letter.id for letter in await queue.dead_letters(1, "ann")] == ["j4"]
    assert [letter.id for letter in await queue.dead_letters(3)] == ["j6", "j5", "j4"]
    assert await queue.dead_letters(2, "eve") == []


async def test_the_files_of_forgotten_jobs_are_remembered_until_they_are_gone(open_queue: Open) -> None:
    queue = open_queue(result_ttl_s=0)
    for job_id in ("deleted", "expired"):
        await queue.enqueue(new_job(job_id))
    await queue.delete("deleted")
    await queue.cancel("expired")
    await queue.sweep()
    litter = dict(await queue.litter())
    assert set(litter) == {"deleted", "expired"}
    await queue.cleaned([("deleted", litter["deleted"])])
    assert await queue.litter() == [("expired", litter["expired"])]
