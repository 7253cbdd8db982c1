"""Jobs: create, read, list, cancel, retry, delete."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel

from app.api.answers import JobAnswer, JobList, job_answer, job_url
from app.api.catalogue import Listed
from app.api.deps import IdempotencyKey, Job, JobId, Limit, Lodestar, PreferWait, Service, Wait, pixel_steps
from app.api.direct import Direct
from app.api.errors import Problem, not_found
from app.api.filters import Filters
from app.api.submission import submit, until_ended
from app.jobs import RUNNING, TERMINAL, JobRecord, JobSpec, JobStatus
from app.upkeep import remove

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["job"] = "job"
    deleted: Literal[True] = True


DONE: dict[int | str, Any] = {200: {"model": JobAnswer, "description": "It has ended, or was there before"}}


def add_create_job(app: FastAPI) -> None:
    """Add `create_job`, by which most jobs come in, as the first route: routers are slow to search."""
    app.router.add_api_route(
        router.prefix,
        create_job,
        methods=["POST"],
        tags=router.tags,
        status_code=202,
        responses=DONE,
        route_class_override=Direct,
    )


async def create_job(
    spec: JobSpec,
    lodestar: Lodestar,
    request: Request,
    response: Response,
    wait_s: PreferWait = 0.0,
    key: IdempotencyKey = None,
) -> JobAnswer:
    """Queue a job. With `Prefer: wait=30`, answer 200 and the result if it is there in time."""
    return await _create(lodestar, request, response, None, spec, wait_s, key)


@router.put("/{id}", status_code=202, responses=DONE)
async def put_job(
    id: JobId,
    spec: JobSpec,
    lodestar: Lodestar,
    request: Request,
    response: Response,
    wait_s: PreferWait = 0.0,
) -> JobAnswer:
    """Queue a job under the client's own id (a ULID or UUID); repeating it changes nothing."""
    return await _create(lodestar, request, response, id, spec, wait_s)


@router.get("")
async def list_jobs(
    lodestar: Lodestar,
    request: Request,
    filters: Filters,
    status: Annotated[list[JobStatus] | None, Query()] = None,
    tag: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 20,
    after: Annotated[str | None, Query(max_length=64, description="the last id of the page before")] = None,
    order: Literal["asc", "desc"] = "desc",
    batch_id: Annotated[str | None, Query(max_length=64, description="the jobs of a batch")] = None,
    comparison_id: Annotated[
        str | None, Query(max_length=64, description="the cells of a comparison")
    ] = None,
    of: Annotated[
        Literal["all", "single"], Query(description="single: without the cells of comparisons")
    ] = "all",
) -> JobList:
    """Jobs by time of creation, newest first.

    With `search` or `of` no more than some thousand jobs are looked at for a page, which may then hold few or
    none: ask after `last_id` while `has_more`.
    """
    tags = {"tag": tag, "batch_id": batch_id and f"batch:{batch_id}"}
    tags["comparison_id"] = comparison_id and f"comparison:{comparison_id}"
    given = [name for name, value in tags.items() if value]
    if len(given) > 1:
        detail = f"give one of {', '.join(given)}"
        raise Problem(422, detail, errors=[{"pointer": f"/{given[1]}", "detail": detail}])
    tag = tags[given[0]] if given else None

    def wanted(one: JobRecord) -> bool:
        ran = one.resolved
        return filters.reads(ran.prompt, ran.model, ran.guidance.method) and (
            of == "all" or not any(tag.startswith("comparison:") for tag in one.tags)
        )

    try:
        page = await lodestar.queue.list(
            limit=limit, after=after, order=order, status=status, tag=tag, account=lodestar.account,
            created_ms=filters.created_ms, wanted=wanted if filters.words or of == "single" else None,
        )  # fmt: skip
    except ValueError as error:
        raise Problem(422, str(error), errors=[{"pointer": "/after", "detail": str(error)}]) from None
    data = [job_answer(request, record) for record in page.records]
    return JobList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=page.last_id,
        has_more=page.has_more,
    )


