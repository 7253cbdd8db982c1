"""What the service adds to a job: HTTP, queue, scoring, PNG and storing, beyond encoding, sampling, decoding.

    python -m benchmarks.service_overhead [--url http://127.0.0.1:8000] [--jobs 40] [--model emoji]

One job at a time against an idle service; without --url one is started in a temporary directory and stopped
again. Per job: the wall time of `POST /v1/jobs` with `Prefer: wait` minus what the worker's own clocks say of
the model's work (`encode_ms + denoise_ms + decode_ms`). Goal: at most 30 ms at p50.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks import pairing

GOAL_P50_MS = 30.0
START_S = 120.0


@contextmanager
def service() -> Iterator[str]:
    """A service of our own on a free port, with one worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "LODESTAR_PORT": str(port),
            "LODESTAR_DATA_DIR": folder,
            "LODESTAR_WORKERS": "1",
        }
        log = Path(folder) / "serve.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "app", "serve"]
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
            try:
                url = f"http://127.0.0.1:{port}"
                wait_until_ready(url, process, log)
                yield url
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the service did not get ready:\n{log.read_text()[-3000:]}")


def overheads(url: str, model: str, jobs: int, steps: int) -> list[dict[str, float]]:
    """Per job the wall time, the model's share and the rest, in ms."""
    found: list[dict[str, float]] = []
    with httpx.Client(base_url=url, timeout=120, headers={"Prefer": "wait=60"}) as client:
        for seed in range(jobs + 2):
            body = {"model": model, "prompt": "a red apple, 3d", "seeds": [seed], "steps": steps}
            began = time.perf_counter()
            answer = client.post("/v1/jobs", json=body)
            wall_ms = (time.perf_counter() - began) * 1e3
            job: dict[str, Any] = answer.raise_for_status().json()
            if job["status"] != "succeeded":
                raise RuntimeError(f"job {job['id']} is {job['status']}: {job.get('error')}")
            if seed < 2:
                continue  # the first ones load the model and fill caches
            spent = job["timings"]
            model_ms = spent["encode_ms"] + spent["denoise_ms"] + spent["decode_ms"]
            row = {"wall_ms": wall_ms, "model_ms": model_ms, "overhead_ms": wall_ms - model_ms}
            found.append(row | {name: spent[name] for name in ("queue_ms", "score_ms", "store_ms")})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="of a running, idle service; one is started without it")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--model", default="emoji")
    options = parser.parse_args()
    if options.url:
        rows = overheads(options.url, options.model, options.jobs, options.steps)
    else:
        with service() as url:
            rows = overheads(url, options.model, options.jobs, options.steps)
    medians = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
    p95 = sorted(row["overhead_ms"] for row in rows)[int(0.95 * len(rows))]
    for name, value in medians.items():
        print(f"  {name:12s} p50 {value:9.2f}")
    p50 = medians["overhead_ms"]
    pairing.finish("service_overhead", p50 <= GOAL_P50_MS, jobs=len(rows), p95_ms=round(p95, 2), p50=medians)


if __name__ == "__main__":
    main()
