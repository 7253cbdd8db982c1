from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from benchmarks import plots

MACHINE = {"date": "2026-11-26T00:00:00", "device": "CPU"}
ROW = {"ratio": 1.0, "ratio_q1": 0.9, "ratio_q3": 1.1}
ENGINE = {"benchmark": "engine", "machine": MACHINE, "variants": {"pipeline": ROW, "engine, 8 rows": ROW}}
SERVING = {"benchmark": "serving", "machine": MACHINE, "curves": {"lodestar": [{"rate": 1, "p95": 2}]}}


def test_the_latest_result_of_each_benchmark_and_traffic_is_drawn(tmp_path: Path) -> None:
    for name, result in (
        ("1-engine", ENGINE | {"traffic": "mixed"}),
        ("2-engine", ENGINE | {"traffic": "identical"}),
        ("3-engine", ENGINE | {"traffic": "mixed", "machine": MACHINE | {"date": "2026-11-27"}}),
        ("4-serving", SERVING),
        ("5-serving", {"benchmark": "serving", "levels": 9, "machine": MACHINE}),
        ("6-queue", {"benchmark": "queue", "machine": MACHINE}),
    ):
        (tmp_path / f"{name}.txt").write_text(f"some words\n{json.dumps(result)}\n")
    drawn = plots.draw(tmp_path, tmp_path / "out")
    assert [path.name for path in drawn] == ["engine-mixed.png", "engine-identical.png", "serving.png"]
    with Image.open(drawn[0]) as picture:
        assert picture.width > 500
