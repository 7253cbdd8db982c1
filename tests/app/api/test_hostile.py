"""What nobody sends by mistake: each is answered 4xx, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from app.settings import Settings
from tests.app.api.test_jobs import APPLE, ULID

JSON = {"Content-Type": "application/json"}
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
PATHS = [
    "/v1/jobs/..%2f..%2fetc%2fpasswd",
    "/v1/jobs/%2e%2e%2f%2e%2e",
    "/v1/jobs/%00",
    "/v1/jobs/" + "A" * 5000,
    "/v1/jobs/%F0%9F%92%A9",
    f"/v1/jobs/{ULID}%0d%0aX-Evil: 1",
    f"/v1/jobs/{ULID}/images/-1",
    f"/v1/jobs/{ULID}/images/{'9' * 400}",
    f"/v1/jobs/{ULID}/images/0%2f..%2ftrace.json",
    f"/v1/jobs/{ULID}/images/0?format=../../x",
    "/static/..%2f..%2fsettings.py",
    "/static/%2e%2e/%2e%2e/app/settings.py",
    "/static/..%5c..%5csettings.py",
    "/v1/models/..%2f..%2fmodels.toml",
    "/v1/guidance/__init__",
    "/v1/comparisons/..%2f..%2fx",
    "/v1/batches/..%2fx",
    "/v1/jobs?limit=" + "9" * 400,
    "/v1/jobs?limit=NaN",
    "/v1/jobs?after=%00",
    "/v1/jobs?status=queued%27%20OR%201=1",
    "/v1/jobs?wait=inf&after=x",
]
BODIES: list[tuple[str, Any]] = [
    ("deep list", '{"prompt": "x", "tags": ' + "[" * 50_000 + "]" * 50_000 + "}"),
    ("deep object", '{"prompt": "x", "guidance": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}"),
    ("huge", '{"prompt": "' + "x" * 2_000_000 + '"}'),
    ("long number", '{"prompt": "x", "seeds": [' + "1" * 400 + "]}"),
    ("longer number", '{"prompt": "x", "steps": ' + "1" * 5000 + "}"),
    ("large float", '{"prompt": "x", "guidance": {"method": "cfg", "scale": 1e999}}'),
    ("NaN", '{"prompt": "x", "guidance": {"method": "cfg", "scale": NaN}}'),
    ("-Infinity", '{"prompt": "x", "strength": -Infinity}'),
    ("surrogate", '{"prompt": "\\ud800"}'),
    ("array", "[]"),
    ("null", "null"),
    ("string", '"x"'),
    ("empty", ""),
    ("two", "{}{}"),
    ("bom", b"\xef\xbb\xbf{}"),
    ("pickle", b"\x80\x04\x95"),
    ("null byte", APPLE | {"prompt": "a\x00b"}),
    ("null byte in a tag", APPLE | {"tags": ["\x00"]}),
    ("seed as text", APPLE | {"seeds": ["1; DROP TABLE jobs"]}),
    ("seed as a fraction", APPLE | {"seeds": [1.5]}),
    ("seed too large", APPLE | {"seeds": [2**63]}),
    ("seed twice", APPLE | {"seeds": [1, 1]}),
    ("negative zero", '{"prompt": "x", "width": -0.0}'),
    ("a number as text", APPLE | {"steps": "4"}),
    ("size below zero", APPLE | {"width": -64}),
    ("size as a bool", APPLE | {"width": True}),
    ("model as a path", APPLE | {"model": "/etc/passwd"}),
    ("model as an address", APPLE | {"model": "http://169.254.169.254/"}),
    ("model of other letters", APPLE | {"model": "\u0435moji"}),
    ("picture as a file", APPLE | {"init_image": "file:///etc/passwd"}),
    ("picture as an address", APPLE | {"init_image": "http://127.0.0.1:6379/"}),
    ("picture that is none", APPLE | {"init_image": "data:image/png;base64,AAAA"}),
    ("mask of no picture", APPLE | {"mask": "data:image/png;base64,AAAA"}),
    ("mask as a file", APPLE | {"init_image": DOT, "mask": "file:///etc/passwd"}),
    ("webhook within", APPLE | {"webhook": "http://127.0.0.1:6379/"}),
    ("webhook to the cloud", APPLE | {"webhook": "http://169.254.169.254/latest"}),
    ("prototype", APPLE | {"__proto__": {"a": 1}}),
    ("metadata of no text", APPLE | {"metadata": {"a": {"b": 1}}}),
    ("many tags", APPLE | {"tags": ["t"] * 1000}),
]
HEADERS = [
    {"Prefer": "wait=\u00b2"},
    {"Idempotency-Key": "k" * 10_000},
    {"Idempotency-Key": "a\tb"},
    {"Content-Type": "text/html"},
    {"Content-Type": "application/json; charset=\x22"},
]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
async def test_paths(api: httpx.AsyncClient, settings: Settings, path: str) -> None:
    before = files(settings.data_dir)
    answer = await api.get(path)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] in ("application/problem+json", "text/plain; charset=utf-8")
    assert "x-evil" not in answer.headers
    assert str(settings.data_dir) not in answer.text
    assert files(settings.data_dir) == before


@pytest.mark.parametrize(("name", "body"), BODIES, ids=[name for name, _ in BODIES])
async def test_bodies(api: httpx.AsyncClient, settings: Settings, name: str, body: Any) -> None:
    content = json.dumps(body) if isinstance(body, dict) else body
    answer = await api.post("/v1/jobs", content=content, headers=JSON)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    assert not files(settings.data_dir)
    assert (await api.get("/v1/jobs")).json()["data"] == []


@pytest.mark.parametrize("headers", HEADERS, ids=str)
async def test_headers(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in {**JSON, **headers}.items()]
    answer = await api.post("/v1/jobs", content=json.dumps(APPLE), headers=raw)
    assert answer.status_code in (400, 415, 422) or "charset" in str(headers)
    assert answer.status_code < 500


@pytest.mark.parametrize(
    "number", ["1_0", " 1", "+1", "1 ", "0x1", "\u0661", "NaN", "inf", "", "9" * 30, "1__0"]
)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?limit=",
        f"/v1/jobs/{ULID}?wait=",
        "/v1/comparisons?limit=",
        "/v1/queue/dead?limit=",
        f"/v1/jobs/{ULID}/images/0/preview?step=",
    ],
)
async def test_numbers_in_addresses_are_digits(api: httpx.AsyncClient, path: str, number: str) -> None:
    await api.put(f"/v1/jobs/{ULID}", json=APPLE)
    name, _, _ = path.partition("=")
    answer = await api.get(f"{path}{quote(number)}")
    assert answer.status_code == 422, answer.text
    (wrong,) = answer.json()["errors"]
    assert wrong["pointer"] == f"/{name.partition('?')[2]}"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs?limt=3", "status, tag, limit, after, order, batch_id, comparison_id"),
        ("/v1/jobs?limit=3&state=failed", "comparison_id"),
        (f"/v1/jobs/{ULID}?Wait=1", "wait"),
        ("/v1/queue?x=", "it takes none"),
    ],
)
async def test_a_misspelt_query_is_not_ignored(api: httpx.AsyncClient, path: str, allowed: str) -> None:
    await api.put(f"/v1/jobs/{ULID}", json=APPLE)
    answer = await api.get(path)
    assert answer.status_code == 422
    assert allowed in answer.json()["detail"]
    (wrong,) = answer.json()["errors"]
    assert wrong["pointer"] in ("/limt", "/state", "/Wait", "/x")
    assert (await api.post("/v1/jobs?wait=3", json=APPLE)).status_code == 422
    assert len((await api.get("/v1/jobs")).json()["data"]) == 1


async def test_a_job_id_that_is_none_says_what_one_looks_like(api: httpx.AsyncClient) -> None:
    answer = await api.put("/v1/jobs/my-own-id", json=APPLE)
    assert answer.status_code == 422
    assert "ULID" in answer.json()["detail"]


async def test_a_path_with_line_breaks_forges_no_line_of_the_log(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "lodestar.access"):
        await api.get("/v1/x%0aGET%20/v1/jobs:%20200")
    assert [record.getMessage() for record in caplog.records if record.name == "lodestar.access"] == [
        "GET /v1/x%0AGET%20/v1/jobs%3A%20200: 404"
    ]
