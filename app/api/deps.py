"""What the endpoints share: the parts of the running service, and the checked pieces of a request.

Every level of dependencies costs a request as much as its work in the queue, and a plain function a thread:
there are few, and they are coroutines.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BeforeValidator, Field
from ulid import ULID

from app.api.errors import Problem, not_found
from app.api.guard import SAFE
from app.catalogue import Catalogue
from app.comparison.spec import Comparison
from app.jobs import JobRecord, Resolved
from app.keys import ApiKey, KeyStore
from app.outlook import Outlook
from app.queue.base import JobQueue, NewJob
from app.settings import Settings
from app.storage.base import Storage

MAX_WAIT_S = 60.0
"""The longest that a request waits for a job; a client that wants more asks again."""


@dataclass(frozen=True, slots=True)
class Service:
    """The running service, as one caller has it. `key` is None where no key is asked for."""

    settings: Settings
    catalogue: Catalogue
    queue: JobQueue
    storage: Storage
    outlook: Outlook
    keys: KeyStore
    key: ApiKey | None = None

    @property
    def account(self) -> str | None:
        """Whose jobs are seen; None for everybody's."""
        return None if self.key is None or "admin" in self.key.scopes else self.key.id

    def sees(self, record: JobRecord | Comparison) -> bool:
        """Whether a job or a comparison is this caller's business."""
        return self.account is None or record.account == self.account

    def own(self, job: NewJob) -> NewJob:
        """The job as this caller's: it waits in their line and counts against their limits."""
        if self.key is None:
            return job
        key, spent = self.key, pixel_steps(job.resolved)
        budget = key.limits.pixel_steps
        if budget is not None and spent > budget:
            raise Problem(422, f"this takes {spent} pixel-steps; the key may use {budget} a day")
        return replace(job, client=key.id, account=key.id, weight=key.weight, limits=self.limits(spent))

    def own_all(self, jobs: Sequence[NewJob]) -> list[NewJob]:
        """`own` for jobs that are queued together. 422 where they are more than the key may ever have."""
        if self.key is not None:
            most, spent = self.key.limits, sum(pixel_steps(job.resolved) for job in jobs)
            for what, wanted, may in (
                ("jobs", len(jobs), most.max_open),
                ("jobs", len(jobs), most.per_minute),
                ("pixel-steps", spent, most.pixel_steps),
            ):
                if may is not None and wanted > may:
                    raise Problem(422, f"this takes {wanted} {what} at once; the key may use {may}")
        return [self.own(job) for job in jobs]

    def limits(self, spent: int) -> dict[str, float]:
        """What the caller's key may use, for a job that costs `spent` pixel-steps."""
        return {} if self.key is None else {**self.key.limits.model_dump(exclude_none=True), "spent": spent}


def pixel_steps(ran: Resolved) -> int:
    """What a job takes of a key's budget: width x height x steps x pictures."""
    return ran.width * ran.height * ran.steps * len(ran.seeds)


async def open_service(request: Request) -> Service:
    """The service, for what everybody may see."""
    return request.app.state.service


class KeyCheck(SecurityBase):
    """The service as the caller's key has it. 401 without a key where one is needed, 403 where it may not."""

    def __init__(self) -> None:
        self.scheme_name = "HTTPBearer"
        self.model = HTTPBearer(
            description="A key of `lodestar keys create`; not asked for while only this machine reaches it."
        )

    async def __call__(self, request: Request) -> Service:
        lodestar: Service = request.app.state.service
        if not lodestar.settings.keys_required:
            check_query(request)
            return lodestar
        key = await _key_of(request, lodestar.keys)
        path = request.url.path.removeprefix(lodestar.settings.root_path)
        scope = "metrics" if path == "/metrics" else "read" if request.method == "GET" else "write"
        if not {scope, "admin"} & set(key.scopes):
            raise Problem(
                403, f"this key may not do that: it lacks the scope {scope!r}", code="scope_missing"
            )
        check_query(request)
        return replace(lodestar, key=key)


def check_query(request: Request) -> None:
    """Refuse what this endpoint does not read from an address: a misspelt filter would list everything."""
    if not request.query_params:
        return
    known = query_names(request.scope["route"].dependant)
    if unknown := [name for name in request.query_params if name not in known]:
        detail = (
            f"unknown in the query here; {'there are: ' + ', '.join(known) if known else 'it takes none'}"
        )
        raise Problem(
            422,
            f"{unknown[0]!r} is {detail}",
            errors=[{"pointer": f"/{name}", "detail": detail, "allowed": known} for name in unknown],
        )


