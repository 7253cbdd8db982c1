"""What is special to Redis: nothing is left over, nothing is in two places, commands may be sent twice."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.costs import Cost
from app.jobs import RUNNING, TERMINAL, JobRecord, JobStatus
from app.queue.base import Beat, WorkerCard
from app.queue.embedded import embedded_server
from app.queue.keys import Key, Keys
from app.queue.redis import RedisQueue
from app.queue.refusals import JobRunning
from app.queue.scripts import SCRIPTS
from app.settings import Settings
from tests.queued import CRASH, RESULT, new_job

MODELS = ["toy", "other"]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def keys(redis_prefix: str) -> Keys:
    return Keys(redis_prefix)


async def kinds(redis: Redis, keys: Keys) -> set[str]:
    return {key.removeprefix(keys.root) for key in await redis.keys(f"{keys.root}*")}


async def test_nothing_is_left_of_a_deleted_job(redis: Redis, keys: Keys, queue: RedisQueue) -> None:
    await queue.enqueue(new_job("a", tags=["t"], metadata={"k": "v"}, idempotency_key="i"))
    await queue.claim("w", MODELS, 1)
    await queue.beat("w", [Beat("a")])
    await queue.fail("w", "a", CRASH.model_copy(update={"retryable": False}))
    assert await redis.xlen(keys(Key.DEAD)) == 1
    await queue.delete("a")
    await queue.claim("w", MODELS, 1)
    left = await kinds(redis, keys) - {Key.CLOCK, Key.PACE, Key.TALLY, Key.LITTER, Key.DEAD}
    assert left == set()
    assert await redis.xlen(keys(Key.DEAD)) == 0


async def test_groups_leave_no_trace_when_they_are_empty(redis: Redis, keys: Keys, queue: RedisQueue) -> None:
    count = 300
    outcomes = await queue.enqueue_many([new_job(f"j{k}", group=f"g{k}") for k in range(count)])
    assert all(isinstance(outcome, tuple) and outcome[1] for outcome in outcomes)
    for _ in range(count):
        assert len(await queue.claim("w", MODELS, 1)) == 1
    assert not any(name.startswith((Key.WAITING, Key.GROUPS)) for name in await kinds(redis, keys))


async def test_scripts_are_loaded_again_when_the_server_forgot_them(redis: Redis, queue: RedisQueue) -> None:
    await queue.enqueue(new_job("a"))
    await redis.script_flush()
    assert [claim.id for claim in await queue.claim("w", MODELS, 1)] == ["a"]
    await redis.script_flush()
    ((job, created),) = await queue.enqueue_many([new_job("b")])
    assert created
    assert job.id == "b"


async def test_a_full_server_takes_no_job_and_lets_the_others_end(tmp_path: Any) -> None:
    with embedded_server(tmp_path) as url:
        queue = RedisQueue(url)
        async with Redis.from_url(url) as redis:
            await queue.enqueue(new_job("a"))
            await queue.claim("w", MODELS, 1)
            await queue.sweep()
            await queue.finish("w", "unknown", RESULT)
            await redis.config_set("maxmemory", 1)
            with pytest.raises(ResponseError, match="memory"):
                await queue.enqueue(new_job("b"))
            assert await queue.beat("w", [Beat("a")]) == {"a": "ok"}
            assert await queue.finish("w", "a", RESULT)
        await queue.close()


@pytest.mark.parametrize("name", SCRIPTS)
async def test_every_script_may_be_sent_twice(
    name: str, redis: Redis, keys: Keys, redis_url: str, redis_prefix: str
) -> None:
    """redis-py repeats a command whose answer was lost: twice leaves what once leaves (not so a claim)."""

    class Twice(RedisQueue):
        async def _run(self, script: str, args: Any) -> Any:
            if script == name:
                await super()._run(script, args)
            return await super()._run(script, args)

    queue = Twice(redis_url, redis_prefix, retry_backoff_ms=0, max_queued=5)
    for job_id in ("finished", "failed", "stopped", "released", "canceled"):
        await queue.enqueue(new_job(job_id, group=job_id))
    for _ in range(4):
        await queue.claim("w", MODELS, 1)
    await queue.beat("w", [Beat("finished"), Beat("failed")])
    assert await queue.finish("w", "finished", RESULT)
    assert await queue.fail("w", "failed", CRASH.model_copy(update={"retryable": False}))
    await queue.cancel("stopped")
    assert await queue.stop("w", "stopped")
    await queue.release("w", ["released"])
    await queue.cancel("canceled")
    await queue.retry("failed")
    await queue.sweep()
    assert await queue.delete("canceled") is not None
    assert await queue.position("released") == 0
    found = {job.id: job.status for job in (await queue.list()).records}
    assert found == {
        "finished": JobStatus.SUCCEEDED,
        "failed": JobStatus.QUEUED,
        "stopped": JobStatus.CANCELED,
        "released": JobStatus.QUEUED,
    }
    assert await redis.hgetall(keys(Key.CLIENTS)) == {"anonymous": "2"}
    assert not await redis.exists(keys(Key.HELD))
    await check_invariant(redis, keys)
    await queue.close()


async def test_a_queue_is_opened_by_the_settings(redis_url: str, redis_prefix: str) -> None:
    settings = Settings(redis_url=redis_url, redis_prefix=redis_prefix, max_attempts=7)
    queue = RedisQueue.connect(settings)
    job, _ = await queue.enqueue(new_job("a"))
    assert job.max_attempts == 7
    await queue.close()
    with pytest.raises(ValueError, match="redis_url"):
        RedisQueue.connect(Settings())


async def test_listeners_are_told_the_state_after_a_lost_connection(redis: Redis, queue: RedisQueue) -> None:
    await queue.enqueue(new_job("a"))
    events = queue.listen("a")
    await queue.get("a")
    await redis.client_kill_filter(_type="pubsub")
    await queue.cancel("a")
    async with asyncio.timeout(10):
        types = [(await anext(events)).type]
        while types[-1] != "canceled":
            types.append((await anext(events)).type)


async def test_dropped_listeners_are_unsubscribed(redis: Redis, keys: Keys, queue: RedisQueue) -> None:
    listeners = [queue.listen(f"j{k}") for k in range(500)]
    await queue.get("j0")
    own = [one for one in await redis.client_list(_type="pubsub") if one["sub"] == "501"]
    assert len(own) == 1, "one connection for all"
    assert len(await redis.pubsub_channels(f"{keys.root}events:j*")) == 500
    del listeners[1:]
    async with asyncio.timeout(10):
        while len(await redis.pubsub_channels(f"{keys.root}events:j*")) > 1:
            pass
    await queue.enqueue(new_job("j0"))
    assert (await anext(listeners[0])).type == "queued"


async def check_invariant(redis: Redis, keys: Keys) -> None:
    """Every open job is in exactly one place, ended ones are in none, and every count is right."""
    places: Counter[str] = Counter()
    best: dict[str, dict[str, float]] = {}
    for key in await redis.keys(f"{keys(Key.WAITING)}*"):
        line = await redis.zrange(key, 0, -1, withscores=True)
        model, group = key.removeprefix(keys(Key.WAITING)).split(":", 1)
        best.setdefault(model, {})[group] = line[0][1]
        places.update(job_id for job_id, _ in line)
    for model in MODELS:
        assert dict(await redis.zrange(keys(Key.GROUPS, model), 0, -1, withscores=True)) == best.get(
            model, {}
        )
    places.update(await redis.zrange(keys(Key.DELAYED), 0, -1))
    leased = set(await redis.zrange(keys(Key.LEASES), 0, -1))
    places.update(leased)

    held: Counter[str] = Counter()
    clients: Counter[str] = Counter()
    models: Counter[str] = Counter()
    expiring = set(await redis.zrange(keys(Key.DEADLINES), 0, -1))
    indexes = [await redis.zrange(keys(Key.STATUS, status), 0, -1) for status in JobStatus]
    ids = {job_id for index in indexes for job_id in index}
    for job_id in ids:
        job = await redis.hgetall(keys(Key.JOB, job_id))
        status = JobStatus(job["status"])
        assert places[job_id] == (0 if status in TERMINAL else 1)
        assert (job_id in leased) == (status in RUNNING) == ("owner" in job)
        for other in JobStatus:
            assert (await redis.zscore(keys(Key.STATUS, other), job_id) is not None) == (other == status)
        assert (await redis.zscore(keys(Key.EXPIRY), job_id) is not None) == (status in TERMINAL)
        if "owner" in job:
            held[job["owner"]] += 1
        if status not in TERMINAL:
            clients[job["client"]] += 1
            models[job["model"]] += 1
        assert (job_id in expiring) == ("deadline" in job and status == JobStatus.QUEUED)
    assert set(places) <= ids
    assert {w: int(n) for w, n in (await redis.hgetall(keys(Key.HELD))).items()} == dict(held)
    assert {c: int(n) for c, n in (await redis.hgetall(keys(Key.CLIENTS))).items()} == dict(clients)
    assert {m: int(n) for m, n in (await redis.hgetall(keys(Key.MODELS))).items()} == dict(models)
    flows = await redis.hkeys(keys(Key.FAIR))
    assert {flow.partition(":")[2] for flow in flows} <= set(clients)


@pytest.mark.parametrize("seed", range(2))
async def test_any_order_of_operations_keeps_the_invariant(
    seed: int, redis: Redis, keys: Keys, redis_url: str, redis_prefix: str
) -> None:
    """500 random operations by many workers and clients, with leases of a moment and of a minute."""
    chance = random.Random(seed)
    queues = [
        RedisQueue(redis_url, redis_prefix, lease_ms=lease_ms, retry_backoff_ms=backoff_ms, max_queued=40)
        for lease_ms, backoff_ms in [(3, 5), (60_000, 0)]
    ]
    ended: dict[str, JobRecord] = {}
    ids = [f"j{k}" for k in range(60)]
    for step in range(500):
        queue, worker, job_id = chance.choice(queues), f"w{chance.randrange(4)}", chance.choice(ids)
        match chance.choices(range(9), [6, 6, 3, 3, 2, 1, 1, 1, 1])[0]:
            case 0:
                job = new_job(
                    job_id,
                    rows=chance.randint(1, 3),
                    model=chance.choice(MODELS),
                    client=f"c{chance.randrange(3)}",
                    group=f"g{chance.randrange(3)}",
                    priority=chance.choice(["batch", "interactive"]),
                    delay_s=chance.choice([0, 0, 0.005]),
                    deadline_s=chance.choice([None, None, 0.01, 60]),
                )
                await queue.enqueue_many([job])
            case 1:
                await queue.claim(worker, MODELS, chance.randint(1, 6))
            case 2:
                await queue.beat(worker, [Beat(one) for one in chance.sample(ids, 10)])
            case 3:
                for one in chance.sample(ids, 20):
                    await queue.finish(worker, one, RESULT)
            case 4:
                for one in chance.sample(ids, 20):
                    await queue.fail(worker, one, CRASH)
            case 5:
                await queue.cancel(job_id)
                await queue.stop(worker, job_id)
            case 6:
                await queue.release(worker, chance.sample(ids, 20))
            case 7:
                ended.pop(job_id, None)
                if chance.random() < 0.5 and (await queue.depth())["queued"] < 30:
                    await queue.retry(job_id)
                else:
                    with suppress(JobRunning):
                        await queue.delete(job_id)
            case _:
                await queue.sweep()
        if step % 20 == 0 or step == 499:
            await check_invariant(redis, keys)
            for job in (await queue.list(limit=100, status=TERMINAL)).records:
                assert ended.setdefault(job.id, job) == job, "an ended job has changed"
    assert {job.status for job in ended.values()} == TERMINAL, "the walk has seen every ending"
    for queue in queues:
        await queue.close()


async def test_a_worker_of_a_newer_version_is_understood(redis: Redis, keys: Keys, queue: RedisQueue) -> None:
    cost = Cost("toy", 8, 8, "cfg", 2, 1, 1, 1)
    await queue.announce(WorkerCard("w", "host", 1, "cpu", ["toy"], 0, 16, costs=[cost]))
    told = json.loads(await redis.get(keys(Key.WORKER, "w")) or "")
    told["costs"][0]["joules"] = told["mood"] = 1
    await redis.set(keys(Key.WORKER, "w"), json.dumps(told))
    (card,) = await queue.workers()
    assert (card.models, list(card.costs)) == (["toy"], [cost])
