"""Server-sent events: a snapshot of the job, then what changes, until its end.

Events set, never add: the id is the record's sequence number, and a reader that comes back with an older one
gets a fresh snapshot instead of what it missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.answers import job_answer, job_url
from app.api.deps import Job, Lodestar
from app.jobs import TERMINAL, JobRecord
from app.queue.records import STATE_EVENT

RETRY_MS = 2_000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{id}/events", response_class=EventSourceResponse)
async def stream_events(
    lodestar: Lodestar,
    request: Request,
    job: Job,
    last_event_id: Annotated[str | None, Header(description="resume after this event")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """The events of a job: `snapshot`, then `queued`, `start`, `progress`, `preview`, `guidance`, `image`.

    The last is one of `completed`, `failed`, `canceled`, `expired`; its data is the whole job.
    """
    events = lodestar.queue.listen(job.id)
    record = await lodestar.queue.get(job.id) or job
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() else -1
    if seen != record.seq:
        yield _event("snapshot", record.seq, _whole(request, record))
    if seen != record.seq or record.status in TERMINAL:
        yield _state(request, record, record.seq)
    seq = record.seq
    while record.status not in TERMINAL:
        event = await anext(events, None)
        if event is None:  # the service stops; the client comes back to another replica
            return
        if event.seq <= seq:
            continue
        seq = event.seq
        if event.type in ("completed", "failed", "canceled", "expired", "queued", "start"):
            record = await lodestar.queue.get(job.id)
            if record is None:  # deleted meanwhile
                return
            if record.seq > seq and record.status in TERMINAL:
                seq = record.seq
            yield _state(request, record, seq)
        else:
            yield _event(event.type, seq, event_data(request, job.id, event.type, event.data))


def _event(name: str, seq: int, data: Any) -> ServerSentEvent:
    return ServerSentEvent(event=name, id=str(seq), retry=RETRY_MS, data=data)


def _state(request: Request, record: JobRecord, seq: int) -> ServerSentEvent:
    """The event that leads to the record's status."""
    name = STATE_EVENT[record.status]
    if name == "progress":
        return _event(name, seq, event_data(request, record.id, name, record.progress.model_dump()))
    return _event(name, seq, _whole(request, record))


def _whole(request: Request, record: JobRecord) -> Any:
    return job_answer(request, record).model_dump(mode="json")


def event_data(request: Request, job_id: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The event's data, with the URL of the picture it speaks of."""
    if kind == "preview":
        url = f"{job_url(request, job_id)}/images/{data['index']}/preview?step={data['step']}"
        return {**data, "url": url}
    if kind == "image":
        return {**data, "url": f"{job_url(request, job_id)}/images/{data['index']}"}
    if kind == "progress" and data.get("total"):
        return {**data, "fraction": data["step"] / data["total"]}
    return data
