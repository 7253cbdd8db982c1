"""What the queue costs: rates, cost per job at any length of the line, memory, delivery to listeners.

Run: `python -m benchmarks.queue [--jobs 1000000] [--others]`. It starts its own server (AOF on, one client
process, unix socket), prints a table, and one JSON line at the end. No-op jobs: the queue is all there is.
`bare_http` is an endpoint of FastAPI that does nothing; what `http_submit` takes beyond it is ours.
On a machine that does other work, begin with `chrt -r 5` (Linux, as root): it takes turns before all others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Sequence
from contextlib import ExitStack
from pathlib import Path

from redis.asyncio import Redis
from tqdm import tqdm
from ulid import ULID

from app.jobs import JobResult, Nfe, Progress, Resolved, Timings
from app.queue.base import Beat, NewJob
from app.queue.embedded import embedded_server
from app.queue.redis import RedisQueue
from benchmarks.http_load import api_process, cpu_s, post
from guidance.cfg import CFG

RESULT = JobResult(images=[], nfe=Nfe(model=50), timings=Timings())
PROMPT = "a red apple on a wooden table, studio light, 3d, highly detailed"


def new_job(client: int = 0) -> NewJob:
    resolved = Resolved(
        model="emoji", prompt=PROMPT, negative_prompt="", seeds=[1], width=64, height=64, steps=25,
        sampler="ddim", guidance=CFG(scale=4), metrics=["basic"], preview_every=0, priority="normal",
    )  # fmt: skip
    asked = {"prompt": PROMPT, "seeds": [1], "guidance": {"method": "cfg", "scale": 4}}
    return NewJob(str(ULID()), resolved, asked, group="64x64", client=f"client{client}")


class Meter:
    """Measures one part: jobs per second, and CPU microseconds per job here and in the server.

    The CPU figures mean the same on a busy machine; the rates do not.
    """

    def __init__(self, redis: Redis, found: dict[str, float]) -> None:
        self._redis = redis
        self._found = found

    async def __call__(self, name: str, jobs: int, work: Awaitable[object]) -> None:
        server, client, began = await self._server_s(), time.process_time(), time.perf_counter()
        await work
        spent = time.perf_counter() - began
        self._found[f"{name}_per_s"] = jobs / spent
        self._found[f"{name}_client_us"] = (time.process_time() - client) / jobs * 1e6
        self._found[f"{name}_server_us"] = (await self._server_s() - server) / jobs * 1e6

    async def _server_s(self) -> float:
        cpu = await self._redis.info("cpu")
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"]


async def enqueue(queue: RedisQueue, count: int, tasks: int = 1) -> None:
    """Enqueue one by one from each of `tasks` tasks."""

    async def some() -> None:
        for k in range(count // tasks):
            await queue.enqueue(new_job(k % 10))

    await asyncio.gather(*(some() for _ in range(tasks)))


async def enqueue_many(queue: RedisQueue, jobs: Sequence[NewJob]) -> None:
    """Enqueue as the batch client does, many at once."""
    for begin in range(0, len(jobs), 500):
        await queue.enqueue_many(jobs[begin : begin + 500])


async def drain(queue: RedisQueue, count: int, room: int) -> None:
    """Claim by `room` rows and finish what was claimed at once, `count` jobs."""
    while count > 0:
        claims = await queue.claim("w", ["emoji"], room)
        await asyncio.gather(*(queue.finish("w", claim.id, RESULT) for claim in claims))
        count -= len(claims)


async def traffic(queue: RedisQueue, count: int) -> None:
    """The whole life of `count` jobs, eight at a time: enqueue, claim, beat, finish."""
    for _ in range(count // 8):
        await asyncio.gather(*(queue.enqueue(new_job(k)) for k in range(8)))
        claims = await queue.claim("w", ["emoji"], 16)
        await queue.beat("w", [Beat(claim.id, Progress(step=1, total=25)) for claim in claims])
        await asyncio.gather(*(queue.finish("w", claim.id, RESULT) for claim in claims))


async def listeners(queue: RedisQueue, count: int = 1000) -> float:
    """p99 in milliseconds from a worker's beat to `count` listeners of as many jobs."""
    jobs = [new_job() for _ in range(count)]
    for job in jobs:
        await queue.enqueue(job)
    held: list[str] = []
    while claims := await queue.claim("w", ["emoji"], 64):
        held += [claim.id for claim in claims]
    late: list[float] = []
    sent: dict[str, float] = {}

    async def listen(job_id: str) -> None:
        events = queue.listen(job_id)
        await queue.get(job_id)
        ready.release()
        await anext(events)
        late.append((time.perf_counter() - sent[job_id]) * 1e3)

    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(listen(job_id)) for job_id in held]
    for _ in held:
        await ready.acquire()
    for begin in range(0, len(held), 16):
        some = held[begin : begin + 16]
        sent |= dict.fromkeys(some, time.perf_counter())
        await queue.beat("w", [Beat(job_id, Progress(step=1, total=25)) for job_id in some])
    await asyncio.gather(*tasks)
    await asyncio.gather(*(queue.finish("w", job_id, RESULT) for job_id in held))
    return statistics.quantiles(late, n=100)[98]


