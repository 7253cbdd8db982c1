"""Jobs, a catalogue of toys, and workers in this process's loop or in one of their own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.jobs import TERMINAL, JobRecord, Resolved
from app.queue.base import JobQueue, NewJob
from app.settings import Settings
from app.storage.local import LocalStorage
from guidance.cfg import CFG
from workers.worker import Worker

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


async def eventually(check: Callable[[], Awaitable[Any]], within_s: float = 200) -> Any:
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
        return await asyncio.to_thread(self.popen.wait, 200)
