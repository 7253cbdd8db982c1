from io import BytesIO
from typing import Any
from uuid import UUID

import pytest

from app.admission import Refused
from app.batch.rows import BadRow, asked, job_id, read_jsonl
from app.jobs import JobSpec
from guidance.cfg import CFG

BATCH = UUID(int=1)


def rows(data: bytes, max_bytes: int = 60) -> list[Any]:
    return list(read_jsonl(BytesIO(data), max_bytes))


def test_objects_strings_and_blank_lines() -> None:
    text = '\ufeff{"prompt": "é"}\n\n"a cat"\r\n   \n{"prompt": "b"}'
    assert rows(text.encode()) == [{"prompt": "é"}, None, "a cat", None, {"prompt": "b"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": ', "not valid JSON"),
        (b'{"prompt": NaN}', "NaN is no JSON"),
        (b"[1]", "should be an object"),
        (b"3", "should be an object"),
        (b'"\xff"', "not UTF-8"),
        (b'"' + b"x" * 60 + b'"', "longer than 60 bytes"),
        (b'"' + b"x" * 1000, "longer than 60 bytes"),
    ],
)
def test_a_bad_line_does_not_hide_the_next(line: bytes, reason: str) -> None:
    bad, *good = rows(line + b'\n"next"\n')
    assert isinstance(bad, BadRow)
    assert reason in bad.reason
    assert good == ["next"]


def test_deep_json_is_a_bad_row() -> None:
    assert isinstance(rows(b"[" * 100_000, 1_000_000)[0], BadRow)


def test_a_row_comes_before_the_defaults() -> None:
    defaults = {"n": 2, "steps": 4, "guidance": {"method": "cfg", "scale": 2}}
    assert asked("a", defaults) == {"prompt": "a", **defaults}
    assert "n" not in asked({"prompt": "a", "seeds": [1]}, defaults)
    assert asked({"prompt": "a", "guidance": CFG(scale=3)}, defaults)["guidance"]["scale"] == 3
    assert asked(JobSpec(prompt="a", guidance=CFG(scale=3)), {})["guidance"]["method"] == "cfg"
    assert asked(JobSpec(prompt="a"), {}) == {"prompt": "a"}
    with pytest.raises(Refused, match="why"):
        asked(BadRow("why"), {})


def test_an_id_tells_batch_line_and_request_apart() -> None:
    first = job_id(BATCH, 1, {"prompt": "a", "n": 1})
    assert first == job_id(BATCH, 1, {"n": 1, "prompt": "a"})
    others = [
        job_id(UUID(int=2), 1, {"prompt": "a", "n": 1}),
        job_id(BATCH, 2, {"prompt": "a", "n": 1}),
        job_id(BATCH, 1, {"prompt": "b", "n": 1}),
    ]
    assert len({first, *others}) == 4
    with pytest.raises(Refused, match="cannot be written as JSON"):
        job_id(BATCH, 1, {"prompt": object()})
