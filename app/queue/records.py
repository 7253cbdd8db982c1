"""Records as Redis hashes keep them, to and from wire types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.jobs import (
    TERMINAL,
    EventType,
    JobError,
    JobEvent,
    JobRecord,
    JobResult,
    JobStatus,
    Progress,
    Resolved,
)
from app.queue.base import NewJob
from app.tracing import traceparent

WEIGHTS = {"interactive": 16, "normal": 4, "batch": 1}
"""A priority's share of the service: a job costs its client `cost / (this x the client's own weight)`."""

STATE_EVENT: dict[JobStatus, EventType] = {
    JobStatus.QUEUED: "queued",
    JobStatus.STARTING: "start",
    JobStatus.PROCESSING: "progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELED: "canceled",
    JobStatus.EXPIRED: "expired",
}


SORTED = json.JSONEncoder(sort_keys=True)
COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(job: NewJob) -> str:
    """Tells two requests apart. Of the request as it came: drawn seeds differ each time."""
    text = SORTED.encode([job.input, list(job.tags), dict(job.metadata)])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def idempotency(job: NewJob) -> str:
    """The client's own key for this job, apart from other clients' keys; "" where it gave none."""
    return f"{job.client}:{job.idempotency_key}" if job.idempotency_key else ""


OPTIONAL = {
    name: field.get_default(call_default_factory=True)
    for name, field in Resolved.model_fields.items()
    if not field.is_required()
}


def unset(resolved: Resolved) -> set[str]:
    """What need not be kept, since it is as it is by default."""
    return {name for name, default in OPTIONAL.items() if getattr(resolved, name) == default}


def arguments(job: NewJob, *, place: bool = False, together: int = 1) -> list[str | int | float]:
    """What `enqueue.lua` wants to know of a job.

    `place`: it shall tell how many wait before it. `together`: how many jobs it asks for, itself and those
    after it, which say 0.
    """
    return [
        job.id,
        digest(job),
        idempotency(job),
        job.resolved.model,
        job.group,
        job.client,
        job.rows,
        job.cost / (WEIGHTS[job.resolved.priority] * job.weight),
        job.resolved.priority,
        round(job.delay_s * 1000),
        round(job.deadline_s * 1000) if job.deadline_s is not None else "",
        job.webhook or "",
        job.resolved.model_dump_json(exclude=unset(job.resolved)),
        compact(job.input),
        compact(list(job.tags)) if job.tags else "[]",
        compact(dict(job.metadata)) if job.metadata else "{}",
        job.account or "",
        compact(dict(job.limits)) if job.limits else "{}",
        traceparent(),
        int(place),
        together,
    ]


def compact(value: Any) -> str:
    """JSON without blanks."""
    return COMPACT.encode(value)


def fresh_record(job: NewJob, created_at_ms: int, ahead: int, max_attempts: int) -> JobRecord:
    """The record of a job that was enqueued just now."""
    return JobRecord(
        id=job.id,
        status=JobStatus.QUEUED,
        resolved=job.resolved,
        input=job.input,
        tags=list(job.tags),
        metadata=dict(job.metadata),
        seq=1,
        max_attempts=max_attempts,
        created_at_ms=created_at_ms,
        webhook=job.webhook,
        deadline_at_ms=None if job.deadline_s is None else created_at_ms + round(job.deadline_s * 1000),
        account=job.account,
        ahead=None if ahead < 0 else ahead,
    )


def record(job_id: str, fields: Mapping[str, str]) -> JobRecord:
    """A hash as a record."""

    def number(name: str) -> int | None:
        return int(fields[name]) if name in fields else None

    status = JobStatus(fields["status"])
    progress = Progress.model_validate_json(fields.get("progress", "{}"))
    if status == JobStatus.SUCCEEDED:
        progress = progress.model_copy(update={"stage": "done"})
    return JobRecord(
        id=job_id,
        status=status,
        resolved=Resolved.model_validate_json(fields["resolved"]),
        input=json.loads(fields["input"]),
        tags=json.loads(fields.get("tags", "[]")),
        metadata=json.loads(fields.get("metadata", "{}")),
        seq=int(fields["seq"]),
        attempt=int(fields["attempt"]),
        max_attempts=int(fields["max"]),
        worker_id=fields.get("owner") or fields.get("by") or None,
        cancel_requested="cancel" in fields,
        created_at_ms=int(fields["created"]),
        account=fields.get("account"),
        started_at_ms=number("started"),
        completed_at_ms=number("completed"),
        expires_at_ms=number("expires"),
        deadline_at_ms=number("deadline"),
        webhook=fields.get("webhook"),
        errors=json.loads(fields.get("errors", "[]")),
        progress=progress,
        result=JobResult.model_validate_json(fields["result"]) if "result" in fields else None,
        error=JobError.model_validate_json(fields["error"]) if "error" in fields else None,
    )


def state_event(job: JobRecord) -> JobEvent:
    """What a listener would have heard last of a job in this state."""
    data = {} if job.status in TERMINAL else job.progress.model_dump()
    return JobEvent(id=job.id, seq=job.seq, type=STATE_EVENT[job.status], data=data)
