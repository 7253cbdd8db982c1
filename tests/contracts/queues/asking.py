"""Short ways to ask a queue."""

import asyncio
from collections.abc import Callable
from typing import Any

from app.jobs import JobEvent, JobStatus, Progress
from app.queue.base import JobQueue

Open = Callable[..., JobQueue]
TOY = ["toy"]
HALF_WAY = Progress(step=2, total=4, stage="denoising")
LONG_MS, SHORT_MS = 60_000, 60


async def claim_ids(queue: JobQueue, worker: str = "w", room: float = 100, wait_s: float = 0) -> list[str]:
    return [claim.id for claim in await queue.claim(worker, TOY, room, wait_s)]


async def status(queue: JobQueue, job_id: str) -> JobStatus | None:
    job = await queue.get(job_id)
    return job.status if job else None


async def hear(queue: JobQueue, job_id: str, last: str, then: Callable[[], Any]) -> list[JobEvent]:
    """The events from before `then` until one of type `last`."""
    events = queue.listen(job_id)
    await queue.get(job_id)
    await then()
    heard: list[JobEvent] = []
    async with asyncio.timeout(10):
        async for event in events:
            heard.append(event)
            if event.type == last:
                break
    return heard
