"""Pictures in an object store, a trace while it grows, and nothing of either once a job is deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from app.api.main import create_app
from app.jobs import ImageResult, JobResult, Nfe, Progress, Timings
from app.queue.base import Beat
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.base import image_key, job_prefix, trace_key
from app.storage.opening import open_storage
from tests.app.api.test_jobs import APPLE

PNG = b"\x89PNG not decoded here"
ROWS = [{"step": 0, "guidance_norm": 2.5}]


def trace(rows: int) -> bytes:
    return json.dumps({"images": [{"index": 0, "seed": 1, "rows": ROWS * rows}]}).encode()


@pytest.fixture
def in_s3(settings: Settings, s3_bucket: str, redis_prefix: str) -> Settings:
    return settings.model_copy(update={"storage_url": f"{s3_bucket}/{redis_prefix}"})


@pytest.fixture
async def api(in_s3: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(in_s3)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lodestar.test") as client,
    ):
        yield client


async def test_of_a_deleted_job_nothing_is_left_anywhere(
    api: httpx.AsyncClient, in_s3: Settings, queue: RedisQueue, redis_url: str
) -> None:
    storage = open_storage(in_s3)
    job = (await api.post("/v1/jobs", json=APPLE | {"tags": ["t"]}, headers={"Idempotency-Key": "k"})).json()
    where = job["urls"]["self"]
    (claim,) = await queue.claim("w", ["emoji"], 8)
    await queue.beat("w", [Beat(claim.id, Progress(step=1, total=25))])
    await queue.put_blob(f"trace:{claim.id}", trace(1))
    await queue.put_blob(f"preview:{claim.id}:0", PNG)
    assert (await api.get(where)).json()["status"] == "processing"
    assert (await api.get(f"{where}/trace")).content == trace(1), "so far"

    prefix, sha = job_prefix(claim.id, claim.created_at_ms), hashlib.sha256(PNG).hexdigest()
    key, whole = image_key(prefix, sha), trace_key(prefix, hashlib.sha256(trace(2)).hexdigest())
    await storage.put(key, PNG)
    await storage.put(whole, trace(2))
    image = ImageResult(index=0, seed=1, key=key, width=64, height=64, sha256=sha)
    assert await queue.finish(
        "w", claim.id, JobResult(images=[image], nfe=Nfe(), timings=Timings(), trace_key=whole)
    )
    assert (await api.get(f"{where}/trace")).content == trace(2), "whole"
    (shown,) = (await api.get(where)).json()["images"]
    picture = await api.get(shown["url"])  # through the API, so that no client needs the store's keys
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")

    assert set(await storage.get_prefix("results/")) == {key, whole}
    assert (await api.delete(where)).json()["deleted"]
    assert await storage.get_prefix("results/") == {}
    for path in ("", "/trace", "/images/0", "/images/0/preview", "/events"):
        assert (await api.get(where + path)).status_code == 404, path
    async with Redis.from_url(redis_url) as redis:
        mine = [key async for key in redis.scan_iter(f"{{{in_s3.redis_prefix}}}:*")]
        assert mine
        for key in mine:
            assert job["id"].encode() not in key + (await redis.dump(key) or b"")
    again = await api.post("/v1/jobs", json=APPLE | {"tags": ["u"]}, headers={"Idempotency-Key": "k"})
    assert again.status_code == 202, "its idempotency key is free"
