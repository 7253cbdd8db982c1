"""What the service does beside its requests, every few seconds."""

from __future__ import annotations

from collections.abc import Sequence

from app.queue.base import Forgotten, JobQueue
from app.storage.base import Storage, init_prefix, job_prefix


async def tidy(queue: JobQueue, storage: Storage) -> None:
    """Take back expired leases, forget what is over, delete the files of what was forgotten."""
    await queue.sweep()
    while litter := await queue.litter():
        await remove(queue, storage, litter)


async def remove(queue: JobQueue, storage: Storage, jobs: Sequence[Forgotten]) -> None:
    """Delete the files of forgotten jobs; what fails is tried again at the next `tidy`."""
    for job_id, created_at_ms in jobs:
        await storage.delete_prefix(job_prefix(job_id, created_at_ms))
        if await queue.get(job_id) is None:  # the id may have been used again
            await storage.delete_prefix(init_prefix(job_id))
        await queue.cleaned([(job_id, created_at_ms)])
