"""The whole service against LitServe and a bare FastAPI server around the same diffusers pipeline.

    pip install --group bench
    python -m benchmarks.serving [--requests 32] [--burst 32] [--rates 0.3 0.5 0.8 1.2 1.7 2.3]

The built-in model on one thread a server, pictures by HTTP, the same Poisson traces of mixed steps, samplers
and scales (1 is no guidance, which is all that the pipeline has besides CFG). Our side is everything: HTTP,
Redis, worker, storage. Pictures are compared first. Then, server by server:

* throughput at saturation: `--burst` requests at once, pictures per second;
* goodput: the highest rate whose p95 slowdown is at most 3, where slowdown is a request's latency over that
  of the same request alone at the bare server, and rates are multiples of what that server can do.

All three run at the same time and only one is asked at a time. Goal: twice LitServe's goodput.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any, Protocol

import httpx
import numpy as np
from PIL import Image

from benchmarks import pairing
from benchmarks.baselines import SCHEDULERS, Ask
from benchmarks.service_overhead import service

PROMPTS = ("a red apple, 3d", "tiger face, flat", "slice of pizza", "sunflower, on a blue background")
STEPS, SCALES = (4, 6, 8, 12), (4.0, 4.0, 4.0, 1.0)
SLOWDOWN_MAX, GOAL_RATIO, GOAL_LEVELS = 3.0, 2.0, 2


def trace(count: int, seed: int) -> list[Ask]:
    """Mixed requests, the same for every server."""
    draw = random.Random(seed)
    return [
        Ask(
            prompt=draw.choice(PROMPTS),
            seed=i,
            steps=draw.choice(STEPS),
            sampler=draw.choice(list(SCHEDULERS)),
            scale=draw.choice(SCALES),
        )
        for i in range(count)
    ]


class Server(Protocol):
    """Where pictures come from."""

    async def picture(self, ask: Ask) -> bytes: ...


class Baseline:
    """Answers with the PNG itself."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def picture(self, ask: Ask) -> bytes:
        answer = await self._http.post("/predict", json=ask.model_dump())
        return answer.raise_for_status().content


class Lodestar:
    """Queues a job, waits for it, fetches the picture."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def picture(self, ask: Ask) -> bytes:
        guidance = {"method": "none"} if ask.scale == 1 else {"method": "cfg", "scale": ask.scale}
        body = {
            "prompt": ask.prompt, "seeds": [ask.seed], "steps": ask.steps, "sampler": ask.sampler,
            "guidance": guidance, "metrics": [],
        }  # fmt: skip
        answer = await self._http.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"})
        job: dict[str, Any] = answer.raise_for_status().json()
        while job["status"] not in ("succeeded", "failed"):
            job = (await self._http.get(f"/v1/jobs/{job['id']}", params={"wait": 60})).json()
        if job["status"] == "failed":
            raise RuntimeError(str(job["error"]))
        return (await self._http.get(job["images"][0]["url"])).raise_for_status().content


@contextmanager
def baseline(name: str) -> Iterator[str]:
    """A server of `benchmarks.baselines` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.baselines", name, str(port)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 180
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        else:
            raise RuntimeError(f"{name} did not start")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@asynccontextmanager
async def servers() -> AsyncIterator[dict[str, Server]]:
    """All three, each with a client of its own."""
    os.environ |= {"OMP_NUM_THREADS": "1", "LODESTAR_TORCH_THREADS": "1"}
    with ExitStack() as running:
        urls = {name: running.enter_context(baseline(name)) for name in ("fastapi", "litserve")}
        urls["lodestar"] = running.enter_context(service())
        limits = httpx.Limits(max_connections=None)
        clients = {
            name: httpx.AsyncClient(base_url=url, timeout=600, limits=limits) for name, url in urls.items()
        }
        try:
            yield {
                name: Lodestar(http) if name == "lodestar" else Baseline(http)
                for name, http in clients.items()
            }
        finally:
            for http in clients.values():
                await http.aclose()


async def latency_s(server: Server, ask: Ask) -> float:
    began = time.perf_counter()
    await server.picture(ask)
    return time.perf_counter() - began


async def apart(ours: Server, theirs: Server, asks: Sequence[Ask]) -> int:
    """The largest difference of any pixel, in levels of 255."""
    worst = 0
    for ask in asks:
        got, wanted = [
            np.asarray(Image.open(io.BytesIO(await server.picture(ask))).convert("RGB")).astype(int)
            for server in (ours, theirs)
        ]
        worst = max(worst, int(abs(got - wanted).max()))
    return worst


