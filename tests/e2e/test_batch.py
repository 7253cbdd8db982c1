"""`lodestar batch` beside a real `lodestar serve`: it finds the embedded queue by the data directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.png import read_png
from tests.e2e.serving import Serving

pytestmark = pytest.mark.timeout(500)  # a busy machine takes long to import torch


def test_a_batch_beside_the_service(service: Serving, tmp_path: Path) -> None:
    service.url()
    data_dir = service.data_dir
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    prompts.write_text('"high"\n{"prompt": "low", "n": 2, "guidance": {"method": "apg", "scale": 3}}\n')
    command = [sys.executable, "-m", "app", "batch", "run", str(prompts), "--out", str(out)]
    environment = os.environ | {
        "REDIS_URL": "",
        "LODESTAR_DATA_DIR": str(data_dir),
        "LODESTAR_CATALOGUE": str(data_dir.parent / "models.toml"),
    }
    for counts in ("2 rows done (3 pictures); ", "0 rows done (0 pictures), 2 done before; "):
        done = subprocess.run(
            [*command, "--steps", "3"],
            env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(counts)
    first, second = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert first["nfe"]["model"] == 6
    assert 0 <= second["images"][1]["metrics"]["saturation"] <= 1
    request = read_png((out / second["images"][1]["file"]).read_bytes())
    assert request["prompt"] == "low"
    assert second["images"][1]["seed"] in request["seeds"]
