"""What the queue costs: rates, cost per job at any length of the line, memory, delivery to listeners.

Run: `python -m benchmarks.queue [--jobs 100000]`. It starts its own server (AOF on, one client process, unix
socket), prints a table, and one JSON line at the end. No-op jobs: the queue is all there is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis
from tqdm import tqdm
from ulid import ULID

from app.jobs import JobResult, Nfe, Progress, Resolved, Timings
from app.queue.base import Beat, NewJob
from app.queue.embedded import embedded_server
from app.queue.redis import RedisQueue
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


async def rate(count: int, call: Callable[[int], Awaitable[object]], tasks: int = 1) -> float:
    """Calls per second, `count` of them from `tasks` tasks."""

    async def some(begin: int) -> None:
        for k in range(begin, count, tasks):
            await call(k)

    began = time.perf_counter()
    await asyncio.gather(*(some(k) for k in range(tasks)))
    return count / (time.perf_counter() - began)


async def drain(queue: RedisQueue, count: int, room: int) -> float:
    """Jobs per second that one worker claims and finishes, claims of `room` rows and the finishes at once."""
    done, began = 0, time.perf_counter()
    while done < count:
        claims = await queue.claim("w", ["emoji"], room)
        await asyncio.gather(*(queue.finish("w", claim.id, RESULT) for claim in claims))
        done += len(claims)
    return done / (time.perf_counter() - began)


async def cost_at_length(queue: RedisQueue, samples: int = 400) -> float:
    """Median milliseconds of enqueue + claim + beat + finish of one job."""
    spent: list[float] = []
    for _ in range(samples):
        job = new_job()
        began = time.perf_counter()
        await queue.enqueue(job)
        (claim,) = await queue.claim("w", ["emoji"], 1)
        await queue.beat("w", [Beat(claim.id, Progress(step=1, total=25))])
        await queue.finish("w", claim.id, RESULT)
        spent.append((time.perf_counter() - began) * 1e3)
    return statistics.median(spent)


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


async def measure(url: str, jobs: int) -> dict[str, float]:
    queue = RedisQueue(url, "bench", max_queued=10**7)
    client: Redis = Redis.from_url(url, decode_responses=True)
    found: dict[str, float] = {}
    few = 2_000

    async def batch(_: int) -> object:
        return await queue.enqueue_many([new_job() for _ in range(500)])

    found["enqueue_per_s"] = await rate(few, lambda k: queue.enqueue(new_job(k % 10)))
    found["enqueue_16_tasks_per_s"] = await rate(few, lambda k: queue.enqueue(new_job(k % 10)), tasks=16)
    found["enqueue_many_per_s"] = 500 * await rate(10, batch)
    found["claim_finish_singly_per_s"] = await drain(queue, few, 1)
    found["claim_finish_by_8_per_s"] = await drain(queue, 2 * few, 16)  # a job with CFG has two rows
    while await drain(queue, 500, 64) and (await queue.depth())["queued"] > 500:
        pass
    found["listeners_1000_p99_ms"] = await listeners(queue)

    await client.flushall()
    empty = (await client.info("memory"))["used_memory"]
    queued = 0
    with tqdm(total=jobs, unit="job", desc="filling the line") as bar:
        for length in [10**k for k in range(3, 9) if 10**k <= jobs]:
            while queued < length:
                await queue.enqueue_many([new_job(k % 10) for k in range(500)])
                queued += 500
                bar.update(500)
            found[f"ms_per_job_at_{length}"] = await cost_at_length(queue)
            used = (await client.info("memory"))["used_memory"] - empty
            found[f"bytes_per_job_at_{length}"] = used / length
    await queue.close()
    await client.aclose()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="the longest line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder)) as url:
        found = asyncio.run(measure(url, options.jobs))
    found["load_average"] = os.getloadavg()[0]
    for name, value in found.items():
        print(f"{name:32} {value:12.2f}")
    print(json.dumps({"benchmark": "queue"} | {name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
