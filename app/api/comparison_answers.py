"""A comparison as clients see it: its arms, and each cell with the job that makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel

from app.api.answers import ImageAnswer, ProgressAnswer, job_answer, job_url
from app.comparison.cells import Cell
from app.comparison.spec import Arm, Comparison
from app.jobs import RUNNING, TERMINAL, Edit, JobError, JobStatus, Nfe, Timings
from guidance.qr.request import Qr

AS_SHARED = (
    "negative_prompt", "classes", "init_image", "mask", "strength", "edit", "qr", "embedded_scale", "metrics",
)  # fmt: skip
CellStatus = JobStatus | Literal["missing"]


class CellAnswer(BaseModel):
    """One cell. `prompt`, `seed` and `arm` are indices; `missing`: the queue has forgotten its job."""

    index: int
    prompt: int
    seed: int
    arm: int
    job: str
    status: CellStatus
    trace: str
    progress: ProgressAnswer | None = None
    images: list[ImageAnswer] = []
    metrics: dict[str, float] = {}
    nfe: Nfe | None = None
    timings: Timings | None = None
    warnings: list[str] = []
    error: JobError | None = None
    worker_id: str | None = None
    ran: dict[str, Any] = {}


class ComparisonUrls(BaseModel):
    """Where to go from a comparison."""

    self: str
    page: str
    events: str
    cancel: str
    retry: str
    results: str
    ballots: str
    export: str


class ComparisonSummary(BaseModel):
    """A comparison without its cells."""

    id: str
    object: Literal["comparison"] = "comparison"
    title: str
    status: Literal["queued", "processing", "succeeded", "failed", "canceled"]
    created_at: datetime
    counts: dict[str, int]
    model: str
    prompts: list[str]
    seeds: list[int]
    arms: list[Arm]
    question: str
    votes_planned: int
    look_s: float
    thumbnails: list[str]
    urls: ComparisonUrls


class ComparisonAnswer(ComparisonSummary):
    """A comparison with all its cells, as they are at `last_event_id`."""

    negative_prompt: str
    classes: list[str]
    init_image: str | None
    mask: str | None
    strength: float | None
    edit: Edit | None
    qr: Qr | None
    embedded_scale: float | None
    width: int
    height: int
    metrics: list[str]
    cells: list[CellAnswer]
    last_event_id: str


class ComparisonList(BaseModel):
    """Comparisons, newest first; `after=last_id` asks for the next."""

    object: Literal["list"] = "list"
    data: list[ComparisonSummary]
    first_id: str | None
    last_id: str | None
    has_more: bool


def summary(request: Request, found: Comparison, cells: Sequence[Cell]) -> ComparisonSummary:
    """Write a comparison down, without its cells."""
    root = str(request.base_url).rstrip("/")
    url = f"{root}/v1/comparisons/{found.id}"
    first = [
        f"{job_url(request, cell.place.job_id)}/images/0"
        for cell in cells[: len(found.arms)]
        if cell.record and cell.record.result and cell.record.result.images
    ]
    return ComparisonSummary(
        id=found.id,
        title=found.title,
        status=overall(cells),
        created_at=datetime.fromtimestamp(found.created_at_ms / 1e3, UTC),
        counts=dict(Counter(str(cell.record.status) if cell.record else "missing" for cell in cells)),
        model=found.shared.model or "",
        prompts=found.prompts,
        seeds=found.seeds,
        arms=found.arms,
        question=found.question,
        votes_planned=found.votes_planned,
        look_s=found.look_s,
        thumbnails=first,
        urls=ComparisonUrls(
            self=url,
            page=f"{root}/compare/{found.id}",
            **{
                name: f"{url}/{name}"
                for name in ("events", "cancel", "retry", "results", "ballots", "export")
            },
        ),
    )


def whole(request: Request, found: Comparison, cells: Sequence[Cell]) -> ComparisonAnswer:
    """Write a comparison down with its cells."""
    return ComparisonAnswer(
        **summary(request, found, cells).model_dump(exclude={"arms"}),
        arms=found.arms,
        **{name: getattr(found.shared, name) for name in AS_SHARED},
        width=found.shared.width or 0,
        height=found.shared.height or 0,
        cells=[cell_answer(request, cell) for cell in cells],
        last_event_id=str(sum(cell.record.seq for cell in cells if cell.record)),
    )


def cell_answer(request: Request, cell: Cell) -> CellAnswer:
    """Write a cell down."""
    place = cell.place
    answer = CellAnswer(
        index=place.index,
        prompt=place.prompt,
        seed=place.seed,
        arm=place.arm,
        job=place.job_id,
        status="missing",
        trace=f"{job_url(request, place.job_id)}/trace",
    )
    if cell.record is None:
        return answer
    job = job_answer(request, cell.record)
    told = (
        "status",
        "progress",
        "images",
        "metrics",
        "nfe",
        "timings",
        "warnings",
        "error",
        "worker_id",
        "ran",
    )
    return answer.model_copy(update={name: getattr(job, name) for name in told})


def overall(cells: Sequence[Cell]) -> Literal["queued", "processing", "succeeded", "failed", "canceled"]:
    """One status for all: at work while any is; otherwise the worst that happened."""
    found = {cell.record.status if cell.record else JobStatus.EXPIRED for cell in cells}
    if found & RUNNING or (JobStatus.QUEUED in found and found & TERMINAL):
        return "processing"
    if JobStatus.QUEUED in found:
        return "queued"
    if found & {JobStatus.FAILED, JobStatus.EXPIRED}:
        return "failed"
    return "canceled" if JobStatus.CANCELED in found else "succeeded"