@router.get("/{id}")
async def get_job(
    lodestar: Lodestar,
    request: Request,
    record: Job,
    wait: Annotated[Wait, Query(description="seconds to wait for the end")] = 0,
) -> JobAnswer:
    """A job as it is now, or, with `wait`, as soon as it has ended."""
    return await _answer(lodestar, request, await until_ended(lodestar, record, wait))


@router.post("/{id}/cancel", status_code=202, responses=DONE)
async def cancel_job(lodestar: Lodestar, request: Request, response: Response, before: Job) -> JobAnswer:
    """End a queued job, or have a running one end before its next step. Repeating it answers 200."""
    record = await lodestar.queue.cancel(before.id)
    if record is None:
        raise not_found(before.id)
    if before.status in TERMINAL or before.cancel_requested:
        response.status_code = 200
    return await _answer(lodestar, request, record)


@router.post("/{id}/retry", status_code=202)
async def retry_job(lodestar: Lodestar, request: Request, record: Job) -> JobAnswer:
    """Run an ended job again, with the same seeds."""
    if record.status not in TERMINAL:
        raise Problem(409, f"the job is {record.status}; only an ended one can be retried", code="job_open")
    again = await lodestar.queue.retry(record.id, lodestar.limits(pixel_steps(record.resolved)))
    if again is None:
        raise not_found(record.id)
    return await _answer(lodestar, request, again)


@router.get("/{id}/deliveries")
async def list_deliveries(lodestar: Lodestar, record: Job) -> Listed:
    """The last 50 tries to tell the job's webhook of its end, the oldest first."""
    log = await lodestar.queue.outbox.log(record.id)
    return Listed(data=[{"object": "delivery", **delivery.model_dump()} for delivery in log])


@router.post("/{id}/deliveries", status_code=202)
async def replay_delivery(lodestar: Lodestar, record: Job) -> dict[str, str]:
    """Tell the job's webhook of its end once more, under the same webhook-id."""
    match await lodestar.queue.outbox.replay(record.id):
        case "none":
            raise Problem(409, "the job names no webhook", code="no_webhook")
        case "open":
            raise Problem(409, f"the job is {record.status}; there is no end to tell of", code="job_open")
        case "ok":
            return {"object": "delivery", "id": record.id}


@router.delete("/{id}")
async def delete_job(lodestar: Lodestar, record: Job) -> Deleted:
    """Delete a job that does not run, with its pictures and its trace."""
    if await lodestar.queue.delete(record.id) is None:
        raise not_found(record.id)
    await remove(lodestar.queue, lodestar.storage, [(record.id, record.created_at_ms)])
    return Deleted(id=record.id)


async def _create(
    lodestar: Service,
    request: Request,
    response: Response,
    job_id: str | None,
    spec: JobSpec,
    wait_s: float,
    key: str | None = None,
) -> JobAnswer:
    if spec.on_disconnect == "cancel" and not wait_s:
        detail = "on_disconnect 'cancel' is for a client that waits: send Prefer: wait=30, or leave it out"
        raise Problem(422, detail, errors=[{"pointer": "/on_disconnect", "detail": detail}])
    record, created = await submit(lodestar, spec, job_id, key)
    url = job_url(request, record.id)
    if key is not None and not created and record.status in RUNNING:
        detail = f"the job of this Idempotency-Key is running: {url} tells how far it is"
        raise Problem(409, detail, code="job_running", headers={"Location": url, "Retry-After": "2"})
    response.headers["Location"] = url
    if not created:
        response.headers["Idempotency-Replayed"] = "true"
    client = request if created and spec.on_disconnect == "cancel" else None
    record = await until_ended(lodestar, record, wait_s, client)
    if record.status in TERMINAL:
        response.status_code = 200
    if wait_s:
        response.headers["Preference-Applied"] = f"wait={wait_s:.0f}"
    return await _answer(lodestar, request, record)


async def _answer(lodestar: Service, request: Request, record: JobRecord) -> JobAnswer:
    if record.status is not JobStatus.QUEUED:
        return job_answer(request, record)
    position = record.ahead
    if position is None:
        position = await lodestar.queue.position(record.id)
    fleet = await lodestar.outlook.fleet()
    return job_answer(request, record, position, fleet.prospect(record.resolved, position).eta_ms)
