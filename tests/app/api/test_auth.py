from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from app.api.main import create_app
from app.keys import KeyStore, Limits
from app.queue.redis import RedisQueue
from app.settings import Settings
from tests.app.api.test_jobs import APPLE, ULID, work_once

Login = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[KeyStore]:
    store = KeyStore.connect(settings)
    yield store
    await store.close()


@pytest.fixture
async def login(settings: Settings) -> AsyncIterator[Login]:
    """Clients of a service that asks for keys; each sends the token it is given."""
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        yield lambda token: httpx.AsyncClient(
            transport=transport,
            base_url="http://lodestar.test",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )


async def made(store: KeyStore, **limits: int) -> str:
    return (await store.create("ann", ["read", "write"], Limits(**limits)))[1]


async def test_only_a_digest_is_kept(store: KeyStore, queue: RedisQueue) -> None:
    key, token = await store.create("ann", ["read"], Limits())
    secret = token.split("_", 2)[2]
    kept = await queue._redis.hgetall(queue._keys("api-keys"))  # pyright: ignore
    assert secret not in str(kept)
    assert (await store.find(token)) is not None
    for wrong in (
        "",
        "lds",
        "lds__",
        f"lds_{key.id}_",
        f"lds_{key.id}_x",
        f"{token}x",
        f"sk_{key.id}_{secret}",
    ):
        assert await store.find(wrong) is None
    assert await store.revoke(key.id)
    assert await store.find(token) is None
    assert not await store.revoke(key.id)


async def test_without_a_key_there_is_nothing_but_the_page_and_the_probes(login: Login) -> None:
    async with login("") as http:
        schema = (await http.get("/openapi.json")).json()
        for path, methods in schema["paths"].items():
            for method in methods:
                answer = await http.request(method, re.sub(r"{\w+}", "0", path.replace("{id}", ULID)))
                if path in ("/healthz", "/readyz"):
                    assert answer.status_code in (200, 503)
                    continue
                if path == "/v1/session" and method != "get":
                    assert answer.status_code in (422, 204)
                    continue
                if (method, path) == ("get", "/"):
                    continue
                assert answer.status_code == 401, (method, path)
                assert "Bearer" in answer.headers["www-authenticate"]
                assert answer.json()["error"]["code"] == "invalid_api_key"
        assert (await http.get("/")).status_code == 200
    async with login("lds_aaa_bbb") as http:
        assert (await http.get("/v1/jobs")).status_code == 401


async def test_a_key_is_a_bearer_token_or_a_password(login: Login, store: KeyStore) -> None:
    token = await made(store)
    async with login(token) as http:
        assert (await http.post("/v1/jobs", json=APPLE)).status_code == 202
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    async with login("") as http:
        assert (await http.get("/v1/jobs", headers={"Authorization": f"basic {basic}"})).status_code == 200
        assert (await http.get("/v1/jobs", headers={"Authorization": "Basic %%"})).status_code == 401


async def test_scopes(login: Login, store: KeyStore) -> None:
    _, reader = await store.create("ann", ["read"], Limits())
    _, scraper = await store.create("prometheus", ["metrics"], Limits())
    async with login(reader) as http:
        assert (await http.get("/v1/jobs")).status_code == 200
        refused = await http.post("/v1/jobs", json=APPLE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
        assert (await http.get("/metrics")).status_code == 403
    async with login(scraper) as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/v1/jobs")).status_code == 403


async def test_a_key_sees_its_own_jobs_only(login: Login, store: KeyStore, settings: Settings) -> None:
    ann, bob = await made(store), await made(store)
    _, root = await store.create("root", ["admin"], Limits())
    async with login(ann) as http:
        job = (await http.post("/v1/jobs", json=APPLE | {"tags": ["t"]})).json()
        await work_once(settings)
        await http.post("/v1/jobs", json=APPLE)
        listed = (await http.get("/v1/jobs", params={"tag": "t"})).json()["data"]
        assert [one["id"] for one in listed] == [job["id"]]
        assert len((await http.get("/v1/jobs", params={"limit": 1})).json()["data"]) == 1
        assert (await http.get(f"/v1/jobs/{job['id']}/images/0")).status_code == 200
    async with login(bob) as http:
        assert (await http.get("/v1/jobs")).json()["data"] == []
        for path in ("", "/events", "/trace", "/images/0", "/images/0/preview"):
            assert (await http.get(f"/v1/jobs/{job['id']}{path}")).status_code == 404, path
        for method, path in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
            assert (await http.request(method, f"/v1/jobs/{job['id']}{path}")).status_code == 404, path
        taken = await http.put(f"/v1/jobs/{job['id']}", json=APPLE | {"tags": ["t"]})
        assert taken.status_code == 422
        assert job["id"] not in taken.json()["detail"]
        spec = {"prompts": ["x"], "seeds": [1], "arms": [{"guidance": {"method": "cfg", "scale": 2}}]}
        spec["arms"].append({"guidance": {"method": "none"}})
        made_by_bob = (await http.post("/v1/comparisons", json=spec)).json()
    async with login(ann) as http:
        assert (await http.get(f"/v1/comparisons/{made_by_bob['id']}")).status_code == 404
        assert (await http.get("/v1/comparisons")).json()["data"] == []
        made_by_ann = await http.post("/v1/comparisons", json=spec)
        assert made_by_ann.status_code == 202
        assert made_by_ann.json()["id"] != made_by_bob["id"]
    async with login(root) as http:
        assert (await http.get(f"/v1/jobs/{job['id']}")).json()["status"] == "succeeded"
        assert len((await http.get("/v1/jobs")).json()["data"]) == 6


async def test_idempotency_keys_are_the_callers_own(login: Login, store: KeyStore) -> None:
    ids: set[str] = set()
    for token in (await made(store), await made(store)):
        async with login(token) as http:
            answer = await http.post("/v1/jobs", json=APPLE, headers={"Idempotency-Key": "k"})
            ids.add(answer.json()["id"])
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("limits", "name", "most_s"),
    [
        ({"per_minute": 3}, "per_minute", 20),
        ({"max_open": 3}, "max_open", 60),
        ({"pixel_steps": 3 * 64 * 64 * 25}, "pixel_steps", 86_400 / 3),
    ],
)
async def test_a_limit_is_429_and_says_when_to_come_back(
    login: Login, store: KeyStore, limits: dict[str, int], name: str, most_s: float
) -> None:
    other = await made(store)
    async with login(await made(store, **limits)) as http:
        answers = [await http.post("/v1/jobs", json=APPLE) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202] * 3 + [429]
    refused = answers[-1]
    assert 1 <= int(refused.headers["retry-after"]) <= most_s
    assert refused.headers["ratelimit"].startswith(f'"{name}";r=0;t=')
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    async with login(other) as http:
        assert (await http.post("/v1/jobs", json=APPLE)).status_code == 202


