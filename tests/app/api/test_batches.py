from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from app.keys import KeyStore, Limits
from app.settings import Settings
from tests.app.api.test_auth import Login, login, store  # noqa: F401
from tests.app.api.test_jobs import APPLE, work_once

JSONL = {"Content-Type": "application/jsonl"}


async def lines(api: httpx.AsyncClient, batch: dict[str, Any]) -> list[dict[str, Any]]:
    text = (await api.get(batch["urls"]["results"])).text
    return [json.loads(line) for line in text.splitlines()]


async def test_rows_that_cannot_run_do_not_stop_the_others(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    jobs = ["a cat", APPLE | {"steps": 9999}, APPLE, {"prompt": "x", "init_image": "AAAA"}]
    created = await api.post("/v1/batches", json={"jobs": jobs, "defaults": {"steps": 3}})
    batch = created.json()
    assert created.status_code == 202, created.text
    assert created.headers["location"] == batch["urls"]["self"]
    assert (batch["counts"], batch["total"]) == ({"queued": 2, "refused": 2}, 4)
    assert [row["line"] for row in batch["rows"]] == [2, 4]
    assert batch["rows"][0]["error"]["errors"][0]["pointer"] == "/steps"
    done = await work_once(settings, rows=2)
    first, second, third, _ = await lines(api, batch)
    assert (first["line"], first["id"], first["status"]) == (1, done, "succeeded")
    assert first["resolved"]["steps"] == 3
    assert first["images"][0]["url"].startswith("http://lodestar.test/v1/jobs/")
    assert (second["status"], second["error"]["code"]) == ("refused", "invalid_request")
    assert (third["status"], third["resolved"]["priority"]) == ("queued", "batch")
    canceled = (await api.post(batch["urls"]["cancel"])).json()
    assert canceled["status"] == "ended"
    assert canceled["counts"] == {"succeeded": 1, "canceled": 1, "refused": 2}
    listed = (await api.get("/v1/jobs", params={"batch_id": batch["id"]})).json()["data"]
    assert {job["id"] for job in listed} == {first["id"], third["id"]}


@pytest.mark.parametrize(("combine", "prompts"), [("product", ["a", "a", "b", "b"]), ("zip", ["a", "b"])])
async def test_axes_are_combined(api: httpx.AsyncClient, combine: str, prompts: list[str]) -> None:
    spec = {"axes": {"prompt": ["a", "b"], "steps": [3, 4]}, "combine": combine, "defaults": {"seeds": [1]}}
    batch = (await api.post("/v1/batches", json=spec)).json()
    rows = await lines(api, batch)
    assert [row["input"]["prompt"] for row in rows] == prompts
    assert [row["input"]["steps"] for row in rows][:2] == [3, 4]


async def test_a_file_of_json_lines(api: httpx.AsyncClient) -> None:
    body = b'"a cat"\n\n{"prompt": "a dog"\n{"prompt": "a fox", "steps": 2}\n'
    batch = (await api.post("/v1/batches", content=body, headers=JSONL)).json()
    assert [(row["line"], row["status"]) for row in await lines(api, batch)] == [
        (1, "queued"), (3, "refused"), (4, "queued")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "one of them"),
        ({"jobs": ["a"], "axes": {"prompt": ["a"]}}, 422, "one of them"),
        ({"jobs": []}, 422, "at least 1"),
        ({"jobs": [{"prompt": "a", "steps": 0}]}, 422, "no row can run"),
        ({"axes": {"promt": ["a"]}}, 422, "no field 'promt'"),
        ({"axes": {"prompt": []}}, 422, "no values"),
        ({"axes": {"prompt": ["a", "b"], "steps": [1]}, "combine": "zip"}, 422, "equally long"),
        ({"axes": {"prompt": ["a"] * 1000, "steps": [1] * 1000}}, 422, "1000000 jobs"),
        ({"jobs": ["a"] * 21}, 503, "full"),
    ],
)
async def test_a_batch_that_cannot_be_made_queues_nothing(
    api: httpx.AsyncClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = await api.post("/v1/batches", json=body)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert (await api.get("/v1/queue")).json()["queued"] == 0


async def test_bodies_that_are_none(api: httpx.AsyncClient) -> None:
    json_type = {"Content-Type": "application/json"}
    for body in (b"{", b'{"jobs": [NaN]}', b"[" * 100_000, b"\xff"):
        assert (await api.post("/v1/batches", content=body, headers=json_type)).status_code == 400
    assert (await api.post("/v1/batches", content=b"a,b")).status_code == 415
    assert (await api.post("/v1/batches", content=b"\n", headers=JSONL)).status_code == 422
    assert (await api.get("/v1/batches/nope")).status_code == 404


async def test_a_batch_is_its_keys_own(login: Login, store: KeyStore) -> None:  # noqa: F811
    (_, ann), (_, bob) = [
        await store.create(name, ["read", "write"], Limits(max_open=2)) for name in ("ann", "bob")
    ]
    async with login(ann) as http:
        batch = (await http.post("/v1/batches", json={"jobs": ["a", "b", "c"]})).json()
        assert batch["counts"] == {"queued": 2, "refused": 1}
        assert batch["rows"][0]["error"]["code"] == "rate_limit_exceeded"
        assert (await http.post("/v1/batches", json={"jobs": ["d"]})).status_code == 429
    async with login(bob) as http:
        for path in ("self", "results"):
            assert (await http.get(batch["urls"][path])).status_code == 404
        assert (await http.post(batch["urls"]["cancel"])).status_code == 404
