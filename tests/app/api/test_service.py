from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import jsonschema
import pytest

from app.api.main import create_app
from app.queue.base import WorkerCard
from app.queue.redis import RedisQueue
from app.settings import Settings
from guidance import REGISTRY
from samplers.cards import CARDS


def test_the_api_never_imports_torch() -> None:
    code = "import sys, app.api.main, app.client, app.__main__; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


async def test_catalogue(api: httpx.AsyncClient) -> None:
    methods = (await api.get("/v1/guidance")).json()
    assert methods["object"] == "list"
    assert [method["id"] for method in methods["data"]] == list(REGISTRY)
    for method in methods["data"]:
        assert method["title"]
        assert method["summary"]
        assert method["paper"]["arxiv"]
        assert set(method["fidelity"]) == {"compared", "deviates"}
        for compared in method["fidelity"]["compared"]:
            assert compared["reference"]
            assert compared["largest_difference"] < 1e-3
        assert all(deviation["where"] and deviation["why"] for deviation in method["fidelity"]["deviates"])
        assert method["schema"]["additionalProperties"] is False
        assert (await api.get(f"/v1/guidance/{method['id']}")).json() == method
    costs = {method["id"]: method["evaluations_per_step"] for method in methods["data"]}
    assert (costs["none"], costs["cfg"], costs["autoguidance"], costs["fkc"]) == (1, 2, 2, 8)
    assert {sampler["id"] for sampler in (await api.get("/v1/samplers")).json()["data"]} == set(CARDS)
    models = (await api.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["emoji", "toy"]
    assert "flow_euler" not in models[0]["takes"]["cfg"]
    assert "source" not in models[0]
    assert models[0]["qr"] == {"module_px": 8, "control_scale": 1.35}
    assert models[1]["qr"]["control_scale"] == 0
    assert (await api.get("/v1/metrics")).json()["data"][0]["id"] == "basic"


async def test_ready_only_with_a_worker(api: httpx.AsyncClient, queue: RedisQueue) -> None:
    assert (await api.get("/healthz")).status_code == 200
    unready = await api.get("/readyz")
    assert unready.status_code == 503
    assert "lodestar worker" in unready.json()["detail"]
    await queue.announce(WorkerCard("w", "host", 1, "cpu", ["emoji"], 2, 16))
    assert (await api.get("/readyz")).json()["workers"] == 1
    (worker,) = (await api.get("/v1/workers")).json()["data"]
    assert (worker["id"], worker["models"], worker["rows"]) == ("w", ["emoji"], 2)
    scraped = (await api.get("/metrics")).text
    assert "lodestar_workers 1.0" in scraped
    assert 'lodestar_jobs{state="queued"} 0.0' in scraped


async def test_every_answer_is_marked(api: httpx.AsyncClient) -> None:
    page = await api.get("/")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    kept = await api.get("/healthz", headers={"X-Request-Id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    made = await api.get("/healthz", headers={"X-Request-Id": "a b"})
    assert made.headers["x-request-id"] not in ("a b", "")


async def test_openapi_names_the_contract(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    for path in ("/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/cancel", "/v1/jobs/{id}/events",
                 "/v1/jobs/{id}/images/{k}", "/v1/jobs/{id}/trace", "/v1/guidance", "/readyz"):  # fmt: skip
        assert path in paths


async def test_openapi_documents_the_problems(api: httpx.AsyncClient) -> None:
    schema = (await api.get("/openapi.json")).json()
    refused = schema["paths"]["/v1/jobs"]["post"]["responses"]["4XX"]["content"]
    assert list(refused) == ["application/problem+json"]
    real = (await api.post("/v1/jobs", json={"prompt": "x", "steps": 0})).json()
    assert set(real) == set(schema["components"]["schemas"]["ProblemAnswer"]["required"])
    assert schema["components"]["schemas"]["OpenAiError"]
    assert {} in schema["paths"]["/v1/jobs"]["post"]["security"]


async def test_without_redis_the_answer_is_503(tmp_path: Path) -> None:
    app = create_app(Settings(redis_url="redis://127.0.0.1:1/0", data_dir=tmp_path))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lodestar.test") as client:
            answer = await client.get("/v1/queue")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")


async def test_it_ends_though_a_cancel_is_swallowed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping, go_on = asyncio.Event(), asyncio.Event()

    async def sweep(self: RedisQueue) -> int:
        sweeping.set()
        with suppress(asyncio.CancelledError):
            await go_on.wait()
        return 0

    monkeypatch.setattr(RedisQueue, "sweep", sweep)
    app = create_app(settings)
    async with asyncio.timeout(3) as limit, app.router.lifespan_context(app):
        await sweeping.wait()
        go_on.set()
    assert not limit.expired()


async def test_openapi_shows_by_example(api: httpx.AsyncClient) -> None:
    """Each body and each answer in JSON has an example, and what an example shows fits the schema."""
    schema = (await api.get("/openapi.json")).json()
    without = set[str]()
    for path, operations in schema["paths"].items():
        for method, told in operations.items():
            contents = [told.get("requestBody", {}).get("content", {})]
            contents += [
                one.get("content", {}) for at, one in told["responses"].items() if at.startswith("2")
            ]
            for content in contents:
                if (media := content.get("application/json")) is None:
                    continue
                if "example" not in media:
                    without.add(f"{method.upper()} {path}")
                    continue
                rule = {**media.get("schema", {}), "components": schema["components"]}
                jsonschema.Draft202012Validator(rule).validate(media["example"])
    assert without == {"POST /v1/jobs/{id}/deliveries", "GET /v1/comparisons/{id}/export.{kind}"}


async def test_what_is_not_possible_says_what_is(api: httpx.AsyncClient) -> None:
    refused = await api.patch("/v1/jobs")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert "GET, POST" in refused.json()["detail"]
