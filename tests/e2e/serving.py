"""A whole service in processes of its own, started as a person starts it."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CATALOGUE = """
[[models]]
id = "toy"
source = "toy"

[[models]]
id = "slow"
source = "toy"
options = { delay_s = 0.2 }

[[models]]
id = "endless"
source = "toy"
options = { delay_s = 1.0 }

[[models]]
id = "fragile"
source = "toy"
options.weights = { "" = [0.5, 0.3, 0.2], high = [0.05, 0.15, 0.8], broken = [nan, nan, nan] }
"""
"""`slow` and `endless` leave time to look at what runs; on the prompt "broken", `fragile` fails."""


class Serving:
    """`lodestar serve` on a free port; `lines` are what it printed so far."""

    def __init__(self, data_dir: Path, *options: str, **environment: str) -> None:
        self.data_dir = data_dir
        catalogue = data_dir.parent / "models.toml"
        catalogue.write_text(CATALOGUE)
        told = {
            "LODESTAR_CATALOGUE": str(catalogue),
            "LODESTAR_LEASE_MS": "3000",
            "LODESTAR_RETRY_BACKOFF_MS": "0",
            "LODESTAR_TORCH_THREADS": "1",
            "LODESTAR_DEVICE": "cpu",
            "REDIS_URL": "",
        }
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", str(data_dir), *options],
            env=os.environ | told | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def line(self, pattern: str, within_s: float = 200) -> re.Match[str]:
        """The first line that matches, as soon as it is printed."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, within_s)
            match = found()
        assert match is not None, "\n".join(self.lines)
        return match

    def url(self) -> str:
        """Where it is, as soon as it is ready."""
        return self.line(r"ready +(http://\S+)")[1]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal it and wait for its end: the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(100)

    def close(self) -> None:
        """Whatever state it is in, end it."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


@contextmanager
def serving(data_dir: Path, *options: str, **environment: str) -> Iterator[Serving]:
    """A service for the time of the block; nothing of it is left afterwards."""
    service = Serving(data_dir, *options, **environment)
    try:
        yield service
    finally:
        service.close()


def descendants(pid: int) -> set[int]:
    """The processes below `pid`, from /proc."""
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), set()).add(int(stat.parent.name))
    found: set[int] = set()
    rest = {pid}
    while rest:
        rest = {child for parent in rest for child in children.get(parent, set())}
        found |= rest
    return found


def gone(pid: int, within_s: float = 60) -> Callable[[], bool]:
    """Hold on to a process; the answer waits for its end."""
    descriptor = os.pidfd_open(pid)

    def wait() -> bool:
        try:
            return bool(select.select([descriptor], [], [], within_s)[0])
        finally:
            os.close(descriptor)

    return wait
