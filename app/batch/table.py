"""`results.jsonl` as a Parquet file, a row per picture: for pandas, Polars and DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from app.batch.results import RESULTS, BatchError

TABLE = "results.parquet"
TEXTS = ("id", "status", "error", "model", "prompt", "method", "sampler", "file", "sha256", "scorers")
NUMBERS = ("line", "seed", "steps", "width", "height", "nfe")
GROUP = 10_000
"""Pictures in memory at a time."""


def write_table(out: Path) -> Path:
    """Write `results.parquet` into a batch's folder; its path. Raises BatchError.

    Columns: `TEXTS` (`scorers`, as JSON, names the models behind metrics with their hashes), `NUMBERS` (`nfe`
    is the job's) and one for each metric.
    A line without pictures is one row too.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise BatchError(
            "Parquet needs the package pyarrow: pip install 'lodestar-diffusion[parquet]'"
        ) from None
    if not (out / RESULTS).is_file():
        raise BatchError(f"no batch has written into {out}: there is no {RESULTS}")
    columns = [(name, pa.string()) for name in TEXTS] + [(name, pa.int64()) for name in NUMBERS]
    metrics = {name for row in _rows(out) for name in row} - {*TEXTS, *NUMBERS}
    schema = pa.schema(columns + [(name, pa.float64()) for name in sorted(metrics)])
    with parquet.ParquetWriter(out / TABLE, schema) as writer:
        rows = _rows(out)
        while some := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist(some, schema))
    return out / TABLE


def _rows(out: Path) -> Iterator[dict[str, Any]]:
    with (out / RESULTS).open("rb") as file:
        for line in file:
            yield from _pictures(json.loads(line))


def _pictures(outcome: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ran = outcome.get("resolved") or {}
    row = {name: outcome[name] for name in ("line", "id", "status")}
    row |= {name: ran.get(name) for name in ("model", "prompt", "sampler", "steps", "width", "height")}
    row["method"] = (ran.get("guidance") or {}).get("method")
    row["error"] = (outcome.get("error") or {}).get("message")
    row["nfe"] = (outcome.get("nfe") or {}).get("model")
    scorers = (outcome.get("ran") or {}).get("scorers")
    row["scorers"] = json.dumps(scorers) if scorers else None
    for image in outcome["images"] or [{"metrics": {}}]:
        told = {name: image[name] for name in ("seed", "file", "sha256", "width", "height") if name in image}
        yield row | told | image["metrics"]
