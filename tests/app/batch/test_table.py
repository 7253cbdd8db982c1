"""A batch's results as a table, as another library reads it."""

import json
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from app.batch import BatchClient, BatchError
from app.batch.table import write_table
from tests.app.batch.conftest import Hands


async def test_a_table_has_a_row_per_picture_and_one_per_refusal(
    client: BatchClient, hands: Hands, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with hands(fails=("b",)):
        await client.arun([{"prompt": "a", "seeds": [1, 2]}, "b", {"prompt": 3}], out, defaults={"steps": 4})
    assert write_table(out) == out / "results.parquet"
    found = parquet.read_table(out / "results.parquet").to_pylist()
    assert [(row["line"], row["status"], row["seed"], row["contrast"]) for row in found] == [
        (1, "succeeded", 1, 0.5),
        (1, "succeeded", 2, 0.5),
        (2, "failed", None, None),
        (3, "refused", None, None),
    ]
    first, _, failed, refused = found
    assert json.loads(first["scorers"]) == {"clip": {"name": "toy/scorer", "sha256": "ab" * 32}}
    assert failed["scorers"] is refused["scorers"] is None
    assert (first["prompt"], first["steps"], first["nfe"], first["width"]) == ("a", 4, 4, 8)
    assert (out / first["file"]).is_file()
    assert (failed["error"], failed["prompt"]) == ("it broke", "b")
    assert refused["error"] == "Input should be a valid string"


def test_without_results_or_pyarrow_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BatchError, match="there is no results"):
        write_table(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BatchError, match=r"pip install 'lodestar-diffusion\[parquet\]'"):
        write_table(tmp_path)
