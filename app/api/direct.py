"""A route whose requests are read without FastAPI's dependencies: those cost more than the queue itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from app.api.deps import Service, idempotency_key, prefer_wait, service
from app.jobs import JobSpec

Create = Callable[[JobSpec, Service, Request, Response, float, str | None], Awaitable[BaseModel]]


class Direct(APIRoute):
    """For an endpoint with the arguments of `Create`. What is not plainly a good request goes FastAPI's way,
    which says what is wrong with it; openapi.json is made of the endpoint as ever.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that FastAPI asks for."""
        create: Create = self.endpoint
        usual, status = super().get_route_handler(), self.status_code or 200

        async def handle(request: Request) -> Response:
            headers = request.headers
            if headers.get("content-type") != "application/json":
                return await usual(request)
            try:
                spec = JobSpec.model_validate(json.loads(await request.body()))
            except (ValidationError, ValueError, RecursionError):
                return await usual(request)
            key = headers.get("idempotency-key")
            answered = Response(status_code=status, media_type="application/json")
            answer = await create(
                spec,
                await service(request),
                request,
                answered,
                prefer_wait(headers.get("prefer", "")),
                None if key is None else idempotency_key(key),
            )
            answered.body = answer.__pydantic_serializer__.to_json(answer)
            answered.headers["content-length"] = str(len(answered.body))
            return answered

        return handle