async def unloaded_s(server: Server) -> dict[tuple[int, bool], float]:
    """Latency alone, by step count and whether guided: the smallest of three."""
    found: dict[tuple[int, bool], float] = {}
    for steps in STEPS:
        for scale in set(SCALES):
            ask = Ask(prompt=PROMPTS[0], seed=1, steps=steps, sampler="ddim", scale=scale)
            found[steps, scale != 1] = min([await latency_s(server, ask) for _ in range(3)])
    return found


async def throughput(server: Server, asks: Sequence[Ask]) -> float:
    """Pictures per second when all are asked for at once."""
    began = time.perf_counter()
    await asyncio.gather(*(server.picture(ask) for ask in asks))
    return len(asks) / (time.perf_counter() - began)


@dataclass(frozen=True)
class Point:
    """One rate at one server. `rate` is a multiple of the bare server's capacity."""

    rate: float
    p50: float
    p95: float


async def slowdowns(
    server: Server, asks: Sequence[Ask], rate: float, capacity: float, alone: dict[tuple[int, bool], float]
) -> Point:
    """Ask along a Poisson trace of `rate * capacity` requests per second."""
    draw = random.Random(7)

    async def later(ask: Ask, at_s: float) -> float:
        await asyncio.sleep(at_s)
        return await latency_s(server, ask) / alone[ask.steps, ask.scale != 1]

    at_s, calls = 0.0, []
    for ask in asks:
        at_s += draw.expovariate(rate * capacity)
        calls.append(later(ask, at_s))
    slow = sorted(await asyncio.gather(*calls))
    return Point(rate, statistics.median(slow), slow[min(len(slow) - 1, int(0.95 * len(slow)))])


def goodput(points: Sequence[Point]) -> float:
    """The highest rate up to which every p95 slowdown is bearable."""
    bearable = takewhile(lambda point: point.p95 <= SLOWDOWN_MAX, points)
    return max((point.rate for point in bearable), default=0.0)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    async with servers() as asked:
        bare = asked["fastapi"]
        checks = trace(6, seed=3)
        for name in ("litserve", "lodestar"):
            levels = await apart(asked[name], bare, checks)
            print(f"{name}: pictures differ from the bare server's by {levels} of 255 at most", flush=True)
            if levels > GOAL_LEVELS:
                pairing.finish("serving", False, levels=levels)
        alone = await unloaded_s(bare)
        asks, burst = trace(options.requests, seed=1), trace(options.burst, seed=2)
        capacity = len(asks) / sum(alone[ask.steps, ask.scale != 1] for ask in asks)
        print(f"the bare server can do {capacity:.2f} pictures/s  (load average {os.getloadavg()[0]:.2f})")
        saturated = {name: await throughput(server, burst) for name, server in asked.items()}
        curves: dict[str, list[Point]] = {name: [] for name in asked}
        for rate in options.rates:  # rate by rate, so that all servers meet the same machine
            for name, server in asked.items():
                if curves[name] and curves[name][-1].p95 > SLOWDOWN_MAX:
                    continue
                point = await slowdowns(server, asks, rate, capacity, alone)
                curves[name].append(point)
                print(
                    f"  {name:9s} rate {rate:.2f}  slowdown p50 {point.p50:6.2f}  p95 {point.p95:6.2f}"
                    f"  (load average {os.getloadavg()[0]:.2f})",
                    flush=True,
                )
    return {
        "capacity": capacity,
        "throughput": saturated,
        "goodput": {name: goodput(points) for name, points in curves.items()},
        "curves": {name: [asdict(point) for point in points] for name, points in curves.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=32, help="per rate and server")
    parser.add_argument("--burst", type=int, default=32, help="at once, for the throughput")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 0.5, 0.8, 1.2, 1.7, 2.3])
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped too
    found = asyncio.run(measure(options))
    best, lit = found["goodput"]["lodestar"], found["goodput"]["litserve"]
    for name in found["goodput"]:
        print(
            f"  {name:9s} saturated {found['throughput'][name]:6.2f} pictures/s   goodput "
            f"{found['goodput'][name]:.2f} of the bare server's capacity"
        )
    ratio = best / lit if lit else float("inf") if best else 0.0
    print(f"goodput over LitServe's: {ratio:.2f}")
    pairing.finish("serving", ratio >= GOAL_RATIO, ratio=ratio if lit else None, **found)


if __name__ == "__main__":
    main()
