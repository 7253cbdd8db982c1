"""Pictures and traces of a job."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response

from app.api.deps import Index, Job, Lodestar, Service
from app.api.errors import Problem
from app.api.submission import picture
from app.jobs import TERMINAL, JobRecord
from app.storage.base import init_key, job_prefix, preview_key
from app.storage.png import Format, convert

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MEDIA_TYPES: dict[str, Format] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
BYTES = {"schema": {"type": "string", "format": "binary"}}
PNG: dict[int | str, Any] = {200: {"content": {"image/png": BYTES}}}
PICTURE: dict[int | str, Any] = {200: {"content": dict.fromkeys(MEDIA_TYPES, BYTES)}}
Which = Annotated[Index, Path(description="the picture's index in `images`")]


@router.get(
    "/{id}/images/{k}",
    response_class=Response,
    responses=PICTURE | {304: {"description": "As the client has it"}},
)
async def get_image(
    lodestar: Lodestar,
    job: Job,
    k: Which,
    format: Annotated[Format | None, Query(description="wins over Accept")] = None,
    accept: Annotated[str, Header()] = "*/*",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A picture's bytes. The PNG is as stored and holds the request that made it; it never changes."""
    images = job.result.images if job.result else []
    if k >= len(images):
        count = f"it has {len(images)}" if job.status in TERMINAL else f"it is {job.status}"
        raise Problem(404, f"job {job.id} has no image {k}: {count}", code="image_not_found")
    kind = format or preferred(accept)
    headers = {
        "ETag": f'"{images[k].sha256}-{kind}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Vary": "Accept",
    }
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    answer = await rendered(lodestar, job, k, kind)
    answer.headers.update(headers)
    return answer


@router.get("/{id}/images/{k}/preview", response_class=Response, responses=PNG)
async def get_preview(
    lodestar: Lodestar,
    job: Job,
    k: Which,
    step: Annotated[Index | None, Query(description="after this step; the latest of a running job")] = None,
) -> Response:
    """A preview of a picture while it was made: after a step, kept like the picture, or the latest one."""
    if step is None:
        data = await lodestar.queue.get_blob(f"preview:{job.id}:{k}")
    else:
        data = await lodestar.storage.get(preview_key(job_prefix(job.id, job.created_at_ms), k, step))
    if data is None:
        when = "now" if step is None else f"after step {step}"
        raise Problem(
            404, f"there is no preview of image {k} of job {job.id} {when}", code="preview_not_found"
        )
    cached = "no-store" if step is None else "private, max-age=86400"
    return Response(data, media_type="image/png", headers={"Cache-Control": cached})


@router.get("/{id}/init_image", response_class=Response, responses=PNG)
async def get_init_image(lodestar: Lodestar, job: Job) -> Response:
    """The picture that a job starts from, as it was fitted to the job's size."""
    return await _began_with(lodestar, job, job.resolved.init_image, "starts from no picture")


@router.get("/{id}/mask", response_class=Response, responses=PNG)
async def get_mask(lodestar: Lodestar, job: Job) -> Response:
    """The mask of the picture that a job starts from, white where it is made anew, fitted likewise."""
    return await _began_with(lodestar, job, job.resolved.mask, "has no mask")


async def _began_with(lodestar: Service, job: JobRecord, reference: str | None, without: str) -> Response:
    data = await lodestar.storage.get(init_key(job.id, reference)) if reference else None
    if data is None:
        raise Problem(404, f"job {job.id} {without}", code="image_not_found")
    headers = {"ETag": f'"{reference}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(data, media_type="image/png", headers=headers)


@router.get("/{id}/trace", response_class=Response, responses={200: {"content": {"application/json": {}}}})
async def get_trace(lodestar: Lodestar, job: Job) -> Response:
    """The per-step scalars of each picture's run, so far or whole: `{"images": [{index, seed, rows}]}`."""
    data = None
    if job.result and job.result.trace_key:
        data = await lodestar.storage.get(job.result.trace_key)
    if data is None:
        data = await lodestar.queue.get_blob(f"trace:{job.id}")
    return Response(data or b'{"images": []}', media_type="application/json")


async def rendered(lodestar: Service, job: JobRecord, k: int, kind: Format) -> Response:
    """Picture `k` in this format, with its digest. Raises Problem."""
    data = await picture(lodestar, job, k)
    if kind != "png":
        data = await asyncio.to_thread(convert, data, kind)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {
        "Content-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'inline; filename="{job.id}-{k}.{kind}"',
    }
    return Response(data, media_type=f"image/{kind}", headers=headers)


def preferred(accept: str) -> Format:
    """The format that `Accept` ranks first among ours; PNG on a tie and for `*/*`. 406 where none will do."""
    ranks: dict[Format, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if name in ("*/*", "image/*"):
            ranks["png"] = max(ranks.get("png", 0.0), quality)
        elif name in MEDIA_TYPES:
            ranks[MEDIA_TYPES[name]] = quality
    kind = max(("png", "webp", "jpeg"), key=lambda kind: ranks.get(kind, 0.0))
    if not ranks.get(kind):
        raise Problem(406, f"Accept is {accept!r}; pictures come as {', '.join(MEDIA_TYPES)}")
    return kind
