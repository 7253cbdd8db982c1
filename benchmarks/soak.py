"""Steady traffic for an hour: does the memory of API and worker stay flat? `python -m benchmarks.soak`.

A service of its own serves the analytic toy model. Clients send jobs without pause, read pictures, lists and
event streams, and cancel some. Memory is what Linux counts as resident, read from the /metrics of both
processes; the slope is fitted to the second half, when caches and pools have their size. Jobs are forgotten
after a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from app.client import AsyncClient

CATALOGUE = '[[models]]\nid = "toy"\nsource = "toy"\nwidth = 64\nheight = 64\nsteps = 4\n'
Sample = tuple[float, float, float]
"""Seconds since the beginning, bytes of the API, bytes of the worker."""


def main() -> None:
    """Run the traffic, and print what memory did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--sample-s", type=float, default=5)
    given = parser.parse_args()
    with service() as (url, worker_url):
        jobs, samples = asyncio.run(soak(url, worker_url, given.minutes * 60, given.clients, given.sample_s))
    for at_s, api, worker in samples[:: max(1, len(samples) // 20)]:
        print(f"{at_s:7.0f} s   API {api / 1e6:7.1f} MB   worker {worker / 1e6:7.1f} MB")
    told = {"program": "soak", "minutes": given.minutes, "jobs": jobs}
    for place, name in ((1, "api"), (2, "worker")):
        values = [(one[0], one[place]) for one in samples]
        told[f"{name}_last_mb"] = round(values[-1][1] / 1e6, 1)
        told[f"{name}_mb_per_hour"] = round(slope(values[len(values) // 2 :]) * 3600 / 1e6, 2)
    print(json.dumps(told))


def slope(values: Sequence[tuple[float, float]]) -> float:
    """What the second number gains per unit of the first, by least squares."""
    times, sizes = np.array(values).T
    return float(np.polyfit(times - times[0], sizes, 1)[0])


async def soak(
    url: str, worker_url: str, seconds: float, clients: int, sample_s: float
) -> tuple[int, list[Sample]]:
    """The number of jobs that ended, and the samples."""
    began, done, samples = time.monotonic(), 0, list[Sample]()

    async def work(number: int) -> None:
        nonlocal done
        async with AsyncClient(url) as client:
            for turn in itertools.count(number):
                if time.monotonic() - began > seconds:
                    return
                job = await client.submit("high", seeds=[turn], preview_every=2)
                if turn % 10 == 3:
                    await client.cancel(job)
                elif turn % 10 == 5:
                    async for _ in client.stream(job):
                        pass
                ended = await client.wait(job, timeout_s=60)
                if ended.status == "succeeded":
                    await client.image(ended)
                done += 1

    async def watch() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            while (at_s := time.monotonic() - began) < seconds:
                sizes = [await resident_bytes(http, one) for one in (url, worker_url)]
                samples.append((at_s, *sizes))
                await http.get(f"{url}/v1/jobs", params={"limit": 50})
                await asyncio.sleep(sample_s)

    await asyncio.gather(watch(), *(work(number) for number in range(clients)))
    return done, samples


async def resident_bytes(http: httpx.AsyncClient, url: str) -> float:
    """The resident memory of the process that shows its metrics there."""
    shown = (await http.get(f"{url}/metrics")).text
    found = re.search(r"^process_resident_memory_bytes (\S+)$", shown, re.MULTILINE)
    assert found is not None, "Linux alone tells"
    return float(found[1])


@contextmanager
def service() -> Generator[tuple[str, str]]:
    """A service for the time of the block: where it is, and where its worker shows its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "models.toml"
        catalogue.write_text(CATALOGUE)
        told = {
            "LODESTAR_CATALOGUE": str(catalogue),
            "LODESTAR_METRICS_PORT": str(port),
            "LODESTAR_RESULT_TTL_S": "60",
        }
        command = [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", f"{folder}/data"]
        with subprocess.Popen(command, env=os.environ | told, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if found := re.search(r"ready +(http://\S+)", line):
                        yield found[1], f"http://127.0.0.1:{port}"
                        return
                sys.exit("the service did not start")
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
