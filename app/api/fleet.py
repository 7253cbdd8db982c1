"""The state of the fleet, and the probes that orchestrators ask."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BeforeValidator, Field

from app.api.catalogue import Listed
from app.api.deps import Lodestar, OpenLodestar, digits
from app.api.errors import Problem

router = APIRouter(tags=["fleet"])

Most = Annotated[int, Field(ge=1, le=1000), BeforeValidator(digits)]


@router.get("/v1/queue")
async def get_queue(lodestar: Lodestar) -> dict[str, Any]:
    """How many jobs wait and run, and how many may be open at once."""
    depth = await lodestar.queue.depth()
    return {"object": "queue", **depth, "max_queued": lodestar.settings.max_queued}


@router.get("/v1/queue/dead")
async def list_dead(lodestar: Lodestar, limit: Most = 100) -> Listed:
    """The jobs that failed for good, the latest first, with every failed attempt; `retry` takes one out."""
    letters = await lodestar.queue.dead_letters(limit, lodestar.account)
    return Listed(
        data=[
            {"object": "dead_letter", "id": letter.id, "errors": [one.model_dump() for one in letter.errors]}
            for letter in letters
        ]
    )


@router.get("/v1/workers")
async def list_workers(lodestar: Lodestar) -> Listed:
    """The workers that were heard of lately."""
    cards = await lodestar.queue.workers()
    return Listed(
        data=[
            {
                "object": "worker",
                **asdict(card),
                "heartbeat_at": datetime.fromtimestamp(card.heartbeat_at_ms / 1e3, UTC).isoformat(),
            }
            for card in cards
        ]
    )


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(lodestar: OpenLodestar) -> dict[str, Any]:
    """Work would be done: the queue is reachable, a worker is alive, results can be stored. Else 503."""
    redis_ms = await lodestar.queue.ping()
    workers = await lodestar.queue.workers()
    if not workers:
        detail = "no worker is alive; start one with: lodestar worker"
        raise Problem(503, detail, code="no_worker", headers={"Retry-After": "2"})
    try:
        await lodestar.storage.check()
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise Problem(503, f"results cannot be stored: {reason}", code="storage_unavailable") from None
    models = sorted({model for worker in workers for model in worker.models})
    return {"status": "ready", "workers": len(workers), "models": models, "redis_ms": round(redis_ms, 2)}
