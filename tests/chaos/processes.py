"""Real processes that break on command. One server process imports torch once; all others fork from it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from app.jobs import JobResult
from app.queue.base import Beat, BeatAnswer, Claim
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.base import Storage
from app.storage.local import LocalStorage
from app.storage.opening import open_storage

POISON = "poison"
"""A job with this prompt kills its worker when its first step is reported, or before its end is."""

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.chaos.imports"])

Moment = Literal["before claim", "after claim", "mid-run", "stored", "finished"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in a process."""

    die: Moment | None = None
    """It kills itself there, with SIGKILL."""
    lost_claims: int = 0
    """So many claims are granted by the queue and their answers never arrive."""
    full: Path | None = None
    """While this file exists the disk is full."""
    clock_s: float = 0.0
    """How far its own clock is ahead."""


class FaultyQueue(RedisQueue):
    """A worker's queue that dies at the moment it is told to."""

    faults = Faults()
    _poisoned: str | None = None
    _lost = 0

    def _reached(self, moment: Moment) -> None:
        if self.faults.die == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    async def claim(
        self,
        worker: str,
        models: Collection[str],
        cost: float,
        wait_s: float = 0.0,
        loaded: Collection[str] | None = None,
    ) -> list[Claim]:
        if (await self.depth())["queued"]:
            self._reached("before claim")
        claims = await super().claim(worker, models, cost, wait_s, loaded)
        if claims:
            self._reached("after claim")
        if claims and self._lost < self.faults.lost_claims:
            self._lost += 1
            return []
        for claim in claims:
            if claim.resolved.prompt == POISON:
                self._poisoned = claim.id
        return claims

    async def beat(self, worker: str, beats: Sequence[Beat]) -> dict[str, BeatAnswer]:
        stepped = [beat.id for beat in beats if beat.progress and beat.progress.step]
        if stepped:
            self._reached("mid-run")
        if self._poisoned in stepped:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().beat(worker, beats)

    async def finish(self, worker: str, job_id: str, result: JobResult) -> bool:
        self._reached("stored")
        if job_id == self._poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        kept = await super().finish(worker, job_id, result)
        self._reached("finished")
        return kept


class FullDisk(LocalStorage):
    """A directory on a disk that is full while a file exists."""

    def __init__(self, data_dir: Path, full: Path) -> None:
        super().__init__(data_dir)
        self._full = full

    async def put(self, key: str, data: bytes) -> None:
        if self._full.exists():
            raise OSError(errno.ENOSPC, "no space left on device")
        await super().put(key, data)


def start_worker(settings: Settings, log: Path, faults: Faults | None = None) -> BaseProcess:
    """A worker process."""
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    process = context.Process(target=_work, args=(settings, log, faults or Faults(), keys), daemon=True)
    process.start()
    return process


def start_api(settings: Settings, log: Path) -> BaseProcess:
    """An API process on `settings.port`."""
    process = context.Process(target=_serve, args=(settings, log), daemon=True)
    process.start()
    return process


def send(process: BaseProcess, number: signal.Signals) -> None:
    """Signal a process."""
    assert process.pid is not None
    os.kill(process.pid, number)


def _work(settings: Settings, log: Path, faults: Faults, keys: dict[str, str]) -> None:
    from workers import worker

    os.environ.update(keys)
    _write_to(log)
    if faults.clock_s:
        real = time.time
        time.time = lambda: real() + faults.clock_s
    FaultyQueue.faults = faults

    def storage(settings: Settings) -> Storage:
        return FullDisk(settings.data_dir, faults.full) if faults.full else open_storage(settings)

    worker.RedisQueue = FaultyQueue  # type: ignore[misc]
    worker.open_storage = storage
    sys.exit(worker.main(settings))


def _serve(settings: Settings, log: Path) -> None:
    import uvicorn

    from app.api.main import create_app

    _write_to(log)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_level="warning")


def _write_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
