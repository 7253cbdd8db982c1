"""Comparisons: prompts x seeds x arms, each cell a job; one stream of events for all of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from app import init_image
from app.api.comparison_answers import (
    ComparisonAnswer,
    ComparisonList,
    ComparisonSummary,
    cell_answer,
    summary,
    whole,
)
from app.api.deps import Index, Limit, Lodestar, Service, pixel_steps
from app.api.errors import Problem
from app.api.events import RETRY_MS, event_data
from app.api.filters import Filters, Sought
from app.comparison.cells import Cell
from app.comparison.cost import Estimate, estimate
from app.comparison.spec import Comparison, ComparisonSpec, Place, cell_job, plan, started_from
from app.comparison.store import Comparisons
from app.jobs import TERMINAL, Asked
from app.queue.base import NewJob
from app.queue.records import STATE_EVENT
from app.queue.refusals import QueueFull
from app.storage.base import init_key, init_prefix
from app.upkeep import remove

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])

STATES = frozenset(STATE_EVENT.values()) - {"progress"}
"""Events after which a cell is told of as a whole."""


class Wording(Asked):
    """What may be changed of a comparison: how people speak of it, never what runs."""

    title: str | None = Field(None, min_length=1, max_length=200)
    question: str | None = Field(None, min_length=1, max_length=200)
    votes_planned: int | None = Field(None, ge=1, le=10_000)
    look_s: float | None = Field(None, ge=0, le=60)


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["comparison"] = "comparison"
    deleted: Literal[True] = True


async def comparison(lodestar: Lodestar, id: Annotated[str, Path(max_length=64)]) -> Comparison:
    """The comparison in the path, or 404."""
    found = await Comparisons(lodestar.storage).get(id) if id.replace("-", "").isalnum() else None
    if found is None or not lodestar.sees(found):
        detail = f"there is no comparison {id!r}; it may have been deleted"
        raise Problem(404, detail, code="comparison_not_found")
    return found


Found = Annotated[Comparison, Depends(comparison)]


async def cells_of(lodestar: Service, found: Comparison) -> list[Cell]:
    """All cells with their jobs as they are now."""
    places = found.places
    records = await lodestar.queue.get_many([place.job_id for place in places])
    return [Cell(place, record) for place, record in zip(places, records, strict=True)]


@router.post(
    "",
    status_code=202,
    responses={200: {"model": ComparisonAnswer, "description": "It was there before"}},
)
async def create_comparison(
    spec: ComparisonSpec, lodestar: Lodestar, request: Request, response: Response
) -> ComparisonAnswer:
    """Queue all cells. The same request again answers 200 and the first comparison."""
    store = Comparisons(lodestar.storage)
    found = plan(spec, lodestar.catalogue, lodestar.settings, round(time.time() * 1e3), lodestar.account)
    start = dict[init_image.Name, bytes]()
    if spec.init_image is not None:
        size = found.shared.width or 0, found.shared.height or 0
        start = await init_image.fetch(
            spec.init_image, spec.mask, size, lodestar.queue, lodestar.storage, lodestar.account
        )
        found = started_from(found, init_image.digests(start))
    known = await store.get(found.id)
    if known is None:
        await store.save_start(found, start)
        await store.save(found)
    else:
        response.status_code, found = 200, known
    try:
        await enqueue(lodestar, found, await cells_of(lodestar, found), {"missing"})
    except QueueFull:
        if known is None:
            await store.delete(found)
        raise
    answer = whole(request, found, await cells_of(lodestar, found))
    response.headers["Location"] = answer.urls.self
    return answer


@router.post("/estimate")
async def estimate_comparison(spec: ComparisonSpec, lodestar: Lodestar) -> Estimate:
    """What it would cost, or why it cannot run. Nothing is queued or kept."""
    found = plan(spec, lodestar.catalogue, lodestar.settings, 0)
    fleet = await lodestar.outlook.fleet()
    return await asyncio.to_thread(estimate, found, lodestar.catalogue, lodestar.settings, fleet)


@router.get("")
async def list_comparisons(
    lodestar: Lodestar,
    request: Request,
    filters: Filters,
    limit: Limit = 20,
    after: Annotated[str | None, Query(max_length=64, description="the last id of the page before")] = None,
) -> ComparisonList:
    """Comparisons, newest first."""
    every = [
        one
        for one in await Comparisons(lodestar.storage).list()
        if lodestar.sees(one) and _matches(one, filters)
    ]
    ids = [one.id for one in every]
    if after is not None and after not in ids:
        detail = f"there is no comparison {after} to list after; it may have been deleted"
        raise Problem(422, detail, errors=[{"pointer": "/after", "detail": detail}])
    begin = ids.index(after) + 1 if after is not None else 0
    data = [summary(request, one, await cells_of(lodestar, one)) for one in every[begin : begin + limit]]
    return ComparisonList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(every) > begin + limit,
    )


@router.get("/{id}")
async def get_comparison(lodestar: Lodestar, request: Request, found: Found) -> ComparisonAnswer:
    """A comparison with all its cells; go on with its events after `last_event_id`."""
    return whole(request, found, await cells_of(lodestar, found))


@router.patch("/{id}")
async def change_comparison(
    wording: Wording, lodestar: Lodestar, request: Request, found: Found
) -> ComparisonSummary:
    """Change the title or, before the first vote, how votes are cast: question, planned number, `look_s`."""
    store = Comparisons(lodestar.storage)
    changes = wording.model_dump(exclude_none=True)
    if set(changes) - {"title"} and await store.votes(found):
        detail = "votes were cast already: question, planned number of votes and look_s stay as they are"
        raise Problem(409, detail, code="voting_has_begun")
    found = found.model_copy(update=changes)
    await store.save(found)
    return summary(request, found, await cells_of(lodestar, found))


@router.delete("/{id}")
async def delete_comparison(lodestar: Lodestar, found: Found) -> Deleted:
    """Delete a comparison that does not run, with its jobs, pictures and votes."""
    cells = await cells_of(lodestar, found)
    if any(cell.record and cell.record.status not in TERMINAL for cell in cells):
        detail = "the comparison is still running; cancel it and delete it when it has stopped"
        raise Problem(409, detail, code="comparison_running")
    for cell in cells:
        if (record := await lodestar.queue.delete(cell.place.job_id)) is not None:
            await remove(lodestar.queue, lodestar.storage, [(record.id, record.created_at_ms)])
    await Comparisons(lodestar.storage).delete(found)
    return Deleted(id=found.id)


@router.post("/{id}/cancel", status_code=202)
async def cancel_comparison(lodestar: Lodestar, request: Request, found: Found) -> ComparisonAnswer:
    """End all cells that wait or run. Pictures that are made are kept."""
    records = [cell.record for cell in await cells_of(lodestar, found) if cell.record]
    open_jobs = [record.id for record in records if record.status not in TERMINAL]
    await asyncio.gather(*map(lodestar.queue.cancel, open_jobs))
    return whole(request, found, await cells_of(lodestar, found))


@router.post("/{id}/retry", status_code=202)
async def retry_comparison(
    lodestar: Lodestar,
    request: Request,
    found: Found,
    cell: Annotated[list[Index] | None, Query(description="these cells alone, by index")] = None,
) -> ComparisonAnswer:
    """Queue the cells that failed, were canceled or are missing once more, with the same seeds."""
    cells = await cells_of(lodestar, found)
    if unknown := [index for index in cell or () if index >= len(cells)]:
        detail = f"there is no cell {unknown[0]} in this comparison; its last is {len(cells) - 1}"
        raise Problem(422, detail, errors=[{"pointer": "/cell", "detail": detail}])
    cells = [one for one in cells if cell is None or one.place.index in cell]
    await enqueue(lodestar, found, cells, {"missing", "failed", "canceled", "expired"})
    return whole(request, found, await cells_of(lodestar, found))


@router.get("/{id}/events", response_class=EventSourceResponse)
async def stream_comparison(
    lodestar: Lodestar,
    request: Request,
    found: Found,
    last_event_id: Annotated[str | None, Header(description="resume after this event")] = None,
    after: Annotated[str | None, Query(max_length=32, description="the same, for a first connection")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """The events of all cells: those of a job, each with its `cell`; where it is a state, the whole cell.

    The first is a `snapshot` of the comparison, unless nothing happened since the id given. The last is
    `done`, when no cell waits or runs. An id is the sum of the cells' sequence numbers.
    """
    places = {place.job_id: place for place in found.places}
    events = lodestar.queue.listen(*places)
    cells = await cells_of(lodestar, found)
    seqs = {cell.place.job_id: cell.record.seq if cell.record else 0 for cell in cells}
    open_jobs = {cell.place.job_id for cell in cells if cell.record and cell.record.status not in TERMINAL}

    def event(name: str, data: Any) -> ServerSentEvent:
        return ServerSentEvent(event=name, id=str(sum(seqs.values())), retry=RETRY_MS, data=data)

    if (last_event_id or after) != str(sum(seqs.values())):
        yield event("snapshot", whole(request, found, cells).model_dump(mode="json"))
    while open_jobs:
        hint = await anext(events, None)
        if hint is None:  # the service stops; the client comes back to another replica
            return
        if hint.seq <= seqs[hint.id]:
            continue
        seqs[hint.id] = hint.seq
        if hint.type not in STATES:
            data = event_data(request, hint.id, hint.type, hint.data)
            yield event(hint.type, {"cell": places[hint.id].index, **data})
            continue
        record = await lodestar.queue.get(hint.id)
        if record is None or record.status in TERMINAL:
            open_jobs.discard(hint.id)
            seqs[hint.id] = record.seq if record else hint.seq
        answer = cell_answer(request, Cell(places[hint.id], record))
        # it may have ended since the hint was given
        name = STATE_EVENT[record.status] if record and record.status in TERMINAL else hint.type
        yield event(name, {"cell": answer.index, **answer.model_dump(mode="json")})
    yield event("done", {"status": "done"})


async def enqueue(lodestar: Service, found: Comparison, cells: Sequence[Cell], which: set[str]) -> None:
    """Queue those cells that are in one of the states `which`. Raises QueueFull before any is queued."""
    due = [cell for cell in cells if (cell.record.status if cell.record else "missing") in which]
    depth = await lodestar.queue.depth()
    if due and sum(depth.values()) + len(due) > lodestar.settings.max_queued:
        raise QueueFull
    new = [cell.place for cell in due if cell.record is None]
    jobs = await asyncio.to_thread(_jobs, lodestar, found, new)
    start = await Comparisons(lodestar.storage).start(found) if jobs else {}
    for job in jobs:
        for reference, png in start.items():
            await lodestar.storage.put(init_key(job.id, reference), png)
    answers = await lodestar.queue.enqueue_many(jobs, together=True)
    for job, answer in zip(jobs, answers, strict=True):
        if isinstance(answer, QueueFull) and start:
            await lodestar.storage.delete_prefix(init_prefix(job.id))
    for answer in answers:
        if isinstance(answer, QueueFull):
            raise answer
    again = [cell.record for cell in due if cell.record is not None]
    await asyncio.gather(
        *(lodestar.queue.retry(one.id, lodestar.limits(pixel_steps(one.resolved))) for one in again)
    )


def _jobs(lodestar: Service, found: Comparison, places: Sequence[Place]) -> list[NewJob]:
    return lodestar.own_all(
        [cell_job(found, place, lodestar.catalogue, lodestar.settings) for place in places]
    )


def _matches(one: Comparison, filters: Sought) -> bool:
    methods = [arm.guidance.method for arm in one.arms]
    return filters.has(one.created_at_ms) and filters.reads(
        one.title, one.shared.model, *one.prompts, *methods
    )
