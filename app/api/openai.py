"""`POST /v1/images/generations` in OpenAI's shape, with the service's own fields beside it (`extra_body`)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from anyio import CancelScope
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.admission import Refusal, Refused
from app.api.answers import job_url
from app.api.deps import IdempotencyKey, Lodestar, Service
from app.api.foreign import in_words_of, sampler_named, scaled, spec_of
from app.api.submission import picture, submit, succeeded, unsuccessful
from app.jobs import TERMINAL, Asked, JobRecord, JobSpec, JobStatus, Nfe, Seed, Timings
from app.storage.png import Format, convert
from guidance import AnyGuidance

router = APIRouter(prefix="/v1/images", tags=["openai"])

PING_S = 15.0
ENDS = ("completed", "failed", "canceled", "expired")
NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""OpenAI's typed clients expect it; nothing here is counted in tokens."""
NAMES = {"guidance/scale": "guidance_scale", "width": "size", "height": "size"}


class ImageRequest(Asked):
    """OpenAI's fields, then ours. A field that this service could only ignore is refused."""

    prompt: str = Field(description="what the picture shows", examples=["a red apple, 3d"])
    model: str | None = Field(None, max_length=100, description="a name of GET /v1/models")
    n: int | None = Field(None, ge=1, description="that many pictures, with seeds drawn")
    size: str = Field("auto", pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$", examples=["64x64"])
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Format = "png"
    output_compression: int = Field(100, ge=0, le=100, description="quality of a jpeg or webp")
    stream: bool = False
    partial_images: int = Field(0, ge=0, le=3, description="at most so many previews in a stream")
    quality: Literal["auto", "standard"] = Field("auto", description="say steps instead")
    background: Literal["auto", "opaque"] = "auto"
    user: str | None = Field(None, max_length=200, description="kept in the job's metadata")

    guidance: AnyGuidance | None = Field(None, description="one of GET /v1/guidance")
    guidance_scale: float | None = Field(None, description="the guidance's scale, said by itself")
    negative_prompt: str = ""
    classes: list[str] | None = None
    steps: int | None = Field(None, ge=1)
    num_inference_steps: int | None = Field(None, ge=1, description="another name for steps")
    seed: Seed | None = None
    seeds: list[Seed] | None = Field(None, min_length=1, description="one picture per seed")
    sampler: str | None = Field(None, max_length=40, description="a name of GET /v1/samplers")
    metrics: list[str] | None = Field(None, max_length=20)


class GeneratedImage(BaseModel):
    """One picture: its bytes or where they are, and what was measured."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    metrics: dict[str, float]


class ImagesAnswer(BaseModel):
    """OpenAI's answer, and beside it the job's id, the guidance as it ran, and what it cost."""

    created: int
    data: list[GeneratedImage]
    size: str
    output_format: Format
    background: Literal["opaque"] = "opaque"
    id: str
    guidance: dict[str, Any]
    nfe: Nfe
    timings: Timings


STREAMED: dict[int | str, Any] = {
    200: {"description": "The pictures; with `stream`, events", "content": {"text/event-stream": {}}}
}


@router.post("/generations", response_model=ImagesAnswer, responses=STREAMED)
async def generate_images(
    asked: ImageRequest, lodestar: Lodestar, request: Request, key: IdempotencyKey = None
) -> ImagesAnswer | StreamingResponse:
    """Make pictures and wait for them, as OpenAI clients do. With `stream`, previews come first."""
    with in_words_of(NAMES | ({"steps": "num_inference_steps"} if asked.num_inference_steps else {})):
        spec = _spec(asked, lodestar)
        if not asked.stream:
            record = await succeeded(lodestar, request, spec, key)
            return await _answer(lodestar, request, asked, record)
        record, _ = await submit(lodestar, spec, None, key)
    return StreamingResponse(_stream(lodestar, asked, record), media_type="text/event-stream")


def _spec(asked: ImageRequest, lodestar: Service) -> JobSpec:
    if asked.steps is not None and asked.num_inference_steps is not None:
        raise Refused([Refusal("/num_inference_steps", "it is another name for steps; give one of them")])
    if asked.seed is not None and asked.seeds is not None:
        raise Refused([Refusal("/seed", "give seed or seeds, not both: there is one picture per seed")])
    if asked.partial_images and not asked.stream:
        raise Refused([Refusal("/partial_images", "previews come in a stream; add stream: true")])
    if asked.output_compression != 100 and asked.output_format == "png":
        raise Refused([Refusal("/output_compression", "PNG knows no quality; use jpeg or webp")])
    if asked.stream and asked.response_format == "url":
        raise Refused([Refusal("/response_format", "a stream carries the pictures themselves: b64_json")])
    width, height = (None, None) if asked.size == "auto" else map(int, asked.size.split("x"))
    steps = asked.steps or asked.num_inference_steps
    card = lodestar.catalogue.models.get(asked.model or "", lodestar.catalogue.default)
    parts = asked.partial_images + 1
    seeds = asked.seeds if asked.seed is None else [asked.seed + i for i in range(asked.n or 1)]
    return spec_of(
        {
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "classes": asked.classes,
            "model": asked.model,
            "seeds": seeds,
            "n": asked.n if asked.seed is None else None,
            "width": width,
            "height": height,
            "steps": steps,
            "sampler": sampler_named(asked.sampler),
            "guidance": scaled(asked.guidance, asked.guidance_scale, asked.model, lodestar.catalogue),
            "metrics": asked.metrics,
            "preview_every": -(-(steps or card.steps) // parts) if asked.partial_images else None,
            "priority": "interactive",
            "metadata": {"user": asked.user} if asked.user else None,
        }
    )


async def _answer(
    lodestar: Service, request: Request, asked: ImageRequest, record: JobRecord
) -> ImagesAnswer:
    result = record.result
    assert result is not None
    data = [
        GeneratedImage(
            seed=image.seed,
            metrics=image.metrics,
            **(
                {"url": f"{job_url(request, record.id)}/images/{image.index}?format={asked.output_format}"}
                if asked.response_format == "url"
                else {"b64_json": await _encoded(asked, await picture(lodestar, record, image.index))}
            ),
        )
        for image in result.images
    ]
    return ImagesAnswer(
        created=record.created_at_ms // 1000,
        data=data,
        size=_size(record),
        output_format=asked.output_format,
        id=record.id,
        guidance=result.ran.get("guidance") or record.resolved.guidance.model_dump(mode="json"),
        nfe=result.nfe,
        timings=result.timings,
    )


async def _stream(lodestar: Service, asked: ImageRequest, record: JobRecord) -> AsyncIterator[str]:
    """Previews as they come, then each picture; an error, should it come to that, as an event.

    A client that hangs up ends the job: it has no other way to its pictures.
    """
    try:
        async for event in _events(lodestar, asked, record):
            yield event
    except (asyncio.CancelledError, GeneratorExit):
        with CancelScope(shield=True):
            await lodestar.queue.cancel(record.id)
        raise


async def _events(lodestar: Service, asked: ImageRequest, record: JobRecord) -> AsyncIterator[str]:
    events = lodestar.queue.listen(record.id)
    record = await lodestar.queue.get(record.id) or record
    parts = 0
    while record.status not in TERMINAL:
        try:
            async with asyncio.timeout(PING_S):
                event = await anext(events, None)
        except TimeoutError:
            yield ": still at work\n\n"
            continue
        if event is None:  # the service stops
            break
        if event.type == "preview" and parts < asked.partial_images:
            index = event.data["index"]
            if (data := await lodestar.queue.get_blob(f"preview:{record.id}:{index}")) is not None:
                shown = await _shown(asked, record, data)
                yield _event("partial_image", {**shown, "partial_image_index": parts, "image_index": index})
                parts += 1
        elif event.type in ENDS:
            record = await lodestar.queue.get(record.id) or record
    if record.status is not JobStatus.SUCCEEDED:
        problem = unsuccessful(record, 0)
        error = {"message": problem.detail, "type": "server_error", "param": None, "code": problem.code}
        yield f"event: error\ndata: {json.dumps({'error': error})}\n\n"
        return
    assert record.result is not None
    for image in record.result.images:
        shown = await _shown(asked, record, await picture(lodestar, record, image.index))
        told = {"image_index": image.index, "seed": image.seed, "metrics": image.metrics, "id": record.id}
        yield _event("completed", {**shown, **told, "usage": NO_TOKENS})


async def _shown(asked: ImageRequest, record: JobRecord, png: bytes) -> dict[str, Any]:
    return {
        "b64_json": await _encoded(asked, png),
        "background": "opaque",
        "created_at": record.created_at_ms // 1000,
        "output_format": asked.output_format,
        "quality": "auto",
        "size": _size(record),
    }


def _event(name: str, data: Mapping[str, Any]) -> str:
    kind = f"image_generation.{name}"
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


async def _encoded(asked: ImageRequest, png: bytes) -> str:
    data = await asyncio.to_thread(convert, png, asked.output_format, asked.output_compression)
    return base64.b64encode(data).decode()


def _size(record: JobRecord) -> str:
    return f"{record.resolved.width}x{record.resolved.height}"
