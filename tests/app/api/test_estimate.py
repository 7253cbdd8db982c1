from __future__ import annotations

import httpx

from app.api.main import create_app
from app.costs import Cost
from app.queue.base import WorkerCard
from app.queue.redis import RedisQueue
from app.settings import Settings

ASKED = {"prompt": "a red apple, 3d", "seeds": [1, 2], "steps": 10, "guidance": {"method": "cfg", "scale": 4}}
COST = Cost("emoji", 64, 64, "cfg", evaluations=2, busy_ms=10, step_ms=30, image_ms=5)
"""`ASKED` keeps a worker busy for 210 ms and takes 310 ms."""


async def announce(queue: RedisQueue, rows: int = 0, left_ms: float = 0) -> None:
    card = WorkerCard("w", "host", 1, "cpu", ["emoji"], rows, max_rows=16, left_ms=left_ms, costs=[COST])
    await queue.announce(card)


async def test_an_estimate_counts_measures_and_queues_nothing(
    api: httpx.AsyncClient, queue: RedisQueue
) -> None:
    await announce(queue)
    answer = (await api.post("/v1/estimate", json=ASKED)).json()
    assert (answer["nfe"], answer["images"], answer["workers"]) == (20, 2, 1)
    assert (answer["seconds"], answer["queue_wait_s"], answer["eta_ms"]) == (0.31, 0.0, 310)
    assert answer["resolved"]["sampler"] == "ddim"
    assert answer["disk"] == {"bytes": 2 * 64 * 64 * 3, "measured": False}
    assert answer["reading"] == {"tokens": 6, "at_once": 30, "pieces": 1, "cut": None}
    assert answer["problems"] == []
    assert (await api.get("/v1/jobs")).json()["data"] == []


async def test_an_estimate_lists_what_would_be_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/estimate", json={"prompt": "x", "sampler": "flow_euler", "width": 65})
    assert answer.status_code == 200
    assert answer.json()["seconds"] is None
    assert {problem["pointer"] for problem in answer.json()["problems"]} == {"/width", "/sampler"}


async def test_an_estimate_says_that_no_worker_is_alive(api: httpx.AsyncClient) -> None:
    answer = (await api.post("/v1/estimate", json=ASKED)).json()
    assert (answer["nfe"], answer["seconds"], answer["queue_wait_s"], answer["workers"]) == (
        20,
        None,
        None,
        0,
    )
    assert "alive" in answer["problems"][0]["detail"]


async def test_those_who_wait_count_for_those_behind_them(api: httpx.AsyncClient, queue: RedisQueue) -> None:
    await announce(queue, rows=16, left_ms=400)
    for _ in range(3):
        last = (await api.post("/v1/jobs", json=ASKED)).json()
    # the look at the fleet may be older than the latest jobs, never than the worker
    assert last["eta_ms"] in (400 + 310, 400 + 2 * 210 + 310)
    listed = (await api.post("/v1/estimate", json=ASKED)).json()
    assert listed["queue_wait_s"] >= 0.4


async def test_a_server_that_promises_a_wait_refuses_what_would_wait_longer(
    settings: Settings, queue: RedisQueue
) -> None:
    await announce(queue, rows=16, left_ms=7_500)
    app = create_app(settings.model_copy(update={"max_wait_s": 5.0}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lodestar.test") as client:
            answer = await client.post("/v1/jobs", json=ASKED)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "3"
    assert answer.json()["detail"].endswith("try again in 3 s")


async def test_a_job_that_is_known_has_its_answer_at_any_load(
    settings: Settings, api: httpx.AsyncClient, queue: RedisQueue
) -> None:
    key, other = {"Idempotency-Key": "first"}, {"Idempotency-Key": "second"}
    job = (await api.post("/v1/jobs", json=ASKED, headers=key)).json()["id"]
    await announce(queue, rows=16, left_ms=60_000)
    app = create_app(settings.model_copy(update={"max_wait_s": 5.0}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lodestar.test") as client:
            again = await client.post("/v1/jobs", json=ASKED, headers=key)
            put = await client.put(f"/v1/jobs/{job}", json=ASKED)
            changed = await client.post("/v1/jobs", json=ASKED | {"steps": 3}, headers=key)
            new = [await client.post("/v1/jobs", json=ASKED, headers=one) for one in (other, {})]
    assert (again.status_code, again.json()["id"]) == (202, job)
    assert again.headers["idempotency-replayed"] == "true"
    assert (put.status_code, put.json()["id"]) == (202, job)
    assert changed.status_code == 422
    assert [answer.status_code for answer in new] == [503, 503]
