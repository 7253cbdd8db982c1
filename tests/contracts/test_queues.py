"""What every job queue does. Leases are short, and nothing sleeps: `claim` waits for what falls due."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.jobs import JobEvent, JobStatus, Progress
from app.queue.base import Beat, IdempotencyConflict, JobQueue, JobRunning, QueueFull, WorkerCard
from app.queue.redis import RedisQueue
from tests.queued import CRASH, REFUSAL, RESULT, new_job

Open = Callable[..., JobQueue]
TOY = ["toy"]
HALF_WAY = Progress(step=2, total=4, stage="denoising")
LONG_MS, SHORT_MS = 60_000, 60


@pytest.fixture(params=[RedisQueue], ids=["redis"])
async def open_queue(
    request: pytest.FixtureRequest, redis_url: str, redis_prefix: str
) -> AsyncIterator[Open]:
    """Opens the test's queue, with settings."""
    opened: list[JobQueue] = []

    def open(**settings: Any) -> JobQueue:
        settings = {"lease_ms": LONG_MS, "retry_backoff_ms": 0} | settings
        opened.append(request.param(redis_url, redis_prefix, **settings))
        return opened[-1]

    yield open
    for queue in opened:
        await queue.close()


@pytest.fixture
def queue(open_queue: Open) -> JobQueue:
    return open_queue()


async def claim_ids(queue: JobQueue, worker: str = "w", room: float = 100, wait_s: float = 0) -> list[str]:
    return [claim.id for claim in await queue.claim(worker, TOY, room, wait_s)]


async def status(queue: JobQueue, job_id: str) -> JobStatus | None:
    job = await queue.get(job_id)
    return job.status if job else None


async def hear(queue: JobQueue, job_id: str, last: str, then: Callable[[], Any]) -> list[JobEvent]:
    """The events from before `then` until one of type `last`."""
    events = queue.listen(job_id)
    await queue.get(job_id)
    await then()
    heard: list[JobEvent] = []
    async with asyncio.timeout(10):
        async for event in events:
            heard.append(event)
            if event.type == last:
                break
    return heard


# From the line to the result


async def test_a_job_goes_from_the_line_to_its_result(queue: JobQueue) -> None:
    job, created = await queue.enqueue(new_job("a", tags=["t"], metadata={"k": "ü"}))
    assert created
    assert job == await queue.get("a")
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
    for job_id, group in [("a", "x"), ("b", "y"), ("c", "x")]:
        await queue.enqueue(new_job(job_id, group=group))
    assert [await queue.position(job_id) for job_id in "abc"] == [0, 1, 2]
    await claim_ids(queue, room=1)
    assert [await queue.position(job_id) for job_id in "abc"] == [None, 0, 1]
    assert await queue.position("unknown") is None


# Leases


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


# Failing, giving back


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


# Canceling


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


# Once


async def test_the_same_job_again_is_the_first_one(queue: JobQueue) -> None:
    first, _ = await queue.enqueue(new_job("a"))
    assert await queue.enqueue(new_job("a")) == (first, False)
    with pytest.raises(IdempotencyConflict):
        await queue.enqueue(new_job("a", prompt="other"))
    assert await claim_ids(queue) == ["a"]


async def test_an_idempotency_key_makes_one_job_per_client(queue: JobQueue) -> None:
    first, created = await queue.enqueue(new_job("a", idempotency_key="k"))
    assert created
    assert await queue.enqueue(new_job("b", idempotency_key="k")) == (first, False)
    assert (await queue.enqueue(new_job("c", idempotency_key="k", client="other")))[1]
    with pytest.raises(IdempotencyConflict):
        await queue.enqueue(new_job("d", idempotency_key="k", prompt="other"))
    assert await queue.get("b") is None
    await queue.delete("a")
    assert (await queue.enqueue(new_job("e", idempotency_key="k")))[1]


# Bounds, turns


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


# Again, gone


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
    assert [(one["attempt"], one["worker"], one["error"]["code"]) for one in letter.errors] == [
        (1, "dead", "worker_lost"),
        (2, "w", "internal_error"),
    ]
    assert await queue.retry("a")
    assert await queue.dead_letters() == []


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


# Lists


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
    with pytest.raises(ValueError, match="no job"):
        await queue.list(after="unknown")


# Events


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


# The rest


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
