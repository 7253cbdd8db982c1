"""The main job end to end: a real `lodestar serve` with its queue, worker and API."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.client import Client
from app.storage.png import read_png
from tests.e2e.serving import Serving, descendants, gone, serving

pytestmark = [
    pytest.mark.timeout(500),  # a busy machine takes long to import torch
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]


@pytest.fixture
def http(service: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url(), timeout=100, trust_env=False) as http:
        yield http


def test_a_prompt_in_a_picture_out(service: Serving, http: httpx.Client) -> None:
    answer = http.post(
        "/v1/jobs",
        headers={"Prefer": "wait=60"},
        json={"prompt": "high", "seeds": [1], "steps": 5, "guidance": {"method": "cfg", "scale": 4}},
    )
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["status"] == "succeeded"
    assert job["nfe"]["model"] == 10
    assert job["resolved"]["sampler"] == "ddim"
    assert job["timings"]["denoise_ms"] > 0
    assert 0 <= job["images"][0]["metrics"]["saturation"] <= 1
    png = http.get(job["images"][0]["url"]).content
    assert read_png(png)["seeds"] == [1]


def test_events_come_in_order(service: Serving) -> None:
    with Client(service.url()) as client:
        job = client.submit("high", model="slow", seeds=[1], steps=6)
        events = list(client.stream(job))
    types = [event.type for event in events]
    ids = [int(event.id or -1) for event in events]
    assert types[0] == "snapshot"
    assert types[-1] == "completed"
    assert "progress" in types
    assert ids == sorted(ids)
    steps = [event.progress.step for event in events if event.progress is not None]
    assert steps == sorted(steps)
    assert steps[-1] == 6
    assert events[-1].data["images"][0]["seed"] == 1


def test_the_command_makes_a_picture(service: Serving, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    made = subprocess.run(
        [
            *(sys.executable, "-m", "app", "generate", "a cat", "--server", service.url()),
            *("--guidance", "apg", "--scale", "10", "--steps", "4", "--seed", "7", "-o", str(path)),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.split()[:5] == ["seed", "7", str(path), "nfe", "8"]
    request = read_png(path.read_bytes())
    assert (request["prompt"], request["guidance"]["scale"]) == ("a cat", 10)


def test_the_command_prints_what_the_service_refuses(service: Serving, tmp_path: Path) -> None:
    made = subprocess.run(
        [
            *(sys.executable, "-m", "app", "generate", "a cat", "--server", service.url()),
            *("--steps", "9999", "-o", str(tmp_path / "x.png")),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert made.returncode == 1
    assert made.stderr.startswith("lodestar: the service refused:\n  /steps: steps is 9999")
    assert "Traceback" not in made.stderr


def test_a_killed_worker_is_replaced_and_its_job_succeeds(service: Serving, http: httpx.Client) -> None:
    with Client(service.url()) as client:
        job = client.submit("high", model="slow", seeds=[1], steps=15)
        for event in client.stream(job):
            if event.progress is not None and event.progress.step:
                break
        (worker,) = http.get("/v1/workers").json()["data"]
        os.kill(worker["pid"], signal.SIGKILL)
        done = client.wait(job, timeout_s=300)
        assert (done.status, done.attempt) == ("succeeded", 2)
        assert client.image(done).startswith(b"\x89PNG")
    assert service.line(r"number 1 was ended by SIGKILL; another one starts in 0\.5 s")


def test_ctrl_c_leaves_nothing_running_and_a_restart_loses_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        with Client(service.url()) as client:
            done = client.generate("high", seeds=[3], steps=2)
            png = client.image(done)
        below = [gone(pid) for pid in descendants(service.popen.pid)]
        assert len(below) == 2, "the queue and the worker"
        assert service.stop() == 0
        assert all(wait() for wait in below)
        assert service.lines[-1].endswith("stop     done")
    with serving(tmp_path / "data", "--workers", "0") as service, Client(service.url()) as client:
        again = client.get(done)
        assert again == done.model_copy(update={"images": again.images, "urls": again.urls})  # type: ignore[attr-defined]
        assert client.image(again) == png
        assert service.stop(signal.SIGTERM) == 0


def test_nothing_outlives_a_killed_service(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        service.line("loading toy")
        below: set[int] = set()
        while len(below) < 2:
            below = descendants(service.popen.pid)
        ends = [gone(pid) for pid in below]
        service.popen.kill()
        assert all(wait() for wait in ends)
