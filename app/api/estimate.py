"""What a job would cost and how long it would take, without running it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.admission import Refused, resolve
from app.api.deps import Lodestar
from app.costs import evaluations_of
from app.jobs import JobSpec, Resolved
from app.outlook import Disk
from app.reading import Reading, readings

router = APIRouter(prefix="/v1", tags=["jobs"])


class Estimate(BaseModel):
    """A job that was not queued. Times are null where nothing of the model was measured yet."""

    object: Literal["estimate"] = "estimate"
    resolved: Resolved | None
    nfe: int | None
    """Network evaluations per image, at most."""
    images: int | None
    seconds: float | None
    """From the first step to the last image, at the present load."""
    queue_wait_s: float | None
    eta_ms: int | None
    disk: Disk | None
    reading: Reading | None
    """How the model reads the prompt, where that is known here."""
    queued: int
    workers: int | None
    """Those alive that serve the model."""
    problems: list[dict[str, Any]]
    """Why it would be refused, or would not run now: {pointer, detail, allowed}."""


@router.post("/estimate")
async def estimate(spec: JobSpec, lodestar: Lodestar) -> Estimate:
    """What `POST /v1/jobs` would do with this body: nothing is queued, and what is wrong is listed."""
    fleet = await lodestar.outlook.fleet()
    try:
        job = resolve(spec, lodestar.catalogue, lodestar.settings)
    except Refused as refused:
        return Estimate(
            resolved=None, nfe=None, images=None, seconds=None, queue_wait_s=None, eta_ms=None,
            disk=None, reading=None, queued=fleet.queued, workers=None,
            problems=[asdict(one) for one in refused.refusals],
        )  # fmt: skip
    read = await asyncio.to_thread(readings, lodestar.catalogue.models[job.model], [job.prompt])
    prospect, serving = fleet.prospect(job), len(fleet.serving(job.model))
    missing = {
        "pointer": "/model",
        "detail": f"no worker that serves {job.model!r} is alive",
        "allowed": None,
    }
    return Estimate(
        resolved=job,
        nfe=evaluations_of(job),
        images=len(job.seeds),
        seconds=_seconds(prospect.run_ms),
        queue_wait_s=_seconds(prospect.wait_ms),
        eta_ms=prospect.eta_ms,
        disk=fleet.disk([(job, 1)]),
        reading=read[0] if read else None,
        queued=fleet.queued,
        workers=serving,
        problems=[] if serving else [missing],
    )


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else round(ms / 1e3, 3)
