"""A request's way into the queue and, for a client that waits, to the job's end. Every way in is this one."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress

from fastapi import Request
from ulid import ULID

from app import init_image, tracing
from app.admission import new_job, resolve
from app.api.deps import Service
from app.api.errors import Problem
from app.jobs import TERMINAL, JobRecord, JobSpec, JobStatus, Resolved
from app.logs import JOB, REQUEST
from app.queue.base import NewJob
from app.queue.refusals import IdempotencyConflict, QueueFull
from app.storage.base import init_prefix

log = logging.getLogger(__name__)
CLIENTS_FAULT = {"invalid_request", "not_finite", "out_of_memory"}
"""Codes of failed jobs that the same request would fail with again."""
NO_RETRY = {"x-should-retry": "false"}


async def submit(
    lodestar: Service, spec: JobSpec, job_id: str | None = None, key: str | None = None
) -> tuple[JobRecord, bool]:
    """Queue a job: its record, and whether it is new.

    Raises Refused, QueueFull, IdempotencyConflict, or Problem where it waits too long or may not.
    """
    resolved = resolve(spec, lodestar.catalogue, lodestar.settings)
    if job_id is not None:
        known = await lodestar.queue.get(job_id)
        if known is not None and not lodestar.sees(known):
            raise IdempotencyConflict("the job id is taken")
    job_id = job_id or str(ULID())
    try:
        await _check_fleet(lodestar, resolved)
    except Problem:  # what was queued before has its answer at any load
        if not await lodestar.queue.knows(lodestar.own(new_job(job_id, spec, resolved, key))):
            raise
    spec, resolved = await init_image.take(
        job_id, spec, resolved, lodestar.queue, lodestar.storage, lodestar.account
    )
    return await _enqueue(lodestar, new_job(job_id, spec, resolved, key))


async def _enqueue(lodestar: Service, job: NewJob) -> tuple[JobRecord, bool]:
    """Queue a job; where it is not kept, its picture is not either."""
    try:
        record, created = await lodestar.queue.enqueue(lodestar.own(job))
    except (QueueFull, IdempotencyConflict, Problem):
        if await lodestar.queue.get(job.id) is None:
            await lodestar.storage.delete_prefix(init_prefix(job.id))
        raise
    if record.id != job.id:
        await lodestar.storage.delete_prefix(init_prefix(job.id))
    JOB.set(record.id)
    tracing.annotate(lodestar_job_id=record.id, lodestar_request_id=REQUEST.get() or "")
    log.info("job %s: %s", record.id, "queued" if created else "was there before")
    return record, created


async def _check_fleet(lodestar: Service, resolved: Resolved) -> None:
    """503 where the job would wait longer than this server promises, or for a worker that is not there."""
    refuse = lodestar.settings.unserved == "refuse"
    if refuse and not (await lodestar.outlook.fleet()).serving(resolved.model):
        detail = f"no worker that is alive serves {resolved.model}; try again later, or another model"
        raise Problem(503, detail, code="no_worker", headers={"Retry-After": "5"})
    limit_s = lodestar.settings.max_wait_s
    if not limit_s:
        return
    wait_ms = (await lodestar.outlook.fleet()).prospect(resolved).wait_ms
    if wait_ms is not None and wait_ms > limit_s * 1e3:
        retry_s = math.ceil(wait_ms / 1e3 - limit_s)
        detail = (
            f"this job would wait {wait_ms / 1e3:.0f} s, and here none shall wait more than {limit_s:g} s; "
            f"try again in {retry_s} s"
        )
        raise Problem(503, detail, code="overloaded", headers={"Retry-After": str(retry_s)})


async def until_ended(
    lodestar: Service, record: JobRecord, wait_s: float, client: Request | None = None
) -> JobRecord:
    """The record as soon as the job has ended, or as it is after `wait_s` seconds.

    `client`: the one whose hanging up meanwhile cancels the job.
    """
    if wait_s <= 0 or record.status in TERMINAL:
        return record
    if client is None:
        return await _until_ended(lodestar, record, wait_s)
    waiting = asyncio.create_task(_until_ended(lodestar, record, wait_s))
    leaving = asyncio.create_task(hung_up(client))
    await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not waiting.done():
        await lodestar.queue.cancel(record.id)
    return await waiting


async def _until_ended(lodestar: Service, record: JobRecord, wait_s: float) -> JobRecord:
    deadline = asyncio.get_running_loop().time() + wait_s
    events = lodestar.queue.listen(record.id)
    record = await lodestar.queue.get(record.id) or record
    with suppress(TimeoutError):
        while record.status not in TERMINAL:
            async with asyncio.timeout_at(deadline):  # only here: redis-py may swallow a cancel
                event = await anext(events, None)
            if event is None:  # the service stops
                break
            if event.type in ("completed", "failed", "canceled", "expired"):
                record = await lodestar.queue.get(record.id) or record
    return await lodestar.queue.get(record.id) or record


async def succeeded(lodestar: Service, request: Request, spec: JobSpec, key: str | None = None) -> JobRecord:
    """The record of a job that has succeeded, for a client that waits for nothing but its pictures.

    If the client hangs up, or the job takes too long, it is canceled. Raises Problem, and what `submit` does.
    """
    record, created = await submit(lodestar, spec, None, key)
    client = request if created else None
    record = await until_ended(lodestar, record, lodestar.settings.sync_wait_s, client)
    if record.status is JobStatus.SUCCEEDED:
        return record
    if created and record.status not in TERMINAL:
        await lodestar.queue.cancel(record.id)
    raise unsuccessful(record, lodestar.settings.sync_wait_s)


async def hung_up(request: Request) -> None:
    """Wait until the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def unsuccessful(record: JobRecord, waited_s: float) -> Problem:
    """What to tell a client whose job has no pictures to show. Doing it again by itself would not help."""
    match record.status:
        case JobStatus.FAILED if record.error is not None:
            status = 422 if record.error.code in CLIENTS_FAULT else 500
            detail, code = record.error.message, record.error.code
        case JobStatus.CANCELED:
            status, detail, code = 409, f"job {record.id} was canceled", "job_canceled"
        case _:
            detail = (
                f"job {record.id} is {record.status} after {waited_s:g} s; for long work use POST /v1/jobs"
            )
            status, code = 503, "timeout"
    return Problem(status, detail, code=code, headers=NO_RETRY)


async def picture(lodestar: Service, record: JobRecord, k: int) -> bytes:
    """Picture `k` of a job that has succeeded, as PNG. Raises Problem."""
    assert record.result is not None
    data = await lodestar.storage.get(record.result.images[k].key)
    if data is None:
        raise Problem(410, f"image {k} of job {record.id} is no longer stored", code="image_gone")
    return data
