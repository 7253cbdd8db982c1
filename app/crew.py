"""The worker processes of `lodestar serve`: started, replaced when they end, stopped together."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from app.settings import Settings

PARENT = "LODESTAR_PARENT_PID"
"""Tells a worker whose child it is, so that it stops when that one is gone."""
ROOT = Path(__file__).resolve().parent.parent
STEADY_S = 30.0
"""A worker that lived so long did not fail at once: the pauses between restarts begin anew."""
BACKOFF_S = 0.5
BACKOFF_MAX_S = 30.0
TRIES = 3
"""Starts of a worker before the service was ever ready; then it gives up."""
GRACE_S = 10.0
"""Time beyond `drain_s` that a worker has to end; then it is killed."""


Say = Callable[[str], None]


class Crew:
    """Worker processes; one that ends by itself is replaced, after a pause that grows."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.proven = False
        """Whether the service was ever ready: before, workers that do not start end it."""
        self._settings = settings
        self._say = say
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._hopeless = asyncio.Event()
        self.failed: asyncio.Task[Any] = asyncio.create_task(self._hopeless.wait())

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Have them work during the block; at its end they finish what they hold, or are killed."""
        keepers = [asyncio.create_task(self._keep(number + 1)) for number in range(self._settings.workers)]
        try:
            yield
        finally:
            await self.stop(keepers)
            self.failed.cancel()

    async def stop(self, keepers: list[asyncio.Task[None]]) -> None:
        """Tell all to stop and wait for it."""
        self._stopping.set()
        for process in self._running.values():
            _send(process, signal.SIGTERM)
        if keepers:
            _, late = await asyncio.wait(keepers, timeout=self._settings.drain_s + GRACE_S)
            self.kill()
            if late:
                self._say(f"{len(late)} did not stop in time and had to be killed")
            await asyncio.gather(*keepers)

    def kill(self) -> None:
        """End all at once."""
        for process in self._running.values():
            _send(process, signal.SIGKILL)

    async def _keep(self, number: int) -> None:
        """Have worker `number` run until told to stop."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            process = self._running[number] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "app", "worker"),
                env=environment(self._settings, number),
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for us; we tell them
            )
            if self._stopping.is_set():
                _send(process, signal.SIGTERM)
            code = await process.wait()
            del self._running[number]
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - began > STEADY_S else failures + 1
            if failures >= TRIES and not self.proven:
                self._say(f"number {number} {ended(code)}, {failures} times in a row")
                self._hopeless.set()
                return
            pause_s = min(BACKOFF_MAX_S, BACKOFF_S * 2 ** (failures - 1))
            self._say(f"number {number} {ended(code)}; another one starts in {pause_s:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)


def environment(settings: Settings, number: int) -> dict[str, str]:
    """What worker `number` is told: all settings, and whose child it is."""
    told = settings.model_dump(mode="json", exclude_none=True)
    if settings.metrics_port:
        told["metrics_port"] = settings.metrics_port + number - 1
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **{f"LODESTAR_{name.upper()}": str(value) for name, value in told.items()},
        PARENT: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended just now
        process.send_signal(number)
