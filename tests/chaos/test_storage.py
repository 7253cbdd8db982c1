"""Storage that refuses."""

import time
from pathlib import Path

from app.jobs import JobStatus
from tests.chaos.processes import Faults
from tests.chaos.site import Site
from tests.workers.serving import eventually


async def test_the_disk_is_full_for_a_while(site: Site, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    ids = await site.submit(6)
    site.worker(Faults(full=full))

    async def tried_again() -> bool:
        jobs = [await site.queue.get(job_id) for job_id in ids]
        return any(job and job.attempt > 1 for job in jobs)

    await eventually(tried_again)
    full.unlink()
    outcome = await site.audit("disk full for a while", time.time())
    assert outcome.ends == {JobStatus.SUCCEEDED: 6}
