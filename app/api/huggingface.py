"""Text-to-image as Hugging Face's inference endpoints take it: for `InferenceClient(base_url)`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import Field

from app.api.catalogue import known_model
from app.api.deps import Lodestar
from app.api.foreign import in_words_of, sampler_named, scaled, spec_of
from app.api.images import PICTURE, preferred, rendered
from app.api.submission import succeeded
from app.jobs import Asked, Seed
from guidance import AnyGuidance

router = APIRouter(tags=["huggingface"])

NAMES = {
    "prompt": "inputs",
    "guidance/scale": "parameters/guidance_scale",
    "steps": "parameters/num_inference_steps",
    "sampler": "parameters/scheduler",
    "seeds": "parameters/seed",
} | {name: f"parameters/{name}" for name in ("negative_prompt", "width", "height", "guidance", "metrics")}


class Parameters(Asked):
    """Their fields, then ours (`extra_body`)."""

    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = Field(default=None, description="a name of GET /v1/samplers, or diffusers' name")
    seed: Seed | None = None
    guidance: AnyGuidance | None = Field(default=None, description="one of GET /v1/guidance")
    classes: list[str] | None = None
    metrics: list[str] | None = None


class TextToImage(Asked):
    """A prompt and how to draw it."""

    inputs: str = Field(description="what the picture shows", examples=["a red apple, 3d"])
    parameters: Parameters = Parameters()


@router.post("/models/{model}", response_class=Response, responses=PICTURE)
async def text_to_image(
    asked: TextToImage,
    lodestar: Lodestar,
    request: Request,
    model: Annotated[str, Path(max_length=100, description="a name of GET /v1/models")],
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """One picture; `Content-Location` says where it is kept, beside its job."""
    return await _answer(asked, lodestar, request, model, accept)


@router.post("/", response_class=Response, responses=PICTURE)
async def text_to_image_of_the_default_model(
    asked: TextToImage, lodestar: Lodestar, request: Request, accept: Annotated[str, Header()] = "*/*"
) -> Response:
    """One picture of the default model."""
    return await _answer(asked, lodestar, request, None, accept)


async def _answer(
    asked: TextToImage, lodestar: Lodestar, request: Request, model: str | None, accept: str
) -> Response:
    said, kind = asked.parameters, preferred(accept)
    if model is not None:
        known_model(lodestar.catalogue, model)
    fields: dict[str, Any] = {
        "model": model,
        "prompt": asked.inputs,
        "negative_prompt": said.negative_prompt,
        "classes": said.classes,
        "width": said.width,
        "height": said.height,
        "steps": said.num_inference_steps,
        "sampler": sampler_named(said.scheduler),
        "seeds": None if said.seed is None else [said.seed],
        "metrics": said.metrics,
        "priority": "interactive",
    }
    with in_words_of(NAMES):
        guidance = scaled(said.guidance, said.guidance_scale, model, lodestar.catalogue)
        record = await succeeded(lodestar, request, spec_of({**fields, "guidance": guidance}))
    answer = await rendered(lodestar, record, 0, kind)
    answer.headers["Content-Location"] = f"/v1/jobs/{record.id}/images/0"
    return answer
