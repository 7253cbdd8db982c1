from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.main import create_app
from app.jobs import ImageResult, JobResult, JobStatus, Nfe, Timings
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.base import image_key, job_prefix
from app.storage.local import LocalStorage
from app.storage.png import encode_png, read_png
from tests.queued import CRASH, REFUSAL

APPLE = {"prompt": "a red apple, 3d", "seeds": [1], "guidance": {"method": "cfg", "scale": 4}}
ULID = "01M8BE1NP5XSNKAX2H891ZCJ01"


async def work_once(settings: Settings, rows: int = 8) -> str:
    """Do a worker's part for one queued job: claim it, store a picture, hand in the result."""
    queue, storage = RedisQueue.connect(settings), LocalStorage(settings.data_dir)
    (claim,) = await queue.claim("worker-1", ["emoji", "toy"], rows)
    data = encode_png(np.full((64, 64, 3), 200, np.uint8), claim.resolved)
    sha = hashlib.sha256(data).hexdigest()
    key = image_key(job_prefix(claim.id, claim.created_at_ms), sha)
    await storage.put(key, data)
    image = ImageResult(
        index=0,
        seed=claim.resolved.seeds[0],
        key=key,
        width=64,
        height=64,
        sha256=sha,
        metrics={"contrast": 0.1},
    )
    result = JobResult(images=[image], nfe=Nfe(model=50), timings=Timings(denoise_ms=5))
    assert await queue.finish("worker-1", claim.id, result)
    await queue.close()
    return claim.id


