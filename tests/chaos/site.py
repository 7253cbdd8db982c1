"""A service that is broken on purpose, and its books: what was accepted, what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import torch
from redis.asyncio import Redis
from redis.exceptions import RedisError
from ulid import ULID

from app.background import pause
from app.jobs import TERMINAL, JobRecord, JobStatus, Resolved
from app.queue.base import NewJob
from app.queue.embedded import embedded_server, socket_path
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.base import job_prefix
from app.storage.opening import open_storage
from app.storage.png import encode_png
from guidance.asks import Conditions
from guidance.cfg import CFG
from samplers.driver import drive
from samplers.loop import batch, run
from samplers.models.toy import Toy
from samplers.noise import Noise
from samplers.steps import compile_plan
from tests.chaos.processes import Faults, send, start_api, start_worker
from tests.workers.serving import eventually
from workers.darkroom import decode

CATALOGUE = """
[[models]]
id = "toy"
source = "toy"
options = { delay_s = 0.01 }
"""
LEASE_MS = 800


@dataclass
class Outcome:
    """What a scenario came to."""

    scenario: str
    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    again: int = 0
    """Jobs that took more than one attempt."""
    images: int = 0
    recovery_s: float | None = None

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in sorted(self.ends.items()))
        recovery = "" if self.recovery_s is None else f"; recovered in {self.recovery_s:.2f} s"
        return (
            f"{self.scenario:44} {self.accepted:4} accepted: {ends}; {self.images} images right; "
            f"{self.again} taken over{recovery}"
        )


OUTCOMES: list[Outcome] = []
"""Of this session; printed at its end."""


class Site:
    """A queue server and a storage of its own, worker processes, and every job that was accepted."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._folder = folder
        self._server = ExitStack()
        catalogue = folder / "models.toml"
        catalogue.write_text(CATALOGUE)
        url = self._server.enter_context(embedded_server(folder / "redis"))
        self.settings = Settings(
            **{
                "redis_url": url,
                "data_dir": folder / "data",
                "catalogue": catalogue,
                "device": "cpu",
                "torch_threads": 1,
                "beat_ms": 20,
                "lease_ms": LEASE_MS,
                "retry_backoff_ms": 50,
                "max_attempts": 10,
                "drain_s": 30,
                "port": 0,
            }
            | settings
        )
        self.queue = RedisQueue.connect(self.settings)
        self.storage = open_storage(self.settings)
        self.accepted: set[str] = set()
        self._ends: Counter[str] = Counter()
        self._processes: list[BaseProcess] = []
        self._over = asyncio.Event()
        self._watching = asyncio.create_task(self._watch())

    @property
    def server_socket(self) -> str:
        """Where the server listens."""
        return str(socket_path(self._folder / "redis"))

    # Work

    async def submit(self, count: int, **changes: Any) -> list[str]:
        """Have `count` jobs of two images accepted."""
        jobs = [new_job(str(ULID()), **changes) for _ in range(count)]
        for job in jobs:
            await self.queue.enqueue(job)
            self.accepted.add(job.id)
        return [job.id for job in jobs]

    def worker(self, faults: Faults | None = None, **settings: Any) -> BaseProcess:
        """One more worker."""
        log = self._folder / f"worker{len(self._processes)}.log"
        process = start_worker(self.settings.model_copy(update=settings), log, faults)
        self._processes.append(process)
        return process

    async def api(self) -> BaseProcess:
        """An API process at `self.url`, as soon as it answers."""
        if not self.settings.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.settings = self.settings.model_copy(update={"port": free.getsockname()[1]})
        process = start_api(self.settings, self._folder / f"api{len(self._processes)}.log")
        self._processes.append(process)
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            while True:
                with suppress(httpx.TransportError):
                    if (await http.get("/healthz")).is_success:
                        return process
                assert process.is_alive(), self.logs()
                await asyncio.sleep(0.02)

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.settings.port}"

    async def gone(self, process: BaseProcess) -> int:
        """Wait for a process's end: its exit code."""
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode is not None, "it should have ended"
        return process.exitcode

    async def begun(self, some: int = 1) -> None:
        """Wait until some jobs are in workers' hands."""

        async def check() -> bool:
            return (await self.queue.depth())["running"] >= some

        await eventually(check)

    async def ended(self, ids: Iterable[str] | None = None, within_s: float = 100) -> list[JobRecord]:
        """Wait for the ends of these jobs, by default of all that were accepted."""
        ids = sorted(self.accepted if ids is None else ids)
        deadline = time.monotonic() + within_s
        while True:
            with suppress(RedisError, OSError):
                statuses = await self.queue.statuses(ids)
                if all(status in TERMINAL for status in statuses):
                    records = [await self.queue.get(job_id) for job_id in ids]
                    return [record for record in records if record is not None]
                late = Counter(str(status) for status in statuses)
                assert time.monotonic() < deadline, f"not over: {late}\n{self.logs()}"
            await asyncio.sleep(0.02)

    # Faults of the server

    async def kill_server(self) -> float:
        """Kill it with no time to write anything down; the moment in seconds."""
        async with Redis.from_url(str(self.settings.redis_url)) as redis:
            pid = (await redis.info("server"))["process_id"]
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self._server.close)
        return time.time()

    async def start_server(self) -> None:
        """Start it again on what it had written."""
        context = embedded_server(self._folder / "redis")
        await asyncio.to_thread(self._server.enter_context, context)

    async def turn_clock(self, ahead_s: int) -> None:
        """As a new primary whose clock is ahead sees it: every lease is that much older."""
        async with Redis.from_url(str(self.settings.redis_url)) as redis:
            script = (
                "for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do "
                "redis.call('ZINCRBY', KEYS[1], -ARGV[1], id) end"
            )
            await redis.eval(script, 1, f"{{{self.settings.redis_prefix}}}:leases", ahead_s * 1000)

    # The books

    async def audit(
        self, scenario: str, since: float | None = None, affected: Sequence[str] | None = None
    ) -> Outcome:
        """Wait for all ends and check them; `since`: when the fault came, in seconds, for the recovery."""
        records = await self.ended()
        assert {record.id for record in records} == self.accepted, "an accepted job is lost"
        assert await self._all_ids() == self.accepted, "there are jobs that nobody asked for"
        assert await self.queue.depth() == {"queued": 0, "running": 0}
        outcome = Outcome(scenario, len(records), Counter(record.status for record in records))
        for record in records:
            outcome.again += record.attempt > 1
            if record.status == JobStatus.SUCCEEDED:
                outcome.images += await self._right_images(record)
            assert self._ends[record.id] <= 1, f"{record.id} ended {self._ends[record.id]} times"
        if since is not None:
            of_fault = [one for one in records if affected is None or one.id in affected]
            completed = [(one.completed_at_ms or 0) / 1e3 for one in of_fault]
            outcome.recovery_s = min(at for at in completed if at >= since) - since
        OUTCOMES.append(outcome)
        return outcome

    async def _right_images(self, record: JobRecord) -> int:
        assert record.result is not None
        images = record.result.images
        assert [image.seed for image in images] == record.resolved.seeds
        for image in images:
            stored = await self.storage.get(image.key)
            assert stored is not None, f"{record.id} succeeded without its picture {image.index}"
            assert hashlib.sha256(stored).hexdigest() == image.sha256
            assert stored == right_png(record.resolved.prompt, image.seed)
        there = await self.storage.get_prefix(job_prefix(record.id, record.created_at_ms))
        assert len([key for key in there if key.endswith(".png")]) == len(images), "something is there twice"
        return len(images)

    async def _all_ids(self) -> set[str]:
        found: set[str] = set()
        after = None
        while True:
            page = await self.queue.list(limit=100, after=after)
            found |= {record.id for record in page.records}
            if not page.has_more:
                return found
            after = page.records[-1].id

    async def _watch(self) -> None:
        """Count the ends that are told of each job."""
        while not self._over.is_set():
            with suppress(RedisError, OSError):
                async with (
                    Redis.from_url(str(self.settings.redis_url), decode_responses=True) as redis,
                    redis.pubsub() as pubsub,
                ):
                    prefix = f"{{{self.settings.redis_prefix}}}:events:"
                    await pubsub.psubscribe(f"{prefix}*")
                    while not self._over.is_set():
                        message = await pubsub.get_message(timeout=0.1)
                        if message and message["type"] == "pmessage":
                            self._count(message["channel"].removeprefix(prefix), message["data"])
            await pause(0.05, self._over)

    def _count(self, job_id: str, event: str) -> None:
        if any(f'"type":"{end}"' in event for end in ("completed", "failed", "canceled", "expired")):
            self._ends[job_id] += 1

    def logs(self) -> str:
        """What the processes wrote last."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}"
            for log in sorted(self._folder.glob("*.log"))
        )

    async def close(self) -> None:
        """End everything."""
        self._over.set()
        await self._watching
        await self.queue.close()
        for process in self._processes:
            if process.is_alive():
                send(process, signal.SIGKILL)
            await asyncio.to_thread(process.join)
        await asyncio.to_thread(self._server.close)


def request(prompt: str, seeds: list[int]) -> Resolved:
    """What the jobs of the suite ask for."""
    return Resolved(
        model="toy", prompt=prompt, negative_prompt="", seeds=seeds, width=64, height=64, steps=4,
        sampler="ddim", guidance=CFG(scale=2), metrics=["basic"], preview_every=0, priority="normal",
    )  # fmt: skip


def new_job(job_id: str, prompt: str = "high", **changes: Any) -> NewJob:
    """A job of two images with seeds of its own."""
    resolved = request(prompt, seeds_of(job_id))
    return NewJob(job_id, resolved, {"prompt": prompt}, group="64x64", cost=4.0, **changes)


def seeds_of(name: str) -> list[int]:
    """Few in all, so that their right pictures are few."""
    seed = 2 * (crc32(name.encode()) % 8)
    return [seed, seed + 1]


@cache
def right_png(prompt: str, seed: int) -> bytes:
    """The bytes that this request must give, made here, without queue, worker or engine."""
    torch.set_num_threads(1)
    asked, model = request(prompt, [seed]), Toy()
    plan = compile_plan(asked.sampler, asked.steps, model.family, model.scheduler_config)
    encoded = model.encode([asked.prompt, asked.negative_prompt])
    noise = Noise(seed, model.latent_shape(64, 64), batch(asked.guidance))
    (final,), _ = drive(model, [run(plan, asked.guidance, Conditions(*encoded.conds), noise)])
    return encode_png(decode(model, final.latents), asked)
