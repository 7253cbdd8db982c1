"""What holds for every request: an id, a bounded body, security headers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from secrets import token_hex
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import METHODS, Problem, answer
from app.logs import REQUEST
from app.meters import HTTP_REQUESTS, HTTP_SECONDS

log = logging.getLogger("lodestar.access")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SAFE = METHODS[:3]
BODILESS = (*SAFE, "DELETE")
DOCS_POLICY = PAGE_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""Of the API's documentation, whose elements carry their style with them."""


class Guard:
    """Pure ASGI, so that streams pass through as they are."""

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, origins: Collection[str] = (), root_path: str = ""
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._origins = origins
        self._root_path = root_path
        self._marks = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"cross-origin" if origins else b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._below_root(scope)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else token_hex(10)
        scope.setdefault("state", {})["request_id"] = request_id
        shown = scope["path"].removeprefix(self._root_path)
        policy = DOCS_POLICY if shown == "/docs" else PAGE_POLICY
        marks = [*self._marks, (b"x-request-id", request_id.encode())]
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *marks]
                MutableHeaders(scope=message).setdefault("Content-Security-Policy", policy)
            await send(message)

        began, _ = time.perf_counter(), REQUEST.set(request_id)
        try:
            await self._pass_on(scope, receive, send_marked)
        finally:
            note(scope, status, time.perf_counter() - began)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or say why not."""
        try:
            self._refuse_other_sites(scope)
            body = await self._body(scope, receive)
        except Problem as problem:
            await answer(Request(scope), problem)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _below_root(self, scope: Scope) -> Scope:
        """With the path as ASGI has it, the root's included: a proxy may have stripped it."""
        root, path = self._root_path, scope["path"]
        if not root:
            return scope
        return {
            **scope,
            "root_path": root,
            "path": path if f"{path}/".startswith(f"{root}/") else root + path,
        }

    def _refuse_other_sites(self, scope: Scope) -> None:
        """A page of another site must not use the service behind its user's back. Raises Problem."""
        headers = Headers(scope=scope)
        if (
            scope["method"] not in SAFE
            and headers.get("sec-fetch-site") == "cross-site"
            and headers.get("origin") not in self._origins
        ):
            detail = "pages of other sites may not use this service; LODESTAR_CORS_ORIGINS lets one in"
            raise Problem(403, detail, code="cross_site")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, if it is not too large."""
        if scope["method"] in BODILESS:
            return b""
        body = bytearray()
        more = True
        while more:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise Problem(413, f"the body is larger than {self._max_body_bytes} bytes")
            more = message.get("more_body", False)
        return bytes(body)


def route_of(scope: Scope) -> str:
    """The route that a request took, as openapi.json has it: no ids, so that there are few."""
    return getattr(scope.get("route"), "path", "none")


def note(scope: Scope, status: int, seconds: float) -> None:
    """Count a request, and write it into the log."""
    route, method = route_of(scope), scope["method"] if scope["method"] in METHODS else "other"
    HTTP_REQUESTS.labels(method, route, str(status)).inc()
    HTTP_SECONDS.labels(route).observe(seconds)
    if not log.isEnabledFor(logging.INFO):
        return
    path = quote(scope["path"])  # as it was sent: decoded it may hold line breaks, and forge lines of the log
    fields = {"method": method, "path": path, "status": status, "ms": round(seconds * 1e3, 1)}
    log.info("%s %s: %d", method, path, status, extra={"fields": fields})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read once more, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