async def test_ended_jobs_make_room_and_a_retry_takes_it(login: Login, store: KeyStore) -> None:
    async with login(await made(store, max_open=1)) as http:
        job: dict[str, Any] = (await http.post("/v1/jobs", json=APPLE)).json()
        await http.post(job["urls"]["cancel"])
        second = await http.post("/v1/jobs", json=APPLE)
        assert second.status_code == 202
        retry = f"{job['urls']['self']}/retry"
        assert (await http.post(retry)).status_code == 429
        await http.delete(second.json()["urls"]["self"])
        assert (await http.post(retry)).status_code == 202


async def test_a_job_beyond_the_whole_budget_is_refused_for_good(login: Login, store: KeyStore) -> None:
    async with login(await made(store, pixel_steps=1000)) as http:
        answer = await http.post("/v1/jobs", json=APPLE)
    assert answer.status_code == 422
    assert "1000 a day" in answer.json()["detail"]


async def test_other_sites_may_not_write(api: httpx.AsyncClient, settings: Settings) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
    assert (await api.post("/v1/jobs", json=APPLE, headers=headers)).status_code == 403
    read = await api.get("/v1/jobs", headers=headers)
    assert read.status_code == 200
    assert "access-control-allow-origin" not in read.headers
    assert read.headers["cross-origin-resource-policy"] == "same-origin"


async def test_an_origin_that_is_let_in_may(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": "https://a.test https://b.test"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lodestar.test") as http:
            headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://b.test"}
            answer = await http.post("/v1/jobs", json=APPLE, headers=headers)
            assert answer.status_code == 202
            assert answer.headers["access-control-allow-origin"] == "https://b.test"
            headers["Origin"] = "https://c.test"
            assert (await http.post("/v1/jobs", json=APPLE, headers=headers)).status_code == 403


async def test_a_browser_signs_in_with_a_key_and_other_sites_gain_nothing_by_it(
    login: Login, store: KeyStore
) -> None:
    key, token = await store.create("ann", ["read", "write"], Limits())
    page = {"X-Requested-With": "lodestar-page"}
    async with login("") as http:
        locked = await http.get("/v1/session", headers=page)
        assert (locked.status_code, locked.headers["www-authenticate"]) == (401, "Bearer")
        wrong = await http.post("/v1/session", json={"key": f"{token}x"})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (401, "/key")
        signed_in = await http.post("/v1/session", json={"key": token})
        assert signed_in.json() == {"object": "session", "name": "ann", "scopes": ["read", "write"]}
        cookie = signed_in.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert token.split("_", 2)[2] not in cookie
        assert (await http.get("/v1/jobs")).status_code == 200  # as <img> and EventSource ask
        assert (await http.post("/v1/jobs", json=APPLE)).status_code == 401  # as a form of another site could
        assert (await http.post("/v1/jobs", json=APPLE, headers=page)).status_code == 202
        stolen = http.cookies["lodestar_session"]
        assert (await http.delete("/v1/session")).status_code == 204
        assert (await http.get("/v1/jobs")).status_code == 401
        assert (
            await http.get("/v1/jobs", headers={"Cookie": f"lodestar_session={stolen}"})
        ).status_code == 401
        await http.post("/v1/session", json={"key": token})
        assert (await http.get("/v1/session")).json()["name"] == "ann"
        await store.revoke(key.id)
        assert (await http.get("/v1/session")).status_code == 401


@pytest.mark.parametrize("path", ["/lodestar", ""])
async def test_the_service_lives_below_a_path_whether_a_proxy_strips_it_or_not(
    settings: Settings, path: str
) -> None:
    app = create_app(settings.model_copy(update={"root_path": "/lodestar"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://proxy.test{path}") as http:
            shell = await http.get("/compare/x")
            assert 'src="/lodestar/static/main.js"' in shell.text
            assert (await http.get("/static/main.js")).status_code == 200
            made = (await http.post("/v1/jobs", json=APPLE)).json()
            assert made["urls"]["self"] == f"http://proxy.test/lodestar/v1/jobs/{made['id']}"
            docs = await http.get("/docs")
            assert "style-src 'self' 'unsafe-inline'" in docs.headers["content-security-policy"]
            assert '"/lodestar/static/docs.js"' in docs.text
