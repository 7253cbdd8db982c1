"""Every error as RFC 9457 problem+json, with an `error` object beside it for OpenAI clients."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.admission import Refused
from app.faults import explain
from app.queue.refusals import Bound, IdempotencyConflict, JobRunning, LimitReached, QueueFull

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
FULL: dict[Bound, tuple[int, str]] = {
    "queue": (503, "the queue is full"),
    "model": (503, "too many jobs wait for this model"),
    "client": (429, "you have as many open jobs as you may have"),
}
"""Status and reason, by the bound that was reached."""
LIMITS = {
    "per_minute": "has made as many jobs as it may in a minute",
    "max_open": "has as many jobs waiting and running as it may",
    "pixel_steps": "has used the pixel-steps that it may in a day",
}


class ProblemError(BaseModel):
    """One thing that is wrong: where (a JSON pointer), why, and what is allowed there."""

    pointer: str
    detail: str
    allowed: Any = None


class OpenAiError(BaseModel):
    """The same for OpenAI's clients."""

    message: str
    type: str
    param: str | None
    code: str


class ProblemAnswer(BaseModel):
    """What every refusal and failure looks like (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str | None
    errors: list[ProblemError]
    error: OpenAiError


def documented() -> dict[int | str, dict[str, Any]]:
    """The answers that every endpoint may give besides its own, for openapi.json."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}}}
    return {
        "4XX": {"description": "Refused; `errors` names the fields", "content": content},
        "503": {"description": "No room, or no worker: `Retry-After` says when", "content": content},
    }


class Problem(Exception):
    """An answer other than success, raised anywhere below a request."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code or HTTPStatus(status).phrase.lower().replace(" ", "_")
        self.errors = list(errors)
        self.headers = dict(headers or {})


def not_found(job_id: str) -> Problem:
    """The answer for a job that was never there, has expired or was deleted."""
    return Problem(
        404, f"there is no job {job_id!r}; it may have expired or been deleted", code="job_not_found"
    )


def answer(request: Request, problem: Problem) -> Response:
    """Write a problem down."""
    first = problem.errors[0] if problem.errors else {}
    param = str(first.get("pointer", "")).strip("/").replace("/", ".") or None
    body = {
        "type": f"urn:lodestar:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "request_id": getattr(request.state, "request_id", None),
        "errors": problem.errors,
        "error": {
            "message": problem.detail,
            "type": "invalid_request_error" if problem.status < 500 else "server_error",
            "param": param,
            "code": problem.code,
        },
    }
    # ASCII, because it may quote what UTF-8 cannot carry: JSON can spell half a surrogate pair.
    return Response(json.dumps(body), problem.status, problem.headers, MEDIA_TYPE)


def methods_at(request: Request) -> list[str]:
    """What may be done at this path. Starlette's own `Allow` knows the first route alone."""
    if told := request.app.openapi()["paths"].get(request.url.path):  # not also as some {id}
        return [method for method in METHODS if method.lower() in told]
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def install(app: FastAPI) -> None:
    """Register the handlers: whatever goes wrong ends as a problem."""

    @app.exception_handler(Problem)
    async def on_problem(request: Request, problem: Problem) -> Response:
        return answer(request, problem)

    @app.exception_handler(Refused)
    async def on_refused(request: Request, refused: Refused) -> Response:
        errors = [asdict(refusal) for refusal in refused.refusals]
        return answer(request, Problem(422, str(refused), code="invalid_request", errors=errors))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(item["type"] == "json_invalid" for item in found):
            reason = str(found[0].get("ctx", {}).get("error", "not JSON"))
            return answer(
                request, Problem(400, f"the body is not valid JSON: {reason}", code="malformed_json")
            )
        if found[0]["loc"] == ("body",) and "json" not in request.headers.get("content-type", "json"):
            return answer(request, Problem(415, "send the body as Content-Type: application/json"))
        errors = [asdict(explain(item)) for item in found]
        detail = "; ".join(f"{item['pointer'] or 'body'}: {item['detail']}" for item in errors)
        return answer(request, Problem(422, detail, code="invalid_request", errors=errors))

    @app.exception_handler(QueueFull)
    async def on_full(request: Request, full: QueueFull) -> Response:
        headers = {"Retry-After": str(full.retry_after_s)}
        status, reason = FULL[full.of]
        detail = f"{reason}; try again in {full.retry_after_s} s"
        return answer(request, Problem(status, detail, code=f"{full.of}_full", headers=headers))

    @app.exception_handler(LimitReached)
    async def on_limit(request: Request, limit: LimitReached) -> Response:
        seconds = limit.retry_after_s
        headers = {"Retry-After": str(seconds), "RateLimit": f'"{limit.what}";r=0;t={seconds}'}
        detail = f"this key {LIMITS[limit.what]}; try again in {seconds} s"
        return answer(request, Problem(429, detail, code="rate_limit_exceeded", headers=headers))

    @app.exception_handler(IdempotencyConflict)
    async def on_conflict(request: Request, _: IdempotencyConflict) -> Response:
        detail = "this Idempotency-Key or job id was used with another payload; use a new one"
        return answer(request, Problem(422, detail, code="idempotency_mismatch"))

    @app.exception_handler(JobRunning)
    async def on_running(request: Request, _: JobRunning) -> Response:
        detail = "the job is running; cancel it and delete it when it has stopped"
        return answer(request, Problem(409, detail, code="job_running"))

    @app.exception_handler(RedisError)
    async def on_redis(request: Request, error: RedisError) -> Response:
        log.error("the queue is not reachable: %s", error)
        detail = "the queue is not reachable at the moment; nothing was changed that you were told of"
        return answer(request, Problem(503, detail, code="queue_unavailable", headers={"Retry-After": "2"}))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        detail = str(error.detail)
        if error.status_code == 404 and detail == "Not Found":
            detail = f"there is nothing at {request.url.path}; GET /docs lists what there is"
        if error.status_code == 400 and detail == "There was an error parsing the body":
            detail = "the body is not JSON in UTF-8, or it is nested too deeply or has too long a number"
            return answer(request, Problem(400, detail, code="malformed_json"))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(methods_at(request))
            detail = f"{request.method} is not possible here; possible are: {headers['Allow']}"
        return answer(request, Problem(error.status_code, detail, headers=headers))

    @app.exception_handler(Exception)
    async def on_crash(request: Request, error: Exception) -> Response:
        log.error("request %s failed", getattr(request.state, "request_id", "?"), exc_info=error)
        return answer(request, Problem(500, "something went wrong in the server; its log has the reason"))