async def measure_rates(url: str, jobs: int = 2_000) -> dict[str, float]:
    """What clients and workers can do, and how fast listeners hear of it."""
    found: dict[str, float] = {}
    queue = RedisQueue(url, max_queued=10**7)
    async with Redis.from_url(url, decode_responses=True) as redis:
        meter = Meter(redis, found)
        await enqueue(queue, 16)  # load the scripts
        await drain(queue, 16, 8)
        await meter("enqueue", jobs, enqueue(queue, jobs))
        await meter("claim_finish", jobs, drain(queue, jobs, 1))
        await meter("enqueue_16_tasks", jobs, enqueue(queue, jobs, 16))
        await meter("claim_finish_by_8", jobs, drain(queue, jobs, 16))  # a job with CFG has two rows
        many = [new_job(k % 10) for k in range(2 * jobs)]
        await meter("enqueue_500_piped", 2 * jobs, enqueue_many(queue, many))
        await meter("claim_finish_by_64", 2 * jobs, drain(queue, 2 * jobs, 128))
        found["listeners_1000_p99_ms"] = await listeners(queue)
    await queue.close()
    return found


async def measure_http(url: str, folder: str, jobs: int) -> dict[str, float]:
    """What one API process takes in, from clients that cost little, and what FastAPI alone would."""
    body = json.dumps({"prompt": PROMPT, "seeds": [1], "guidance": {"method": "cfg", "scale": 4}}).encode()
    found: dict[str, float] = {}
    async with Redis.from_url(url, decode_responses=True) as redis:
        for name, app in [
            ("http_submit", "app.api.main:create_app"),
            ("bare_http", "benchmarks.http_load:bare"),
        ]:
            with api_process(url, folder, app) as (port, pid):
                await post(port, "/v1/jobs", body, 512)
                meter, began = Meter(redis, found), cpu_s(pid)
                await meter(name, jobs, post(port, "/v1/jobs", body, jobs))
                found[f"{name}_api_us"] = (cpu_s(pid) - began) / jobs * 1e6
    return found


async def measure_others(url: str, jobs: int) -> dict[str, float]:
    """The same jobs through general task queues, which are installed for this alone."""
    from benchmarks import task_queues

    found: dict[str, float] = {}
    payload = new_job().resolved.model_dump(mode="json")
    async with Redis.from_url(url, decode_responses=True) as redis:
        for through in task_queues.ALL:
            await through(url, payload, jobs, Meter(redis, found))
    return found


async def measure_line(
    urls: Sequence[str], longest: int, turns: int = 9, jobs: int = 400
) -> dict[str, float]:
    """What a job costs the server, in time and memory, by the length of the line.

    Each length has a server of its own. They are measured in turns, so that whatever else the machine does
    meets all of them, and the median of the turns counts.
    """
    found: dict[str, float] = {}
    lengths = [longest // 10**k for k in reversed(range(len(urls)))]
    queues = [RedisQueue(url, max_queued=10**8) for url in urls]
    servers = [Redis.from_url(url, decode_responses=True) for url in urls]
    costs: dict[int, list[float]] = {length: [] for length in lengths}
    with tqdm(total=sum(lengths), unit="job", desc="filling the lines") as bar:
        for queue, redis, length in zip(queues, servers, lengths, strict=True):
            await traffic(queue, 16)
            empty = (await redis.info("memory"))["used_memory"]
            for _ in range(0, length, 500):
                await enqueue_many(queue, [new_job(k % 10) for k in range(500)])
                bar.update(500)
            found[f"bytes_per_job_at_{length}"] = (
                (await redis.info("memory"))["used_memory"] - empty
            ) / length
    for turn in range(turns + 1):
        for queue, redis, length in zip(queues, servers, lengths, strict=True):
            spent: dict[str, float] = {}
            await Meter(redis, spent)("traffic", jobs, traffic(queue, jobs))
            if turn:  # the first one warms up
                costs[length].append(spent["traffic_server_us"])
    found |= {f"traffic_at_{length}_server_us": statistics.median(some) for length, some in costs.items()}
    found["line_cost_ratio"] = statistics.median(costs[lengths[-1]]) / statistics.median(costs[lengths[0]])
    for queue, redis in zip(queues, servers, strict=True):
        await queue.close()
        await redis.aclose()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="the longest line")
    parser.add_argument("--rates", type=int, default=4_000, help="jobs per rate")
    parser.add_argument("--others", action="store_true", help="arq, saq and taskiq too (the group `bench`)")
    options = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder)) as url:
        found |= asyncio.run(measure_rates(url, options.rates))
        found |= asyncio.run(measure_http(url, folder, options.rates))
    if options.others:
        with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder)) as url:
            found |= asyncio.run(measure_others(url, options.rates))
    with ExitStack() as stack:
        count = sum(10**k <= options.jobs for k in range(3, 9))
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(count)]
        urls = [stack.enter_context(embedded_server(Path(folder))) for folder in folders]
        found |= asyncio.run(measure_line(urls, options.jobs))
    found["load_average"] = os.getloadavg()[0]
    for name, value in found.items():
        print(f"{name:36} {value:12.2f}")
    print(json.dumps({"benchmark": "queue"} | {name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