async def test_create_answers_202_with_everything_resolved(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/jobs", json=APPLE)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(f"/v1/jobs/{job['id']}")
    assert (job["object"], job["status"], job["queue_position"]) == ("job", "queued", 0)
    assert job["input"]["prompt"] == APPLE["prompt"]
    assert job["resolved"]["sampler"] == "ddim"
    assert job["resolved"]["steps"] == 25
    assert (await api.get(job["urls"]["self"])).json() == job


async def test_seeds_are_drawn_and_returned(api: httpx.AsyncClient) -> None:
    job = (await api.post("/v1/jobs", json={"prompt": "x", "n": 3})).json()
    assert len(set(job["resolved"]["seeds"])) == 3


async def test_classes_are_taken_where_a_method_chooses_among_them(api: httpx.AsyncClient) -> None:
    asked = APPLE | {"model": "toy", "guidance": {"method": "gfcg"}, "classes": ["low", "middle"]}
    answer = await api.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    assert answer.json()["resolved"]["classes"] == ["low", "middle"]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"guidance": {"method": "cfgg"}}, "/guidance/method", "cfgpp"),
        ({"guidance": {}}, "/guidance/method", "apg"),
        ({"guidance": {"method": "cfg", "scale": 1e6}}, "/guidance/scale", "100"),
        ({"guidance": {"method": "cfg", "scael": 3}}, "/guidance/scael", "no field"),
        ({"steps": 0}, "/steps", "greater than or equal to 1"),
        ({"steps": 100_000}, "/steps", "200"),
        ({"width": 65}, "/width", "multiples of 16"),
        ({"height": 4096}, "/height", "128"),
        ({"prompt": "y" * 10_000}, "/prompt", "4000"),
        ({"negative_prompt": "y" * 10_000}, "/negative_prompt", "4000"),
        ({"foo": 1}, "/foo", "no field"),
        ({"model": "sdxl"}, "/model", "sdxl"),
        ({"model": "../../etc/passwd"}, "/model", "no model"),
        ({"sampler": "dimm"}, "/sampler", "ddim"),
        ({"sampler": "flow_euler"}, "/sampler", "vp"),
        ({"metrics": ["beauty"]}, "/metrics/0", "beauty"),
        ({"n": 2}, "/n", "seeds or n"),
        ({"seeds": list(range(17))}, "/seeds", "16"),
        ({"seeds": [-1]}, "/seeds/0", "greater than or equal to 0"),
        ({"seeds": [2**70]}, "/seeds/0", "less than"),
        ({"guidance": {"method": "gfcg"}}, "/classes", "chooses among classes"),
        ({"model": "toy", "guidance": {"method": "gfcg"}}, "/classes", "at least one besides the prompt"),
        (
            {"model": "toy", "guidance": {"method": "cfg"}, "classes": ["low"]},
            "/classes",
            "does not use classes",
        ),
        ({"classes": ["y" * 10_000]}, "/classes/0", "4000"),
        ({"classes": [""]}, "/classes/0", "at least 1"),
    ],
)
async def test_bad_input_names_the_field_and_queues_nothing(
    api: httpx.AsyncClient, change: dict[str, Any], pointer: str, says: str
) -> None:
    answer = await api.post("/v1/jobs", json=APPLE | change)
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert says in problem["detail"]
    assert problem["error"]["type"] == "invalid_request_error"
    assert "Traceback" not in answer.text
    assert (await api.get("/v1/queue")).json()["queued"] == 0
    assert (await api.get("/v1/jobs")).json()["data"] == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"prompt": "a', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"prompt": "a"}', "text/plain", 415),
        (b"[1]", "application/json", 422),
        (b'{"prompt": "a", "steps": NaN}', "application/json", 422),
        (b'{"prompt": "' + b"a" * 8_100_000 + b'"}', "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)
async def test_broken_bodies(api: httpx.AsyncClient, content: bytes, kind: str, status: int) -> None:
    answer = await api.post("/v1/jobs", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert (await api.get("/v1/queue")).json()["queued"] == 0


async def test_unknown_places_are_problems_too(api: httpx.AsyncClient) -> None:
    for verb, path, status in (
        ("GET", "/nowhere", 404),
        ("PATCH", "/v1/jobs", 405),
        ("GET", f"/v1/jobs/{ULID}", 404),
        ("GET", "/v1/jobs/..%2f..%2fetc", 404),
        ("POST", f"/v1/jobs/{ULID}/cancel", 404),
        ("DELETE", f"/v1/jobs/{ULID}", 404),
        ("GET", f"/v1/jobs/{ULID}/events", 404),
        ("GET", "/v1/guidance/magic", 404),
        ("GET", "/v1/models/magic", 404),
    ):
        answer = await api.request(verb, path)
        assert (answer.status_code, answer.json()["status"]) == (status, status), path


async def test_a_whole_float_is_an_integer(api: httpx.AsyncClient) -> None:
    asked = APPLE | {"steps": 5.0, "seeds": [7.0]}
    made = await api.post("/v1/jobs", json=asked)
    assert (made.status_code, made.json()["input"]["steps"], made.json()["input"]["seeds"]) == (202, 5, [7])
    broken = await api.post("/v1/jobs", json=APPLE | {"steps": 5.5})
    (error,) = broken.json()["errors"]
    assert (error["pointer"], error["detail"]) == ("/steps", "Input should be a whole number, and 5.5 is not")


async def test_put_is_idempotent(api: httpx.AsyncClient) -> None:
    first = await api.put(f"/v1/jobs/{ULID}", json=APPLE)
    again = await api.put(f"/v1/jobs/{ULID.lower()}", json=APPLE)
    other = await api.put(f"/v1/jobs/{ULID}", json=APPLE | {"steps": 3})
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert first.json()["id"] == again.json()["id"] == ULID
    assert again.headers["idempotency-replayed"] == "true"
    assert (await api.get("/v1/queue")).json()["queued"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt", "a\ud800"), ("model", "\udfff"), ("metadata", {"\ud800": "x"}), ("classes", ["\ud800"])],
)
async def test_lone_surrogates_are_refused(api: httpx.AsyncClient, field: str, value: Any) -> None:
    body = json.dumps(APPLE | {field: value})
    answer = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/{field}"
    assert "Unicode" in error["detail"]
    assert (await api.get("/v1/jobs")).json()["data"] == []


async def test_a_surrogate_in_a_name_is_refused_too(api: httpx.AsyncClient) -> None:
    body = '{"prompt": "a red apple", "\\ud800": 1}'
    answer = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "unicode" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    ["[" * 100_000, '{"seeds": [' + "1" * 5000 + "]}", b'{"prompt": "\xff"}'],
    ids=["deep", "long", "latin"],
)
async def test_what_the_parser_cannot_read_is_named(api: httpx.AsyncClient, body: str | bytes) -> None:
    answer = await api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_json"
    assert "JSON" in answer.json()["detail"]


@pytest.mark.parametrize("wait", ["abc", "-1", "nan", "1.5", "", "9" * 5000])
async def test_a_wait_that_is_no_number_is_refused(api: httpx.AsyncClient, wait: str) -> None:
    answer = await api.post("/v1/jobs", json=APPLE, headers={"Prefer": f"wait={wait}"})
    assert answer.status_code == 400
    assert "wait=30" in answer.json()["detail"]
    other = await api.post("/v1/jobs", json=APPLE, headers={"Prefer": "respond-async"})
    assert other.status_code == 202


async def test_idempotency_key_replays(api: httpx.AsyncClient) -> None:
    spec = {"prompt": "no seeds given"}
    answers = [await api.post("/v1/jobs", json=spec, headers={"Idempotency-Key": "k1"}) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true", "true"]
    other = await api.post("/v1/jobs", json=APPLE, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 422
    bad = await api.post("/v1/jobs", json=APPLE, headers={"Idempotency-Key": "k 1"})
    assert bad.status_code == 400


async def test_full_queue_says_when_to_come_back(api: httpx.AsyncClient) -> None:
    answers = [await api.post("/v1/jobs", json=APPLE) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [202] * 20 + [503]
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_list_pages_through_all(api: httpx.AsyncClient) -> None:
    ids = [(await api.post("/v1/jobs", json=APPLE | {"tags": [f"t{i % 2}"]})).json()["id"] for i in range(5)]
    seen: list[str] = []
    after = ""
    while True:
        page = (await api.get("/v1/jobs", params={"limit": 2, **({"after": after} if after else {})})).json()
        seen += [job["id"] for job in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == ids[::-1]
    tagged = (await api.get("/v1/jobs", params={"tag": "t1", "order": "asc"})).json()["data"]
    assert [job["id"] for job in tagged] == ids[1::2]
    assert (await api.get("/v1/jobs", params={"after": ULID})).status_code == 422


async def test_single_jobs_are_found_by_words_and_by_time(api: httpx.AsyncClient) -> None:
    asked = {"model": "toy", "prompts": ["high"], "seeds": [1], "arms": [{"guidance": {"method": "cfg"}}]}
    assert (await api.post("/v1/comparisons", json=asked)).status_code == 202
    first = (await api.post("/v1/jobs", json=APPLE | {"prompt": "a dog"})).json()
    await asyncio.sleep(0.005)  # no two in a millisecond
    second = (await api.post("/v1/jobs", json=APPLE | {"prompt": "a cat"})).json()

    async def found(**filters: str) -> list[str]:
        listed = (await api.get("/v1/jobs", params=filters)).raise_for_status().json()["data"]
        return [job["resolved"]["prompt"] for job in listed]

    assert await found() == ["a cat", "a dog", "high"]
    assert await found(of="single") == ["a cat", "a dog"]
    assert await found(search="CFG emoji DOG") == ["a dog"]
    assert await found(of="single", created_from=second["created_at"]) == ["a cat"]
    assert await found(of="single", created_before=second["created_at"]) == ["a dog"]
    assert first["created_at"] < second["created_at"]
    for wrong in ("2026-01-31", "2026-01-31T12:00:00", "1700000000"):
        answer = await api.get("/v1/jobs", params={"created_from": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/created_from")


async def test_cancel_retry_delete(api: httpx.AsyncClient) -> None:
    url = (await api.post("/v1/jobs", json=APPLE)).json()["urls"]["self"]
    assert (await api.post(f"{url}/retry")).status_code == 409
    first, second = await api.post(f"{url}/cancel"), await api.post(f"{url}/cancel")
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["status"] == "canceled"
    assert (await api.post(f"{url}/retry")).json()["status"] == "queued"
    assert (await api.delete(url)).json()["deleted"] is True
    assert (await api.get(url)).status_code == 404
    assert (await api.get("/v1/jobs")).json()["data"] == []


async def test_a_running_job_is_not_deleted(api: httpx.AsyncClient, queue: RedisQueue) -> None:
    url = (await api.post("/v1/jobs", json=APPLE)).json()["urls"]["self"]
    await queue.claim("w", ["emoji"], 8)
    assert (await api.delete(url)).status_code == 409


async def test_wait_answers_200_when_it_is_done(api: httpx.AsyncClient, settings: Settings) -> None:
    asking = asyncio.create_task(api.post("/v1/jobs", json=APPLE, headers={"Prefer": "wait=20"}))
    while not (await api.get("/v1/queue")).json()["queued"]:
        assert not asking.done()
    await work_once(settings)
    answer = await asking
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["nfe"]["model"] == 50


async def test_wait_gives_up_in_time(api: httpx.AsyncClient) -> None:
    url = (await api.post("/v1/jobs", json=APPLE)).json()["urls"]["self"]
    answer = await api.get(url, params={"wait": 0.05})
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


async def test_pictures_in_three_formats(api: httpx.AsyncClient, settings: Settings) -> None:
    await api.post("/v1/jobs", json=APPLE)
    job_id = await work_once(settings)
    (image,) = (await api.get(f"/v1/jobs/{job_id}")).json()["images"]
    png = await api.get(image["url"])
    assert png.headers["content-type"] == "image/png"
    assert "immutable" in png.headers["cache-control"]
    assert hashlib.sha256(png.content).hexdigest() == image["sha256"]
    assert read_png(png.content)["prompt"] == APPLE["prompt"]
    cached = await api.get(image["url"], headers={"If-None-Match": png.headers["etag"]})
    assert cached.status_code == 304
    for kind in ("jpeg", "webp"):
        by_query = await api.get(image["url"], params={"format": kind})
        by_accept = await api.get(image["url"], headers={"Accept": f"image/{kind};q=0.9, image/png;q=0.1"})
        assert by_query.headers["content-type"] == by_accept.headers["content-type"] == f"image/{kind}"
    assert (await api.get(image["url"], headers={"Accept": "text/html"})).status_code == 406
    assert (await api.get(f"/v1/jobs/{job_id}/images/1")).status_code == 404


async def test_deleting_deletes_the_files(api: httpx.AsyncClient, settings: Settings) -> None:
    await api.post("/v1/jobs", json=APPLE)
    job_id = await work_once(settings)
    assert list(settings.data_dir.rglob("*.png"))
    await api.delete(f"/v1/jobs/{job_id}")
    assert not list(settings.data_dir.rglob("*.png"))


async def test_a_client_that_hangs_up_cancels_its_job_where_it_said_so(
    live: httpx.AsyncClient, queue: RedisQueue
) -> None:
    """Both hang up while they wait; only one of them wanted that to end its job."""
    put = {"headers": {"Prefer": "wait=60"}, "timeout": 0.3}
    for job_id, then in ((ULID, "continue"), (f"{ULID[:-1]}2", "cancel")):
        with pytest.raises(httpx.ReadTimeout):
            await live.put(f"/v1/jobs/{job_id}", json={**APPLE, "on_disconnect": then}, **put)
    async with asyncio.timeout(20):
        while (await queue.depth())["queued"] > 1:
            pass
    page = await queue.list(order="asc")
    assert [job.status for job in page.records] == [JobStatus.QUEUED, JobStatus.CANCELED]
    refused = await live.post("/v1/jobs", json={**APPLE, "on_disconnect": "cancel"})
    assert refused.status_code == 422
    assert "Prefer: wait" in refused.json()["detail"]


@pytest.mark.parametrize(("of", "status"), [("queue", 503), ("model", 503), ("client", 429)])
async def test_who_finds_no_room_is_told_why_and_when_to_come_back(
    settings: Settings, of: str, status: int
) -> None:
    bound = "max_queued" if of == "queue" else f"max_queued_per_{of}"
    app = create_app(settings.model_copy(update={bound: 1}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lodestar.test") as api,
    ):
        assert (await api.post("/v1/jobs", json=APPLE)).status_code == 202
        full = await api.post("/v1/jobs", json=APPLE)
    assert full.status_code == status
    assert int(full.headers["Retry-After"]) >= 1
    assert full.json()["error"]["code"] == f"{of}_full"


async def test_time_and_failures_of_a_job_are_told(api: httpx.AsyncClient, queue: RedisQueue) -> None:
    job = (await api.post("/v1/jobs", json={**APPLE, "deadline_s": 60, "delay_s": 3600})).json()
    assert job["deadline_at"] > job["created_at"]
    assert (await queue.claim("w", ["emoji"], 8)) == []
    failed = (await api.post("/v1/jobs", json=APPLE)).json()
    await queue.claim("w", ["emoji"], 8)
    await queue.fail("w", failed["id"], CRASH)
    (attempt,) = (await api.get(f"/v1/jobs/{failed['id']}")).json()["errors"]
    assert (attempt["attempt"], attempt["error"]["code"]) == (1, "internal_error")
    await queue.claim("w", ["emoji"], 8)
    await queue.fail("w", failed["id"], REFUSAL)
    (letter,) = (await api.get("/v1/queue/dead")).json()["data"]
    assert [one["error"]["code"] for one in letter["errors"]] == ["internal_error", "invalid_request"]
    assert (await api.post(f"/v1/jobs/{letter['id']}/retry")).status_code == 202
    assert (await api.get("/v1/queue/dead")).json()["data"] == []


async def test_an_idempotency_key_of_a_running_job_is_409(api: httpx.AsyncClient, queue: RedisQueue) -> None:
    headers = {"Idempotency-Key": "k2"}
    job = (await api.post("/v1/jobs", json=APPLE, headers=headers)).json()
    await queue.claim("w", ["emoji"], 8)
    answer = await api.post("/v1/jobs", json=APPLE, headers=headers)
    assert answer.status_code == 409
    assert answer.headers["location"] == job["urls"]["self"]


async def test_text_that_looks_like_nul_is_text(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/jobs", json=APPLE | {"prompt": "a\\u0000"})).status_code == 202


async def test_a_job_whose_model_nobody_serves_is_refused_where_the_settings_say_so(
    settings: Settings, queue: RedisQueue
) -> None:
    app = create_app(settings.model_copy(update={"unserved": "refuse"}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lodestar.test") as api,
    ):
        refused = await api.post("/v1/jobs", json=APPLE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_worker")
    assert await queue.depth() == {"queued": 0, "running": 0}
