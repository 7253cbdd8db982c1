"""Schemathesis against a live service with a worker: nothing is answered 5xx or otherwise than documented."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Serving, serving

pytestmark = pytest.mark.timeout(3600)
CONFIG = Path(__file__).parents[1] / "schemathesis.toml"
CATALOGUE = """
[[models]]
id = "toy"
source = "toy"
width = 64
height = 64
steps = 3
"""
CHEAP = {
    "LODESTAR_MAX_QUEUED": "1000000",
    "LODESTAR_MAX_STEPS": "8",
    "LODESTAR_MAX_IMAGES": "3",
    "LODESTAR_MAX_PIXELS": "16384",
    "LODESTAR_MAX_CELLS": "12",
    "LODESTAR_SYNC_WAIT_S": "20",
}


@pytest.fixture
def cheap(tmp_path: Path) -> Iterator[Serving]:
    """A service whose jobs are all small."""
    catalogue = tmp_path / "cheap.toml"
    catalogue.write_text(CATALOGUE)
    with serving(tmp_path / "data", LODESTAR_CATALOGUE=str(catalogue), **CHEAP) as service:
        yield service


def fuzz(service: Serving, *options: str) -> int:
    """Run it; the number of cases. Fails with what it found."""
    command = (sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run")
    ran = subprocess.run(
        [*command, f"{service.url()}/openapi.json", "--no-color", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=service.data_dir,
    )
    print(ran.stdout)
    cases = re.search(r"(\d+) generated", ran.stdout)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
    assert cases is not None, ran.stdout
    return int(cases[1])


def test_what_is_sent_at_random_is_answered_as_documented(cheap: Serving) -> None:
    assert fuzz(cheap, "--phases", "fuzzing", "--max-examples", "8") > 100


@pytest.mark.slow
def test_twenty_thousand_requests_are_answered_as_documented(cheap: Serving) -> None:
    cases = fuzz(cheap, "--max-examples", "240", "--workers", "2")
    print(json.dumps({"program": "schemathesis", "cases": cases, "failures": 0}))
    assert cases >= 20_000
    assert "ERROR" not in "\n".join(cheap.lines)
