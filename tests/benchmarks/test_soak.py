import json
import subprocess
import sys

import pytest

from benchmarks.soak import slope


def test_the_slope_is_what_memory_gains() -> None:
    assert slope([(100.0 + t, 5e6 + 250 * t + (-1) ** t) for t in range(40)]) == pytest.approx(250, rel=1e-2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_soak_tells_of_both_processes() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.2", "--sample-s", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["jobs"] > 10
    assert told["api_last_mb"] > 20
    assert told["worker_last_mb"] > 20