def query_names(dependant: Dependant) -> list[str]:
    """What an endpoint and its dependencies read from the query."""
    own = [field.alias for field in dependant.query_params]
    return [*own, *(name for below in dependant.dependencies for name in query_names(below))]


async def _key_of(request: Request, keys: KeyStore) -> ApiKey:
    """The key that a request sends, or with which its browser signed in. Raises Problem."""
    authorization, signed_in = request.headers.get("authorization"), request.cookies.get(COOKIE)
    by_page = request.headers.get("x-requested-with") == PAGE
    if authorization is None and signed_in and (by_page or request.method in SAFE):
        key = await keys.find_session(signed_in)
    else:
        key = await keys.find(token(authorization))
    if key is None:
        detail = "send an API key: `Authorization: Bearer lds_...`; `lodestar keys create` makes one"
        challenge = "Bearer" if by_page or signed_in else CHALLENGE  # the page has a form of its own
        raise Problem(401, detail, code="invalid_api_key", headers={"WWW-Authenticate": challenge})
    return key


service = KeyCheck()
COOKIE = "lodestar_session"
"""What a browser that signed in sends: see `app/api/session.py`."""
PAGE = "lodestar-page"
"""`X-Requested-With` of the page's requests. Pages of other origins cannot send it unasked, so a cookie is
believed only with it where something would change."""
CHALLENGE = 'Bearer realm="lodestar", Basic realm="lodestar", charset="UTF-8"'


def token(authorization: str | None) -> str:
    """The key in an Authorization header: a bearer token, or a password for those who know only these."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    match scheme.casefold():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
            except ValueError:
                return ""
        case _:
            return ""


Lodestar = Annotated[Service, Depends(service)]
OpenLodestar = Annotated[Service, Depends(open_service)]


async def job_id(
    request: Request, id: Annotated[str, Path(max_length=64, description="a ULID or UUID")]
) -> str:
    """The id as it is kept: ULIDs in capitals, UUIDs with hyphens. For anything else 404, or 422 to a PUT."""
    try:
        return str(ULID.from_str(id)) if len(id) == 26 else str(UUID(id))
    except ValueError:
        if request.method != "PUT":
            raise not_found(id) from None
        detail = f"{id!r} is no job id; an id is a ULID, like 01M8BE1NP5XSNKAX2H891ZCJ01, or a UUID"
        raise Problem(422, detail, errors=[{"pointer": "/id", "detail": detail}]) from None


JobId = Annotated[str, Depends(job_id)]


async def job(lodestar: Lodestar, id: JobId) -> JobRecord:
    """The record of the job in the path, or 404."""
    record = await lodestar.queue.get(id)
    if record is None or not lodestar.sees(record):
        raise not_found(id)
    return record


Job = Annotated[JobRecord, Depends(job)]


def prefer_wait(prefer: str) -> float:
    """Seconds to wait for the result, from `Prefer: wait=30` (RFC 7240); 0 without one.

    Other preferences are ignored, as the RFC has it; a wait that says no number of seconds is refused.
    """
    match = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?([^\s,;\"]*)", prefer)
    if match is None:
        return 0.0
    if not re.fullmatch(r"[0-9]{1,6}", match[1]):
        raise Problem(400, "Prefer: wait takes whole seconds, as in `wait=30`", code="invalid_request")
    return min(float(match[1]), MAX_WAIT_S)


def idempotency_key(key: str) -> str:
    """`Idempotency-Key`, 1 to 255 printable characters."""
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise Problem(400, "Idempotency-Key must be 1 to 255 printable characters without blanks")
    return key


def digits(value: object) -> object:
    """A whole number in an address, as openapi.json has it: not also ` 1`, `+1` or `1_0`, as Python reads."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ValueError(f"must be a whole number in digits, and {value!r} is none")
    return value


def decimal(value: object) -> object:
    """A number likewise."""
    if isinstance(value, str) and not re.fullmatch(
        r"-?[0-9]{1,9}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", value
    ):
        raise ValueError(f"must be a number like 20 or 2.5, and {value!r} is none")
    return value


Index = Annotated[int, Field(ge=0, lt=10**9), BeforeValidator(digits)]
Limit = Annotated[int, Field(ge=1, le=100), BeforeValidator(digits)]
Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S), BeforeValidator(decimal)]
PreferWait = Annotated[
    float,
    BeforeValidator(prefer_wait, json_schema_input_type=str),
    Header(alias="Prefer", description="wait=30 waits so many seconds"),
]
IdempotencyKey = Annotated[
    str | None,
    BeforeValidator(idempotency_key),
    Header(alias="Idempotency-Key", description="kept for 24 hours"),
]
