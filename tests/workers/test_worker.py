import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from app.storage.local import LocalStorage

from app.jobs import TERMINAL, JobRecord, JobStatus, Resolved
from app.queue.base import JobQueue, NewJob
from app.settings import Settings
from guidance.cfg import CFG
from workers.shelf import ModelUnavailable
from workers.worker import PARENT, Worker, explain

CATALOGUE = """
[[models]]
id = "toy"
source = "toy"
options = { delay_s = 0.02 }

[[models]]
id = "slow"
source = "toy"
options = { delay_s = 0.25 }

[[models]]
id = "gone"
source = "/nowhere/gone"
"""


async def eventually(check: Callable[[], Awaitable[Any]], within_s: float = 60) -> Any:
    """The first true answer of `check`; fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if answer := await check():
            return answer
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in time")


def new_job(job_id: str, model: str = "toy", **changes: Any) -> NewJob:
    values: dict[str, Any] = {
        "model": model,
        "prompt": "high",
        "negative_prompt": "",
        "seeds": [1, 2],
        "width": 32,
        "height": 32,
        "steps": 4,
        "sampler": "ddim",
        "guidance": CFG(scale=2),
        "metrics": ["basic"],
        "preview_every": 0,
        "priority": "normal",
    }
    resolved = Resolved(**values | changes)
    return NewJob(job_id, resolved, {"prompt": "high"}, group=model, cost=float(len(resolved.seeds)))


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(CATALOGUE)
    return Settings(
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        catalogue=catalogue,
        device="cpu",
        torch_threads=1,
        beat_ms=20,
        lease_ms=1_500,
        retry_backoff_ms=0,
        drain_s=30,
    )


@pytest.fixture
def storage(settings: Settings) -> LocalStorage:
    return LocalStorage(settings.data_dir)


@asynccontextmanager
async def working(settings: Settings, queue: JobQueue, storage: LocalStorage) -> AsyncIterator[Worker]:
    """A worker in this process's loop."""
    worker = Worker(settings, queue, storage)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        assert await asyncio.wait_for(task, 30) == 0


async def ended(queue: JobQueue, job_id: str) -> JobRecord:
    async def check() -> JobRecord | None:
        record = await queue.get(job_id)
        return record if record is not None and record.status in TERMINAL else None

    return await eventually(check)


async def begun(queue: JobQueue, job_id: str) -> JobRecord:
    """The record when the job's first step is done."""

    async def check() -> JobRecord | None:
        record = await queue.get(job_id)
        return record if record is not None and record.progress.step > 0 else None

    return await eventually(check)


