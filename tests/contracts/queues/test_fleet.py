"""Lists, workers, blobs, counts."""

import asyncio
from typing import Any

import pytest

from app.jobs import JobStatus
from app.queue import listing
from app.queue.base import JobQueue, WorkerCard
from app.queue.refusals import IdempotencyConflict, QueueFull
from tests.contracts.queues.asking import Open, claim_ids
from tests.queued import RESULT, new_job


async def test_lists_come_in_pages(queue: JobQueue) -> None:
    for k in range(7):
        await queue.enqueue(new_job(f"j{k}", tags=["even"] if k % 2 == 0 else []))
    await claim_ids(queue, room=2)
    await queue.finish("w", "j0", RESULT)

    async def ids(**filters: Any) -> tuple[list[str], bool]:
        page = await queue.list(**filters)
        return [job.id for job in page.records], page.has_more

    assert await ids(limit=3) == (["j6", "j5", "j4"], True)
    assert await ids(limit=3, after="j4") == (["j3", "j2", "j1"], True)
    assert await ids(limit=3, after="j1") == (["j0"], False)
    assert await ids(order="asc", limit=2, after="j1") == (["j2", "j3"], True)
    assert await ids(tag="even") == (["j6", "j4", "j2", "j0"], False)
    assert await ids(status=[JobStatus.STARTING]) == (["j1"], False)
    assert await ids(status=[JobStatus.STARTING, JobStatus.SUCCEEDED], limit=1) == (["j1"], True)
    assert await ids(status=[JobStatus.STARTING, JobStatus.SUCCEEDED]) == (["j1", "j0"], False)
    assert await ids(status=[JobStatus.QUEUED], tag="even", limit=2) == (["j6", "j4"], True)
    assert await ids(status=[]) == ([], False)
    assert await ids(wanted=lambda job: job.id in ("j1", "j5"), limit=1) == (["j5"], True)
    assert await ids(wanted=lambda job: job.id in ("j1", "j5"), status=[JobStatus.QUEUED]) == (["j5"], False)
    with pytest.raises(ValueError, match="no job"):
        await queue.list(after="unknown")


async def test_lists_are_of_a_time(queue: JobQueue) -> None:
    made = list[int]()
    for k in range(4):
        await queue.enqueue(new_job(f"j{k}", tags=["t"]))
        record = await queue.get(f"j{k}")
        assert record is not None
        made.append(record.created_at_ms)
        await asyncio.sleep(0.005)  # no two in a millisecond
    for order in ("desc", "asc"):

        async def ids(begin: int | None, end: int | None, **filters: Any) -> list[str]:
            page = await queue.list(created_ms=(begin, end), order=order, **filters)  # noqa: B023
            return sorted(job.id for job in page.records)

        assert await ids(made[1], made[3]) == ["j1", "j2"]
        assert await ids(made[2], None) == ["j2", "j3"]
        assert await ids(None, made[1], tag="t") == ["j0"]
        assert await ids(made[1], None, after="j2") == (["j1"] if order == "desc" else ["j3"])
        assert await ids(None, made[2], after="j3") == (["j0", "j1"] if order == "desc" else [])


async def test_what_has_no_index_is_looked_for_in_some_thousand_jobs_at_once(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(listing, "MOST", 4)
    for k in range(9):
        await queue.enqueue(new_job(f"j{k}"))
    pages, after = list[list[str]](), None
    while True:
        page = await queue.list(limit=1, after=after, wanted=lambda job: job.id == "j1")
        pages.append([job.id for job in page.records])
        if not page.has_more:
            break
        after = page.last_id
    assert pages == [[], ["j1"], []]


async def test_blobs_are_bytes_that_pass(queue: JobQueue) -> None:
    data = bytes(range(256))
    await queue.put_blob("preview:a:0", data)
    await queue.put_blob("preview:a:0", data[::-1])
    assert await queue.get_blob("preview:a:0") == data[::-1]
    assert await queue.get_blob("other") is None


async def test_workers_tell_of_themselves(queue: JobQueue) -> None:
    card = WorkerCard("w", "host", 1, "cpu", ["toy"], 0, 16)
    await queue.announce(card)
    (told,) = await queue.workers()
    assert told.models == ["toy"]
    assert told.heartbeat_at_ms > 0
    await queue.announce(card, ttl_s=30)
    assert len(await queue.workers()) == 1
    await queue.retire("w")
    assert await queue.workers() == []


async def test_depth_and_ping(queue: JobQueue) -> None:
    for job_id in "abc":
        await queue.enqueue(new_job(job_id))
    await claim_ids(queue, room=1)
    assert await queue.depth() == {"queued": 2, "running": 1}
    assert await queue.ping() > 0


async def test_many_are_queued_and_followed_in_one_go(open_queue: Open) -> None:
    queue = open_queue(max_queued=3)
    await queue.enqueue(new_job("a"))
    jobs = [new_job("a"), new_job("a", rows=2), new_job("b"), new_job("c"), new_job("d")]
    same, other, *fresh, late = await queue.enqueue_many(jobs)
    assert isinstance(same, tuple)
    assert (same[0].id, same[1]) == ("a", False)
    assert isinstance(other, IdempotencyConflict)
    assert [isinstance(one, tuple) and one[1] for one in fresh] == [True, True]
    assert isinstance(late, QueueFull)
    await queue.cancel("b")
    assert await queue.statuses(["d", "b", "a"]) == [None, JobStatus.CANCELED, JobStatus.QUEUED]
    assert await queue.statuses([]) == []
