"""A worker that dies, sleeps or lags behind."""

import asyncio

from app.jobs import JobStatus
from app.queue.base import Beat
from tests.contracts.queues.asking import HALF_WAY, SHORT_MS, TOY, Open, claim_ids, status
from tests.queued import CRASH, RESULT, new_job


async def test_an_expired_lease_gives_the_job_to_the_next_worker(open_queue: Open) -> None:
    queue = open_queue(lease_ms=SHORT_MS)
    await queue.enqueue(new_job("a"))
    assert await claim_ids(queue, "dead") == ["a"]
    (claim,) = await queue.claim("heir", TOY, 1, wait_s=10)
    assert (claim.id, claim.attempt) == ("a", 2)
    assert await open_queue().finish("heir", "a", RESULT)
    job = await queue.get("a")
    assert job is not None
    assert (job.status, job.attempt, job.worker_id) == (JobStatus.SUCCEEDED, 2, "heir")


async def test_a_zombie_is_told_and_changes_nothing(open_queue: Open) -> None:
    queue, patient = open_queue(lease_ms=SHORT_MS), open_queue()
    await queue.enqueue(new_job("a"))
    await claim_ids(queue, "zombie")
    await patient.claim("heir", TOY, 1, wait_s=10)
    before = await queue.get("a")
    assert await queue.beat("zombie", [Beat("a", HALF_WAY, [("image", {})])]) == {"a": "lost"}
    assert not await queue.finish("zombie", "a", RESULT)
    assert not await queue.fail("zombie", "a", CRASH)
    assert not await queue.stop("zombie", "a")
    await queue.release("zombie", ["a"])
    assert await queue.get("a") == before
    assert await patient.finish("heir", "a", RESULT)
    done = await queue.get("a")
    assert not await queue.finish("zombie", "a", RESULT.model_copy(update={"warnings": ["late"]}))
    assert await queue.get("a") == done


async def test_a_beat_renews_the_lease(open_queue: Open) -> None:
    short, patient = open_queue(lease_ms=SHORT_MS), open_queue()
    await short.enqueue(new_job("a"))
    await claim_ids(short, "w")
    assert await patient.beat("w", [Beat("a")]) == {"a": "ok"}
    assert await claim_ids(short, "thief", wait_s=3 * SHORT_MS / 1e3) == []
    assert await short.sweep() == 0
    assert await patient.beat("w", [Beat("a")]) == {"a": "ok"}


async def test_sweep_takes_back_expired_leases(open_queue: Open) -> None:
    queue = open_queue(lease_ms=1)
    await queue.enqueue(new_job("a"))
    await claim_ids(queue)
    taken = 0
    async with asyncio.timeout(10):
        while not taken:
            taken = await queue.sweep()
    assert taken == 1
    assert await status(queue, "a") == JobStatus.QUEUED


async def test_a_poison_job_ends_after_its_attempts_and_its_neighbours_do_not(open_queue: Open) -> None:
    """Three workers die of it; the jobs beside it at the first crash run alone and succeed."""
    queue, patient = open_queue(lease_ms=SHORT_MS), open_queue()
    for job_id in ("poison", "b", "c"):
        await queue.enqueue(new_job(job_id))
    assert await claim_ids(queue, "first") == ["poison", "b", "c"]
    for crash in range(20):
        worker = f"w{crash}"
        claims = await patient.claim(worker, TOY, 9, wait_s=0.2)
        for claim in claims:
            assert [other.id for other in claims] == [claim.id], "a suspect has company"
            assert await patient.claim(worker, TOY, 9) == [], "a suspect gets company"
            if claim.id != "poison":
                assert await patient.finish(worker, claim.id, RESULT)
            else:
                await patient.release(worker, ["poison"])  # taken again, to die of it at a short lease
                assert await claim_ids(queue, worker) == ["poison"]
        if await status(queue, "poison") == JobStatus.FAILED:
            break
    poison = await queue.get("poison")
    assert poison is not None
    assert (poison.status, poison.attempt) == (JobStatus.FAILED, 3)
    assert poison.error is not None
    assert poison.error.code == "worker_lost"
    assert [await status(queue, job_id) for job_id in "bc"] == [JobStatus.SUCCEEDED] * 2


async def test_a_busy_worker_empties_itself_for_a_suspect_and_the_others_go_on(open_queue: Open) -> None:
    queue, patient = open_queue(lease_ms=SHORT_MS), open_queue()
    for worker in ("w1", "w2"):
        await queue.enqueue(new_job(worker))
        await patient.claim(worker, TOY, 1)
    await queue.enqueue(new_job("suspect"))
    await claim_ids(queue, "dead")
    async with asyncio.timeout(10):
        while not await queue.sweep():
            pass
    await queue.enqueue(new_job("next"))
    assert await claim_ids(patient, "w1") == []
    assert await claim_ids(patient, "w2") == ["next"]
    assert await queue.finish("w1", "w1", RESULT)
    assert await claim_ids(patient, "w1") == ["suspect"]
