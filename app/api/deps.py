"""What the endpoints share: the parts of the running service, and the checked pieces of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Path, Request
from ulid import ULID

from app.api.errors import Problem, not_found
from app.catalogue import Catalogue
from app.jobs import JobRecord
from app.outlook import Outlook
from app.queue.base import JobQueue
from app.settings import Settings
from app.storage.base import Storage

MAX_WAIT_S = 60.0
"""The longest that a request waits for a job; a client that wants more asks again."""


@dataclass(frozen=True, slots=True)
class Service:
    """The running service."""

    settings: Settings
    catalogue: Catalogue
    queue: JobQueue
    storage: Storage
    outlook: Outlook


def service(request: Request) -> Service:
    """The service that this application belongs to."""
    return request.app.state.service


Lodestar = Annotated[Service, Depends(service)]


def job_id(id: Annotated[str, Path(max_length=64, description="a ULID or UUID")]) -> str:
    """The id as it is kept: ULIDs in capitals, UUIDs with hyphens. 404 for anything else."""
    try:
        return str(ULID.from_str(id)) if len(id) == 26 else str(UUID(id))
    except ValueError:
        raise not_found(id) from None


JobId = Annotated[str, Depends(job_id)]


async def job(lodestar: Lodestar, id: JobId) -> JobRecord:
    """The record of the job in the path, or 404."""
    record = await lodestar.queue.get(id)
    if record is None:
        raise not_found(id)
    return record


Job = Annotated[JobRecord, Depends(job)]


def prefer_wait(
    prefer: Annotated[str | None, Header(description="wait=30 waits so many seconds")] = None,
) -> float:
    """Seconds to wait for the result, from `Prefer: wait=30` (RFC 7240); 0 without one.

    Other preferences are ignored, as the RFC has it; a wait that says no number of seconds is refused.
    """
    match = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?([^\s,;\"]*)", prefer or "")
    if match is None:
        return 0.0
    if not re.fullmatch(r"[0-9]{1,6}", match[1]):
        raise Problem(400, "Prefer: wait takes whole seconds, as in `wait=30`", code="invalid_request")
    return min(float(match[1]), MAX_WAIT_S)


PreferWait = Annotated[float, Depends(prefer_wait)]


def idempotency_key(
    idempotency_key: Annotated[str | None, Header(description="kept for 24 hours")] = None,
) -> str | None:
    """`Idempotency-Key`, 1 to 255 printable characters."""
    if idempotency_key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", idempotency_key):
        raise Problem(400, "Idempotency-Key must be 1 to 255 printable characters without blanks")
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
