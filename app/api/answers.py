"""A job as clients see it: the record, with URLs in the place of storage keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel

from app.jobs import (
    RUNNING,
    FailedAttempt,
    JobError,
    JobRecord,
    JobStatus,
    Nfe,
    QrReading,
    Resolved,
    Stage,
    Timings,
)


class ProgressAnswer(BaseModel):
    """How far a job is."""

    step: int
    total: int
    fraction: float
    stage: Stage


class ImageAnswer(BaseModel):
    """One picture of a job."""

    index: int
    seed: int
    url: str
    width: int
    height: int
    sha256: str
    metrics: dict[str, float]
    qr: QrReading | None = None
    previews: list[int] = []
    """Steps, from 0, after which a preview was kept: `{url}/preview?step=`."""


class Urls(BaseModel):
    """Where to go from a job."""

    self: str
    cancel: str
    events: str
    trace: str


class JobAnswer(BaseModel):
    """A job: what was asked, what ran, how far it is, what came out."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    deadline_at: datetime | None
    queue_position: int | None
    eta_ms: int | None
    progress: ProgressAnswer
    attempt: int
    max_attempts: int
    worker_id: str | None
    input: dict[str, Any]
    resolved: Resolved
    images: list[ImageAnswer]
    metrics: dict[str, float]
    nfe: Nfe | None
    timings: Timings | None
    warnings: list[str]
    ran: dict[str, Any]
    error: JobError | None
    errors: list[FailedAttempt]
    tags: list[str]
    metadata: dict[str, str]
    last_event_id: str
    urls: Urls


class JobList(BaseModel):
    """A page of jobs; `after=last_id` asks for the next."""

    object: Literal["list"] = "list"
    data: list[JobAnswer]
    first_id: str | None
    last_id: str | None
    has_more: bool


def job_url(request: Request, job_id: str) -> str:
    """Where a job is, as seen by this client."""
    return f"{base_url(request)}/v1/jobs/{job_id}"


def base_url(request: Request) -> str:
    """Where the service is, as seen by this client; kept, since an answer holds many addresses."""
    kept: dict[str, str] = request.scope.setdefault("state", {})
    if "base_url" not in kept:
        kept["base_url"] = str(request.base_url).rstrip("/")
    return kept["base_url"]


def job_answer(
    request: Request, record: JobRecord, position: int | None = None, eta_ms: int | None = None
) -> JobAnswer:
    """Write a record down for this client. `eta_ms`: of a job that has made no step yet."""
    url = job_url(request, record.id)
    result = record.result
    images = result.images if result else []
    return JobAnswer(
        id=record.id,
        status=record.status,
        created_at=_time(record.created_at_ms),
        started_at=_time(record.started_at_ms),
        completed_at=_time(record.completed_at_ms),
        expires_at=_time(record.expires_at_ms),
        deadline_at=_time(record.deadline_at_ms),
        queue_position=position,
        eta_ms=eta_ms if (left := left_ms(record)) is None else left,
        progress=ProgressAnswer(**record.progress.model_dump(), fraction=record.progress.fraction),
        attempt=record.attempt,
        max_attempts=record.max_attempts,
        worker_id=record.worker_id,
        input=record.input,
        resolved=record.resolved,
        images=[
            ImageAnswer(**image.model_dump(exclude={"key"}), url=f"{url}/images/{image.index}")
            for image in images
        ],
        metrics=result.metrics if result else {},
        nfe=result.nfe if result else None,
        timings=result.timings if result else None,
        warnings=result.warnings if result else [],
        ran=result.ran if result else {},
        error=record.error,
        errors=record.errors,
        tags=record.tags,
        metadata=record.metadata,
        last_event_id=str(record.seq),
        urls=Urls(self=url, cancel=f"{url}/cancel", events=f"{url}/events", trace=f"{url}/trace"),
    )


def _time(ms: int | None) -> Any:
    return None if ms is None else datetime.fromtimestamp(ms / 1e3, UTC)


def left_ms(record: JobRecord) -> int | None:
    """What a running job has left, if it goes on at its pace so far."""
    done = record.progress.fraction
    if record.status not in RUNNING or record.started_at_ms is None or not done:
        return None
    spent = datetime.now(UTC).timestamp() * 1e3 - record.started_at_ms
    return max(0, round(spent * (1 - done) / done))
