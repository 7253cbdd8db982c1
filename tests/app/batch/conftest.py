"""A batch on a real server, and hands that finish its jobs at once, with a real picture each."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from app.batch import BatchClient
from app.jobs import ImageResult, JobError, JobResult, Nfe, Timings
from app.queue.base import Claim, JobQueue
from app.settings import Settings
from app.storage.base import image_key, job_prefix
from app.storage.local import LocalStorage
from app.storage.png import encode_png

CATALOGUE = '[[models]]\nid = "toy"\nsource = "toy"\nfactor = 1\nmin_size_px = 8\n'
CRASH = JobError(code="internal_error", message="it broke")

Hands = Callable[..., AbstractAsyncContextManager[list[str]]]


def picture(seed: int, prompt: str) -> bytes:
    return encode_png(np.full((8, 8, 3), seed % 256, "uint8"), {"prompt": prompt, "seed": seed})


RAN = {"scorers": {"clip": {"name": "toy/scorer", "sha256": "ab" * 32}}}


@pytest.fixture
def settings(redis_url: str, redis_prefix: str, tmp_path: Path) -> Settings:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(CATALOGUE)
    return Settings(
        redis_url=redis_url, redis_prefix=redis_prefix, data_dir=tmp_path / "data", catalogue=catalogue
    )


@pytest.fixture
def client(settings: Settings) -> BatchClient:
    return BatchClient(settings, in_flight=8)


@pytest.fixture
def hands(queue: JobQueue, settings: Settings) -> Hands:
    """Works on the queue during the block; yields the prompts that were run. `fails`: those that fail."""
    storage = LocalStorage(settings.data_dir)

    async def work(claim: Claim, fails: tuple[str, ...]) -> None:
        if claim.resolved.prompt in fails:
            await queue.fail("hands", claim.id, CRASH)
            return
        images: list[ImageResult] = []
        for index, seed in enumerate(claim.resolved.seeds):
            png = picture(seed, claim.resolved.prompt)
            digest = hashlib.sha256(png).hexdigest()
            key = image_key(job_prefix(claim.id, claim.created_at_ms), digest)
            await storage.put(key, png)
            images.append(
                ImageResult(
                    index=index,
                    seed=seed,
                    key=key,
                    width=8,
                    height=8,
                    sha256=digest,
                    metrics={"contrast": 0.5},
                )
            )
        result = JobResult(
            images=images, nfe=Nfe(model=4), timings=Timings(), metrics={"contrast": 0.5}, ran=RAN
        )
        await queue.finish("hands", claim.id, result)

    @asynccontextmanager
    async def working(fails: tuple[str, ...] = ()) -> AsyncIterator[list[str]]:
        ran: list[str] = []
        ended = False

        async def loop() -> None:
            while not ended:
                for claim in await queue.claim("hands", ["toy"], 16, wait_s=0.05):
                    ran.append(claim.resolved.prompt)
                    await work(claim, fails)

        task = asyncio.create_task(loop())
        try:
            yield ran
        finally:
            ended = True
            await task

    return working
