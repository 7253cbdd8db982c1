"""The application: routes, middleware, the page, start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic.json_schema import models_json_schema

from app import web
from app.api import (
    a1111,
    ballots,
    batches,
    catalogue,
    comparisons,
    errors,
    estimate,
    events,
    exports,
    fleet,
    huggingface,
    images,
    jobs,
    metrics,
    openai,
    session,
)
from app.api.deps import Service
from app.api.examples import add_examples
from app.api.guard import Guard
from app.background import every
from app.catalogue import load_catalogue
from app.keys import KeyStore
from app.outlook import Outlook
from app.queue.redis import RedisQueue
from app.settings import Settings
from app.storage.opening import open_storage
from app.upkeep import tidy
from app.webhooks import Courier

SEND_S = 1.0
"""Webhooks that are due are sent this often."""
TIDY_S = 5.0
"""Expired leases are taken back this often, even while no worker is alive."""


REFERENCE = "#/components/schemas/{model}"
EXPOSED = ["Location", "Retry-After", "X-Request-Id", "Idempotency-Replayed", "Content-Digest"]
"""Headers that scripts of other origins may read, where those are let in."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API of one service; `settings.redis_url` must lead to a running server."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        queue, keys = RedisQueue.connect(settings), KeyStore.connect(settings)
        storage = open_storage(settings)
        app.state.service = Service(
            settings, load_catalogue(settings.catalogue), queue, storage, Outlook(queue), keys
        )
        stopped = asyncio.Event()
        courier = Courier(queue, settings)
        background = [
            asyncio.create_task(every(TIDY_S, lambda: tidy(queue, storage), stopped)),
            asyncio.create_task(every(SEND_S, courier.send_due, stopped)),
        ]
        try:
            yield
        finally:
            stopped.set()
            await asyncio.gather(*background)
            await courier.close()
            await queue.close()
            await keys.close()

    app = FastAPI(
        title="Lodestar",
        summary="Diffusion sampling in which the guidance method is a per-request choice",
        version=version("lodestar-diffusion"),
        lifespan=lifespan,
        docs_url=None,  # `app.web` has one whose scripts are its own
        redoc_url=None,
        responses=errors.documented(),
    )
    errors.install(app)
    origins = settings.cors_origins.split()
    app.add_middleware(
        Guard, max_body_bytes=settings.max_body_bytes, origins=origins, root_path=settings.root_path
    )
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    own = (
        session, jobs, estimate, events, images, batches, comparisons, ballots, exports, catalogue, fleet,
        metrics,
    )  # fmt: skip
    jobs.add_create_job(app)
    for module in (*own, openai, a1111, huggingface):
        app.include_router(module.router)
    web.mount(app, settings.root_path)

    def openapi() -> dict[str, Any]:
        """FastAPI's own, with the problems' schema; a key is optional where none is asked for."""
        if app.openapi_schema is None:
            schema = FastAPI.openapi(app)
            _, problem = models_json_schema([(errors.ProblemAnswer, "serialization")], ref_template=REFERENCE)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(problem["$defs"])
            add_examples(schema)
            if not settings.keys_required:
                for path in schema["paths"].values():
                    for operation in path.values():
                        operation.get("security", []).append({})
        return cast(dict[str, Any], app.openapi_schema)

    app.openapi = openapi
    return app
