"""The API with its logs and traces, for any ASGI server: `uvicorn --factory app.api.asgi:service`."""

from __future__ import annotations

from fastapi import FastAPI

from app import logs, tracing
from app.api.main import create_app
from app.settings import Settings


def service() -> FastAPI:
    """The API as the environment says. Raises ValueError for traces without the extra `otel`."""
    settings = Settings()
    logs.configure(settings, "%(levelname)s %(name)s: %(message)s")
    tracing.configure("lodestar-api")
    return create_app(settings)
