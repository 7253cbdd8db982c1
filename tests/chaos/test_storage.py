"""Storage that refuses."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.jobs import JobStatus
from tests.chaos.processes import Faults
from tests.chaos.site import Site
from tests.workers.serving import eventually


async def test_the_disk_is_full_for_a_while(site: Site, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    ids = await site.submit(6)
    site.worker(Faults(full=full))
    await tried_again(site, ids)
    full.unlink()
    outcome = await site.audit("disk full for a while", time.time())
    assert outcome.ends == {JobStatus.SUCCEEDED: 6}


async def test_the_object_store_is_away_for_a_while(
    open_site: Callable[..., Site], object_store: Any, s3_bucket: str, tmp_path: Path
) -> None:
    site = open_site(storage_url=f"{s3_bucket}/{tmp_path.name}")
    object_store.stop()
    try:
        ids = await site.submit(6)
        site.worker()
        await tried_again(site, ids)
    finally:
        object_store.start()
    outcome = await site.audit("object store away for a while", time.time())
    assert outcome.ends == {JobStatus.SUCCEEDED: 6}


async def tried_again(site: Site, ids: list[str]) -> None:
    """Wait until one of them is in its second attempt."""

    async def check() -> bool:
        jobs = [await site.queue.get(job_id) for job_id in ids]
        return any(job and job.attempt > 1 for job in jobs)

    await eventually(check)
