import json
from pathlib import Path

import pytest

from app.batch.results import BatchError, Folder, Results, batch_id


def test_the_latest_line_of_a_row_counts(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.jsonl")
    for line, status in ((3, "failed"), (1, "succeeded"), (3, "succeeded")):
        results.put(line, {"status": status, "text": "é\u2028"})
    assert results.get(2) is None
    assert results.get(9) is None
    assert results.get(3) == {"line": 3, "status": "succeeded", "text": "é\u2028"}
    results.tidy()
    results.put(2, {"status": "failed"})
    results.close()
    again = Results(tmp_path / "r.jsonl")
    assert again.get(3) == {"line": 3, "status": "succeeded", "text": "é\u2028"}
    again.tidy()
    again.close()
    text = (tmp_path / "r.jsonl").read_text()
    assert [json.loads(line)["line"] for line in text.splitlines()] == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"line": 1, "status": "succeeded"}\n{"line": 2, "sta')
    results = Results(path)
    assert results.get(2) is None
    results.put(2, {"status": "failed"})
    results.close()
    assert path.read_text().splitlines()[1] == '{"line": 2, "status": "failed"}'


@pytest.mark.parametrize("line", ["x\n", "[]\n", "{}\n"])
def test_a_strange_file_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(line)
    with pytest.raises(BatchError, match="is none of ours"):
        Results(path)
    assert path.read_text() == line


def test_a_hundred_thousand_rows_take_eight_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    count = 100_000
    with path.open("w") as file:
        file.writelines(f'{{"line": {line}}}\n' for line in range(1, count + 1))
    results = Results(path)
    index = results._offsets
    assert index.itemsize * len(index) == 8 * (count + 1)
    assert results.get(count) == {"line": count}
    results.close()


def test_a_folder_keeps_its_identity(tmp_path: Path) -> None:
    with Folder(tmp_path / "a/b") as first, Folder(tmp_path / "c") as other:
        assert first.id != other.id
        with pytest.raises(BatchError, match="another run works"):
            Folder(tmp_path / "c")
    with Folder(tmp_path / "a/b") as again:
        assert again.id == first.id == batch_id(tmp_path / "a/b")


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BatchError, match="cannot write into"):
        Folder(tmp_path / "file")
    (tmp_path / "results.jsonl").touch()
    with pytest.raises(BatchError, match="something else"):
        Folder(tmp_path)
    (tmp_path / "batch.json").write_text("[]")
    with pytest.raises(BatchError, match="damaged"):
        Folder(tmp_path)
