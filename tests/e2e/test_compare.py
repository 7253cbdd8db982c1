"""`lodestar compare` with a real service."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.serving import Serving

pytestmark = pytest.mark.timeout(500)  # a busy machine takes long to import torch


def compare(service: Serving, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "compare", "--server", service.url(), *map(str, args)]
    return subprocess.run(
        command, env=os.environ, capture_output=True, text=True, timeout=200, check=False
    )  # fmt: skip


def test_a_report_of_three_arms(service: Serving, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    done = compare(
        service, "--arms", "cfg:4", "cfgpp:0.6", "apg:10,eta=0.5", "--prompt", "high", "low",
        "--seeds", 1, 2, "--steps", 3, "--metrics", "basic", "lpips", "--html", html,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"12 pictures in {html}; look at them in the browser: {service.url()}/compare/"
    )
    page = html.read_text()
    assert page.count("data:image/png;base64,") == 12
    assert "2 prompts, 2 seeds each, model toy, sampler ddim, steps 3," in page
    assert "Saturation" in page
    assert "The pictures as sets: LPIPS" in page
    assert "unavailable: weights not installed: put torchvision" in page
    assert page.count("<td>6</td><td>6</td><td>6</td>") == 1


def test_arms_of_equal_cost(service: Serving, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    done = compare(
        service, "--arms", "cfg:4", "none", "--prompt", "high", "--seeds", 1, "--steps", 3, "--equal-nfe",
        "--html", html,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = html.read_text()
    assert "steps 3 or 6," in page
    assert "<td>6</td><td>6</td>" in page
    assert "Not compute-matched" not in page


def test_what_the_service_refuses_is_said_and_nothing_is_left_queued(
    service: Serving, tmp_path: Path
) -> None:
    html = tmp_path / "report.html"
    done = compare(service, "--arms", "cfg:4", "apg:3", "--prompt", "high", "--steps", 9999, "--html", html)
    assert done.returncode == 1
    assert "the service refused: /steps: steps is 9999" in done.stderr
    assert "Traceback" not in done.stderr
    assert not html.exists()
    twice = compare(service, "--arms", "cfg:4", "cfg:4", "--prompt", "high", "--html", html)
    assert "arm 'cfg:4': the same arm is given twice" in twice.stderr
    depth = httpx.get(f"{service.url()}/v1/jobs", params={"status": "queued"}, trust_env=False).json()
    assert depth["data"] == []