class Process:
    """A worker in a process of its own."""

    def __init__(self, settings: Settings, log: Path, **environment: str) -> None:
        told = {
            f"LODESTAR_{name.upper()}": str(value)
            for name, value in settings.model_dump(exclude_none=True).items()
        }
        script = (
            "import sys; from app.settings import Settings; from workers.worker import main;"
            "sys.exit(main(Settings()))"
        )
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", script],
                env=os.environ | told | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def left(self) -> int:
        return await asyncio.to_thread(self.popen.wait, 60)


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts worker processes; none is left."""
    started: list[Process] = []

    def start(changed: Settings = settings, **environment: str) -> Process:
        started.append(Process(changed, tmp_path / f"worker{len(started)}.log", **environment))
        return started[-1]

    yield start
    for one in started:
        one.popen.kill()
        one.popen.wait()


async def test_a_job_becomes_images_scores_and_a_trace(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", prompt="high " * 80))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
    assert record.status == JobStatus.SUCCEEDED
    assert record.result is not None
    images = record.result.images
    assert [(image.index, image.seed, image.width) for image in images] == [(0, 1, 32), (1, 2, 32)]
    for image in images:
        stored = await storage.get(image.key)
        assert stored is not None
        assert sha256(stored).hexdigest() == image.sha256
        assert set(image.metrics) == {"saturation", "contrast", "colourfulness", "sharpness", "clipped"}
    assert images[0].sha256 != images[1].sha256
    assert record.result.nfe.model == 8
    assert record.result.timings.denoise_ms >= 4 * 20
    assert any("was cut" in warning for warning in record.result.warnings)
    assert record.result.ran["device"] == "cpu"
    assert (record.progress.step, record.progress.total) == (8, 8)
    trace = json.loads(await storage.get(record.result.trace_key or "") or b"null")
    assert [image["seed"] for image in trace["images"]] == [1, 2]
    assert [row["step"] for row in trace["images"][1]["rows"]] == [0, 1, 2, 3]
    assert trace["images"][0]["rows"][0]["guidance_norm"] > 0


async def test_the_same_seed_gives_the_same_bytes_next_to_any_neighbours(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("crowd", seeds=[5, 6, 7, 8], sampler="euler_a"))
    await queue.enqueue(new_job("one", seeds=[6], sampler="euler_a"))
    async with working(settings, queue, storage):
        crowd, one = await ended(queue, "crowd"), await ended(queue, "one")
    assert crowd.result is not None
    assert one.result is not None
    assert crowd.result.images[1].sha256 == one.result.images[0].sha256


async def test_listeners_hear_of_everything(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=5, preview_every=2))
    heard: dict[str, Any] = {}

    async def listen() -> None:
        async for event in queue.listen("a"):
            heard[event.type] = event.data
            if event.type == "completed":
                return

    listening = asyncio.create_task(listen())
    async with working(settings, queue, storage):
        await asyncio.wait_for(listening, 60)
    assert {"start", "progress", "guidance", "preview", "image", "completed"} <= set(heard)
    assert heard["image"]["seed"] == 1
    assert heard["guidance"]["rows"][0]["guidance_norm"] > 0
    assert heard["preview"] == {"index": 0, "step": 3}
    assert (await queue.get_blob("preview:a:0") or b"").startswith(b"\x89PNG")


async def test_a_canceled_job_stops_before_its_next_step(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=50))
    async with working(settings, queue, storage):
        await begun(queue, "a")
        asked = await queue.cancel("a")
        record = await ended(queue, "a")
        assert asked is not None
        assert record.status == JobStatus.CANCELED
        assert record.progress.step <= asked.progress.step + 1
        await queue.enqueue(new_job("b"))
        assert (await ended(queue, "b")).status == JobStatus.SUCCEEDED


async def test_a_model_that_cannot_be_loaded_fails_its_jobs_and_is_not_announced(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", "gone"))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")

        async def offered() -> bool:
            return [list(card.models) for card in await queue.workers()] == [["toy", "slow"]]

        assert await eventually(offered)
    assert record.status == JobStatus.FAILED
    assert record.error is not None
    assert record.error.code == "model_unavailable"
    assert "/nowhere" not in record.error.message


async def test_a_job_that_does_not_fit_the_model_fails_with_the_reason(
    settings: Settings, queue: JobQueue, storage: LocalStorage
) -> None:
    await queue.enqueue(new_job("a", width=33))
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
    assert record.error is not None
    assert "multiples of 8" in record.error.message
    assert record.attempt == 1


async def test_when_a_worker_is_killed_another_finishes_its_job(
    queue: JobQueue, storage: LocalStorage, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=8))
    first = process()
    await begun(queue, "a")
    first.send(signal.SIGKILL)
    process()
    record = await ended(queue, "a")
    assert (record.status, record.attempt) == (JobStatus.SUCCEEDED, 2)
    assert record.result is not None
    assert await storage.get(record.result.images[0].key)


async def test_a_worker_told_to_stop_gives_back_what_it_cannot_finish(
    settings: Settings, queue: JobQueue, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=100))
    worker = process(settings.model_copy(update={"drain_s": 0}))
    await begun(queue, "a")
    worker.send(signal.SIGTERM)
    assert await worker.left() == 0
    record = await queue.get("a")
    assert record is not None
    assert (record.status, record.attempt, record.worker_id) == (JobStatus.QUEUED, 0, None)
    assert await queue.workers() == []


async def test_a_worker_told_to_stop_finishes_what_it_holds_and_claims_nothing_more(
    queue: JobQueue, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=4))
    worker = process()
    await begun(queue, "a")
    worker.send(signal.SIGTERM)
    await queue.enqueue(new_job("b"))
    assert await worker.left() == 0
    statuses = [(await queue.get(job)).status for job in ("a", "b")]  # type: ignore[union-attr]
    assert statuses == [JobStatus.SUCCEEDED, JobStatus.QUEUED]


async def test_a_worker_that_lost_its_lease_drops_the_work(
    settings: Settings, queue: JobQueue, storage: LocalStorage, process: Callable[..., Process]
) -> None:
    await queue.enqueue(new_job("a", "slow", seeds=[1], steps=6))
    frozen = process()
    await begun(queue, "a")
    frozen.send(signal.SIGSTOP)
    async with working(settings, queue, storage):
        record = await ended(queue, "a")
    frozen.send(signal.SIGCONT)

    async def dropped() -> bool:
        return "stopped (lost)" in frozen.log.read_text()

    assert await eventually(dropped)
    assert (record.status, record.attempt) == (JobStatus.SUCCEEDED, 2)
    assert await queue.get("a") == record
    assert await storage.get("results/a/1/0.png") is None


async def test_a_worker_stops_when_its_parent_is_gone(
    queue: JobQueue, process: Callable[..., Process]
) -> None:
    worker = process(**{PARENT: "1"})
    assert await worker.left() == 0
    assert "process that started this worker is gone" in worker.log.read_text()


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ValueError("width must be a multiple of 8"), "invalid_request", False),
        (FloatingPointError("diverged"), "not_finite", False),
        (ModelUnavailable("no such model"), "model_unavailable", True),
        (torch.OutOfMemoryError("tried to allocate"), "out_of_memory", False),
        (OSError(28, "No space left on device", "/var/secret"), "storage_unavailable", True),
        (RuntimeError("/var/secret: boom"), "internal_error", True),
    ],
)
def test_an_error_becomes_a_message_without_inner_matters(
    error: Exception, code: str, retryable: bool
) -> None:
    problem = explain(error)
    assert (problem.code, problem.retryable) == (code, retryable)
    assert "secret" not in problem.message
