"""What the clients do, as generators of requests and pauses, and what the server answers, typed.

Nothing here sends or sleeps: `app.client` has a driver for threads and one for asyncio.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from app.jobs import TERMINAL, JobStatus, Nfe, Progress, Timings
from guidance import Guidance

PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""Before the second try, the third, ...; then the call fails."""
POLL_S = 20

T = TypeVar("T")


class Lenient(BaseModel):
    """What a server says; fields of a newer one are kept as they are."""

    model_config = ConfigDict(extra="allow")


class LenientProgress(Progress, Lenient):
    """How far a job is."""


class LenientNfe(Nfe, Lenient):
    """Network evaluations per image."""


class LenientTimings(Timings, Lenient):
    """Where a job's time went."""


class JobImage(Lenient):
    """One picture of a job; `Client.image` gets its bytes."""

    index: int
    seed: int
    url: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    metrics: dict[str, float] = Field(default_factory=dict[str, float])
    qr: dict[str, Any] | None = None


class Job(Lenient):
    """A job as the server tells of it."""

    id: str
    status: JobStatus
    attempt: int = 0
    queue_position: int | None = None
    progress: LenientProgress | None = None
    resolved: dict[str, Any] | None = None
    images: list[JobImage] = Field(default_factory=list[JobImage])
    metrics: dict[str, float] | None = None
    nfe: LenientNfe | None = None
    timings: LenientTimings | None = None
    warnings: list[str] = Field(default_factory=list[str])
    error: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in TERMINAL


class JobFields(TypedDict, total=False):
    """What a job may say besides its prompt, as in `POST /v1/jobs`. Pictures may be a file's content."""

    model: str
    negative_prompt: str
    classes: list[str]
    init_image: str | bytes | Path
    mask: str | bytes | Path
    strength: float
    edit: Mapping[str, str]
    qr: Mapping[str, Any]
    seeds: list[int]
    n: int
    width: int
    height: int
    steps: int
    sampler: str
    embedded_scale: float
    clip_skip: int
    guidance: Mapping[str, Any] | Guidance
    metrics: list[str]
    preview_every: int
    priority: str
    tags: list[str]
    metadata: dict[str, str]


class NoAnswer(ConnectionError):
    """No server at this address, or none that answers."""


class JobFailed(Exception):
    """The job ended without pictures: failed, canceled or expired."""

    def __init__(self, job: Job) -> None:
        reason = f": {job.error.get('message')}" if job.error else ""
        super().__init__(f"job {job.id} {job.status}{reason}")
        self.job = job


class ApiError(Exception):
    """The server's refusal: `errors` says for each field what is wrong and what is allowed."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            body = response.json()
        except ValueError:
            body = None
        problem: dict[str, Any] = body if isinstance(body, dict) else {}
        self.status = response.status_code
        self.detail = str(problem.get("detail") or f"{response.status_code} {response.reason_phrase}")
        self.code: str | None = (problem.get("error") or {}).get("code")
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or [])
        told = response.headers.get("retry-after", "")
        self.retry_after_s = float(told) if told.isdecimal() else None
        self.retryable = (
            response.status_code in (429, 502, 503, 504)
            and response.headers.get("x-should-retry", "true") != "false"
        )
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    path: str
    body: Any = None
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    read_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before going on."""

    seconds: float


Call = Generator[Ask | Pause, Any, T]
"""Yields requests, each answered with its response or error, and pauses; returns the outcome."""


def send(ask: Ask, tries: int = len(PAUSES_S) + 1) -> Call[httpx.Response]:
    """A good answer, whatever it takes. Raises ApiError, NoAnswer."""
    for turn in range(tries):
        try:
            response: httpx.Response = yield ask
        except httpx.TransportError as error:
            if turn + 1 == tries:
                raise NoAnswer(f"no answer ({type(error).__name__}: {error})") from error
            yield Pause(PAUSES_S[turn])
            continue
        if response.is_success:
            return response
        refusal = ApiError(response)
        if not refusal.retryable or turn + 1 == tries:
            raise refusal
        told_s = refusal.retry_after_s
        yield Pause(PAUSES_S[turn] if told_s is None else told_s)
    raise AssertionError("unreachable: the last try returns or raises")


def fetch_job(ask: Ask, tries: int = len(PAUSES_S) + 1) -> Call[Job]:
    """The job that an answer holds."""
    response = yield from send(ask, tries)
    return Job.model_validate_json(response.content)


def fetch_jobs(status: Sequence[str] | None, tag: str | None, limit: int) -> Call[list[Job]]:
    """The newest jobs."""
    params: dict[str, Any] = {"limit": str(limit), **({"tag": tag} if tag else {})}
    if status:
        params["status"] = list(status)
    response = yield from send(Ask("GET", "/v1/jobs", params=params))
    return [Job.model_validate(job) for job in response.json()["data"]]


def submit(prompt: str, job_id: str | None, fields: JobFields) -> Call[Job]:
    """Create a job under an id of our own, so that a second try finds the first."""
    body: dict[str, Any] = {"prompt": prompt, **fields}
    if isinstance(guidance := body.get("guidance"), Guidance):
        body["guidance"] = guidance.model_dump(mode="json")
    for name in ("init_image", "mask"):
        image = body.get(name)
        data = image.read_bytes() if isinstance(image, Path) else image
        if isinstance(data, bytes):
            body[name] = base64.b64encode(data).decode()
    return (yield from fetch_job(Ask("PUT", job_path(job_id or str(ULID())), body)))


def wait(job_id: str, timeout_s: float | None) -> Call[Job]:
    """The job when it has ended. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    while True:
        began = time.monotonic()
        poll_s = max(0, int(min(POLL_S, deadline - began)))
        ask = Ask("GET", job_path(job_id), params={"wait": str(poll_s)}, read_s=poll_s + 30.0)
        job = yield from fetch_job(ask)
        if job.ended:
            return job
        if time.monotonic() >= deadline:
            raise TimeoutError(f"job {job_id} is still {job.status} after {timeout_s:g} s")
        if time.monotonic() - began < min(1.0, poll_s):  # a server or proxy that does not long-poll
            yield Pause(0.2)


def generate(prompt: str, timeout_s: float | None, fields: JobFields) -> Call[Job]:
    """The job when it has succeeded. Raises JobFailed, TimeoutError."""
    job = yield from submit(prompt, None, fields)
    if not job.ended:
        job = yield from wait(job.id, timeout_s)
    if job.status != JobStatus.SUCCEEDED:
        raise JobFailed(job)
    return job


def fetch(path: str) -> Call[bytes]:
    """The bytes that lie there."""
    response = yield from send(Ask("GET", path))
    return response.content


def job_path(job: Job | str) -> str:
    """Where a job is."""
    return f"/v1/jobs/{job.id if isinstance(job, Job) else job}"


def wire(ask: Ask) -> dict[str, Any]:
    """The request as httpx takes it."""
    body = {} if ask.body is None else {"json": ask.body}
    timeout = httpx.Timeout(10.0, read=ask.read_s)
    return {"method": ask.method, "url": ask.path, "params": dict(ask.params), "timeout": timeout, **body}
