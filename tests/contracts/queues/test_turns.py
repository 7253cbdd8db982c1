"""Whose turn it is, and when there is no room."""

import asyncio
from typing import Any

import pytest

from app.queue.base import JobQueue
from app.queue.refusals import LimitReached, QueueFull
from tests.contracts.queues.asking import TOY, Open, claim_ids
from tests.queued import new_job


async def test_the_bound_is_exact_under_many_producers(open_queue: Open) -> None:
    queue = open_queue(max_queued=33)
    await queue.enqueue(new_job("running"))
    await claim_ids(queue)

    waits: list[int] = []

    async def produce(producer: int) -> int:
        accepted = 0
        for k in range(4):
            try:
                await queue.enqueue(new_job(f"{producer}-{k}"))
                accepted += 1
            except QueueFull as full:
                waits.append(full.retry_after_s)
        return accepted

    assert sum(await asyncio.gather(*(produce(k) for k in range(50)))) == 32
    assert len(waits) == 200 - 32
    assert all(1 <= wait_s <= 60 for wait_s in waits)
    await queue.cancel("running")
    await queue.stop("w", "running")
    await queue.enqueue(new_job("last"))
    with pytest.raises(QueueFull):
        await queue.enqueue(new_job("too many"))
    with pytest.raises(QueueFull):
        await queue.retry("running")


async def test_jobs_that_come_together_find_room_all_or_none(open_queue: Open) -> None:
    queue = open_queue(max_queued=100)
    jobs = [new_job(f"j{k}") for k in range(40)]
    await queue.enqueue(new_job("first"))
    answers = await open_queue(max_queued=40).enqueue_many(jobs, together=True)
    assert len(answers) == 40
    assert all(isinstance(answer, QueueFull) for answer in answers)
    assert await queue.depth() == {"queued": 1, "running": 0}
    await queue.enqueue(jobs[3])
    answers = await open_queue(max_queued=42).enqueue_many(jobs, together=True)
    assert [answer[1] for answer in answers if isinstance(answer, tuple)] == [k != 3 for k in range(40)]
    assert [one for one in await queue.enqueue_many(jobs, together=True) if one[1]] == []  # pyright: ignore
    assert await queue.enqueue_many([], together=True) == []


async def test_what_an_account_may_is_counted_for_all_that_come_together(queue: JobQueue) -> None:
    async def come(ids: str, **limits: float) -> list[type]:
        jobs = [new_job(one, account="ann", limits={**limits, "spent": 10}) for one in ids]
        return [type(answer) for answer in await queue.enqueue_many(jobs, together=True)]

    for limits in ({"max_open": 2}, {"per_minute": 2}, {"pixel_steps": 25}):
        assert await come("abc", **limits) == [LimitReached] * 3
    assert await come("ab", max_open=2, per_minute=2, pixel_steps=25) == [tuple] * 2
    for limits in ({"max_open": 2}, {"per_minute": 2}, {"pixel_steps": 25}):
        assert await come("d", **limits) == [LimitReached]


async def test_a_light_client_does_not_wait_behind_a_heavy_one(queue: JobQueue) -> None:
    for k in range(100):
        await queue.enqueue(new_job(f"heavy{k}", client="heavy"))
    for k in range(5):
        await queue.enqueue(new_job(f"light{k}", client="light"))
    order = await claim_ids(queue, room=1000)
    places = [order.index(f"light{k}") for k in range(5)]
    assert places == sorted(places)
    assert places[-1] <= 10


async def test_priorities_share_by_weight_and_none_starves(queue: JobQueue) -> None:
    for k in range(64):
        for priority in ("batch", "normal", "interactive"):
            await queue.enqueue(new_job(f"{priority}{k}", priority=priority, client=priority))
    order = await claim_ids(queue, room=42)
    counts = {name: sum(job_id.startswith(name) for job_id in order) for name in ("batch", "normal", "inter")}
    assert counts["batch"] >= 1
    assert counts["normal"] == pytest.approx(8, abs=1)
    assert counts["inter"] == pytest.approx(32, abs=1)


async def test_clients_share_by_their_weights(queue: JobQueue) -> None:
    for k in range(40):
        for client, weight in (("one", 1.0), ("three", 3.0)):
            await queue.enqueue(new_job(f"{client}{k}", client=client, weight=weight))
    order = await claim_ids(queue, room=40)
    assert sum(job_id.startswith("three") for job_id in order) == pytest.approx(30, abs=1)


async def test_an_interactive_job_does_not_wait_behind_its_own_clients_batch(queue: JobQueue) -> None:
    for k in range(100):
        await queue.enqueue(new_job(f"batch{k}", priority="batch"))
    await queue.enqueue(new_job("now", priority="interactive"))
    assert "now" in await claim_ids(queue, room=3)


async def test_a_model_and_a_client_have_bounds_of_their_own(open_queue: Open) -> None:
    queue = open_queue(max_queued_per_model=3, max_queued_per_client=2)

    async def refused(job_id: str, **changes: Any) -> str:
        with pytest.raises(QueueFull) as full:
            await queue.enqueue(new_job(job_id, **changes))
        return full.value.of

    await queue.enqueue(new_job("a", client="x"))
    await queue.enqueue(new_job("b", client="x"))
    assert await refused("c", client="x") == "client"
    await queue.enqueue(new_job("c", client="y"))
    assert await refused("d", client="y") == "model"
    await queue.enqueue(new_job("d", client="y", model="other"))
    await queue.cancel("a")
    await queue.enqueue(new_job("e", client="x"))
    with pytest.raises(QueueFull):
        await queue.retry("a")


async def test_a_worker_takes_what_it_has_loaded_first_but_not_for_long(open_queue: Open) -> None:
    queue = open_queue()
    await queue.enqueue(new_job("far", model="other"))
    for job_id in ("near1", "near2"):
        await queue.enqueue(new_job(job_id))
    models = ["other", "toy"]
    assert [claim.id for claim in await queue.claim("w", models, 1, loaded=TOY)] == ["near1"]
    impatient = open_queue(swap_after_ms=0)
    assert [claim.id for claim in await impatient.claim("w", models, 1, loaded=TOY)] == ["far"]
    await queue.release("w", ["far"])
    assert [claim.id for claim in await queue.claim("w", models, 1, loaded=TOY)] == ["near2"]
    assert [claim.id for claim in await queue.claim("w", models, 1, loaded=TOY)] == ["far"]
