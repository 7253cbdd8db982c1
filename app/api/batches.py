"""Batches: many jobs in one request. A row that cannot run is told of and does not stop the others."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.admission import Refusal, Refused, new_job
from app.api.answers import job_answer
from app.api.deps import Lodestar, Service
from app.api.errors import Problem
from app.api.foreign import in_words_of
from app.batch.rows import Asking, admit, asked, job_id, no_number, read_jsonl
from app.batch.run import tag_of
from app.batch.spec import BatchSpec, check_count
from app.jobs import TERMINAL, JobStatus, Wire
from app.queue.base import NewJob
from app.queue.refusals import IdempotencyConflict, LimitReached, QueueFull

router = APIRouter(prefix="/v1/batches", tags=["batches"])

JSONL = ("application/jsonl", "application/x-ndjson", "application/json-lines")
PAGE = 100


class RowError(Wire):
    """Why a row was not queued."""

    code: str
    message: str
    errors: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


class BatchRow(Wire):
    """A row, and the job that it became."""

    line: int
    job: str | None = None
    error: RowError | None = None


class Batch(Wire):
    """A batch as it is kept, as long as its jobs are."""

    id: str
    account: str | None
    created_at_ms: int
    rows: list[BatchRow]


class BatchUrls(BaseModel):
    """Where to go from a batch."""

    self: str
    cancel: str
    results: str
    jobs: str


class BatchAnswer(BaseModel):
    """A batch: how many rows came to what, and why some did not."""

    id: str
    object: Literal["batch"] = "batch"
    status: Literal["in_progress", "ended"]
    created_at: datetime
    counts: dict[str, int] = Field(description="rows by job status; refused: not queued; deleted: forgotten")
    total: int
    rows: list[BatchRow] = Field(description="those that were refused; results.jsonl has all")
    urls: BatchUrls


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": BatchSpec.model_json_schema()},
            "application/jsonl": {"schema": {"type": "string", "description": "a row per line"}},
        },
    }
}


@router.post("", status_code=202, openapi_extra=BODY)
async def create_batch(lodestar: Lodestar, request: Request, response: Response) -> BatchAnswer:
    """Queue many jobs: a JSON list, combined fields, or a JSON Lines file as the body."""
    body = await request.body()
    defaults, rows = await asyncio.to_thread(_read, request, body, lodestar.settings.max_batch)
    depth = await lodestar.queue.depth()
    if sum(depth.values()) + len(rows) > lodestar.settings.max_queued:
        raise QueueFull
    batch = UUID(int=uuid4().int)
    kept, jobs = await asyncio.to_thread(_admitted, lodestar, batch, defaults, rows)
    answers = await lodestar.queue.enqueue_many([job for _, job in jobs])
    for (entry, _), answer in zip(jobs, answers, strict=True):
        if isinstance(answer, QueueFull | IdempotencyConflict):
            entry.job, entry.error = None, _why(answer)
    limits = [answer for answer in answers if isinstance(answer, LimitReached)]
    if limits and len(limits) == len(kept):
        raise limits[0]
    if not any(entry.job for entry in kept):
        errors = [{"pointer": f"/{one.line}", "detail": one.error.message} for one in kept if one.error]
        raise Problem(
            422, "no row can run: " + errors[0]["detail"], code="invalid_request", errors=errors[:100]
        )
    found = Batch(id=str(batch), account=lodestar.account, created_at_ms=round(time.time() * 1e3), rows=kept)
    ttl_s = 2 * lodestar.settings.result_ttl_s
    await lodestar.queue.put_blob(f"batch:{batch}", found.model_dump_json().encode(), ttl_s)
    answer = await _answer(lodestar, request, found)
    response.headers["Location"] = answer.urls.self
    return answer


def _admitted(
    lodestar: Service, batch: UUID, defaults: dict[str, Any], rows: list[tuple[int, Asking]]
) -> tuple[list[BatchRow], list[tuple[BatchRow, NewJob]]]:
    """All rows, and the jobs of those that can run."""
    kept, jobs = list[BatchRow](), list[tuple[BatchRow, NewJob]]()
    for line, row in rows:
        kept.append(entry := BatchRow(line=line))
        try:
            asks = asked(row, {"priority": "batch", **defaults})
            entry.job = job_id(batch, line, asks)
            job = lodestar.own(new_job(entry.job, *admit(asks, lodestar.catalogue, lodestar.settings)))
        except (Refused, Problem) as refused:
            entry.job, entry.error = None, _why(refused)
        else:
            tag = tag_of(batch)
            # A key's share is one, in however many batches.
            client = tag if lodestar.key is None else job.client
            jobs.append((entry, replace(job, client=client, tags=[*job.tags, tag])))
    return kept, jobs


def _read(request: Request, body: bytes, at_most: int) -> tuple[dict[str, Any], list[tuple[int, Asking]]]:
    """Defaults and numbered rows of a body. Raises Problem, Refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
    if kind in JSONL:
        rows = [(line, row) for line, row in enumerate(read_jsonl(io.BytesIO(body)), 1) if row is not None]
        if not rows:
            raise Refused([Refusal("", "the file has no rows")])
        check_count(len(rows), at_most)
        return {}, rows
    if kind != "application/json":
        raise Problem(415, f"send the body as application/json or as {JSONL[0]}")
    try:
        spec = json.loads(body, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        detail = f"the body is not valid JSON: {error}"
        raise Problem(400, detail, code="malformed_json") from None
    with in_words_of({}):
        found = BatchSpec.model_validate(spec)
    return found.defaults, list(enumerate(found.rows(at_most), 1))


def _why(error: Refused | Problem | QueueFull | IdempotencyConflict) -> RowError:
    match error:
        case Refused():
            errors = [asdict(refusal) for refusal in error.refusals]
            return RowError(code="invalid_request", message=str(error), errors=errors)
        case Problem():
            return RowError(code=error.code, message=error.detail)
        case LimitReached():
            return RowError(code="rate_limit_exceeded", message=f"the key's limit {error.what!r} was reached")
        case _:
            return RowError(code="queue_full", message=str(error))


async def batch(lodestar: Lodestar, id: Annotated[str, Path(max_length=64)]) -> Batch:
    """The batch in the path, or 404."""
    try:
        data = await lodestar.queue.get_blob(f"batch:{UUID(id)}")
    except ValueError:
        data = None
    found = Batch.model_validate_json(data) if data is not None else None
    if found is None or lodestar.account not in (None, found.account):
        detail = f"there is no batch {id!r}; it may have expired"
        raise Problem(404, detail, code="batch_not_found")
    return found


Found = Annotated[Batch, Depends(batch)]


@router.get("/{id}")
async def get_batch(lodestar: Lodestar, request: Request, found: Found) -> BatchAnswer:
    """A batch: how many rows are where."""
    return await _answer(lodestar, request, found)


@router.post("/{id}/cancel", status_code=202)
async def cancel_batch(lodestar: Lodestar, request: Request, found: Found) -> BatchAnswer:
    """End all rows that wait or run. Pictures that are made are kept."""
    jobs = [row.job for row in found.rows if row.job]
    statuses = zip(jobs, await lodestar.queue.statuses(jobs), strict=True)
    open_jobs = [one for one, status in statuses if status is not None and status not in TERMINAL]
    await asyncio.gather(*map(lodestar.queue.cancel, open_jobs))
    return await _answer(lodestar, request, found)


@router.get("/{id}/results.jsonl", response_class=StreamingResponse,
            responses={200: {"content": {"application/jsonl": {}}}})  # fmt: skip
async def get_results(lodestar: Lodestar, request: Request, found: Found) -> StreamingResponse:
    """A line per row: `line` and the job as `GET /v1/jobs/{id}` tells it now, or why there is none."""
    return StreamingResponse(_lines(lodestar, request, found.rows), media_type="application/jsonl")


async def _lines(lodestar: Service, request: Request, rows: list[BatchRow]) -> AsyncIterator[str]:
    for begin in range(0, len(rows), PAGE):
        some = rows[begin : begin + PAGE]
        records = dict(zip(_jobs(some), await lodestar.queue.get_many(_jobs(some)), strict=True))
        for row in some:
            record = records.get(row.job or "")
            if record is not None:
                told = job_answer(request, record).model_dump(mode="json")
            else:
                status = "refused" if row.error else "deleted"
                told = {"id": row.job, "status": status, "error": row.error and row.error.model_dump()}
            yield json.dumps({"line": row.line, **told}) + "\n"


def _jobs(rows: Iterable[BatchRow]) -> list[str]:
    return [row.job for row in rows if row.job]


async def _answer(lodestar: Service, request: Request, found: Batch) -> BatchAnswer:
    statuses = await lodestar.queue.statuses(_jobs(found.rows))
    counts = Counter("deleted" if status is None else status.value for status in statuses)
    if refused := [row for row in found.rows if row.error]:
        counts["refused"] = len(refused)
    going_on = any(status is not None and status not in TERMINAL for status in statuses)
    base = str(request.base_url).rstrip("/")
    url = f"{base}/v1/batches/{found.id}"
    return BatchAnswer(
        id=found.id,
        status="in_progress" if going_on else "ended",
        created_at=datetime.fromtimestamp(found.created_at_ms / 1e3, UTC),
        counts={status: counts[status] for status in [*JobStatus, "refused", "deleted"] if counts[status]},
        total=len(found.rows),
        rows=refused,
        urls=BatchUrls(
            self=url,
            cancel=f"{url}/cancel",
            results=f"{url}/results.jsonl",
            jobs=f"{base}/v1/jobs?tag={tag_of(found.id)}",
        ),
    )
