"""Enough of the AUTOMATIC1111 web UI's API (`/sdapi/v1`) that its clients make pictures here.

What they send by default is taken; a feature that is asked for and not here is refused, never ignored. The
guidance method, which that API does not know, comes as a script:
`"alwayson_scripts": {"lodestar": {"args": [{"method": "apg", "scale": 10}]}}`.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from app.admission import Refusal, Refused
from app.api.answers import left_ms
from app.api.deps import Lodestar, Service, service
from app.api.errors import Problem
from app.api.foreign import in_words_of, sampler_named, spec_of
from app.api.submission import picture, succeeded
from app.jobs import RUNNING, Asked, JobRecord, JobSpec, JobStatus
from samplers.cards import CARDS

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"], dependencies=[Depends(service)])

TAG = "sdapi"
"""Marks the jobs that came this way, for `progress` and `interrupt`, which name none."""
NAMES = {"sampler": "sampler_name", "seeds": "seed", "n": "batch_size", "model": "override_settings",
         "guidance": "alwayson_scripts"}  # fmt: skip


OFF: list[Any] = [None, False, 0, -1, "", [], {}]
UNUSED = frozenset(
    {
        "subseed", "denoising_strength", "firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler",
        "hr_second_pass_steps", "hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name",
        "hr_scheduler", "hr_prompt", "hr_negative_prompt", "override_settings_restore_afterwards",
        "do_not_save_samples", "do_not_save_grid", "save_images",
    }
)  # fmt: skip
"""What clients say of features that are off, and of files that this service keeps anyway."""


def _off(value: Any) -> None:
    """Refuse a feature that is asked for."""
    if value not in OFF:
        raise ValueError("this service does not have that; leave it out")


Off = Annotated[None, BeforeValidator(_off), WithJsonSchema({"enum": OFF})]
"""A feature that is not here: any value that switches it off will do."""


def _eta(value: float) -> float:
    if value not in (0, 1):
        raise ValueError("a sampler adds noise at each step or it does not: 0 or 1")
    return value


Eta = Annotated[float, AfterValidator(_eta), WithJsonSchema({"type": "number", "enum": [0, 1]})]


class Override(Asked):
    """Settings for one request."""

    sd_model_checkpoint: str | None = None


class Script(Asked):
    """What the `lodestar` script is given: one guidance, as in `POST /v1/jobs`."""

    args: list[dict[str, Any]] = Field(min_length=1, max_length=1)


class Scripts(Asked):
    """Only ours is here."""

    lodestar: Script | None = None


class Txt2Img(Asked):
    """The fields of that API. Those of features that are not here are only checked to be off."""

    prompt: str = Field("", examples=["a red apple, 3d"])
    negative_prompt: str = ""
    seed: int = Field(-1, ge=-1, lt=2**63, description="-1 draws one; further pictures count up from it")
    batch_size: int = Field(1, ge=1)
    n_iter: int = Field(1, ge=1)
    steps: int | None = Field(None, ge=1)
    cfg_scale: float | None = Field(None, description="the scale of `cfg`, where no script says otherwise")
    width: int | None = None
    height: int | None = None
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: Literal["Automatic", "automatic", ""] | None = None
    override_settings: Override = Field(default_factory=Override)
    alwayson_scripts: Scripts = Field(default_factory=Scripts)
    send_images: bool = True

    eta: Eta | None = None
    s_noise: float | None = Field(None, ge=1, le=1)
    enable_hr: Off = None
    styles: Off = None
    subseed_strength: Off = None
    seed_resize_from_h: Off = None
    seed_resize_from_w: Off = None
    restore_faces: Off = None
    tiling: Off = None
    s_churn: Off = None
    s_tmin: Off = None
    s_tmax: Off = None
    script_name: Off = None
    script_args: Off = None

    @model_validator(mode="before")
    @classmethod
    def _used(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in UNUSED} if isinstance(value, dict) else value


class Txt2ImgAnswer(BaseModel):
    """PNGs in base64; `info` is JSON in a string."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


@router.post("/txt2img")
async def txt2img(asked: Txt2Img, lodestar: Lodestar, request: Request) -> Txt2ImgAnswer:
    """Make pictures and wait for them."""
    with in_words_of(NAMES | ({} if asked.alwayson_scripts.lodestar else {"guidance/scale": "cfg_scale"})):
        record = await succeeded(lodestar, request, _spec(asked, lodestar))
    assert record.result is not None
    images = record.result.images if asked.send_images else []
    pictures = [await picture(lodestar, record, image.index) for image in images]
    return Txt2ImgAnswer(
        images=[base64.b64encode(png).decode() for png in pictures],
        parameters=asked.model_dump(mode="json", exclude_unset=True),
        info=json.dumps(_info(asked, record)),
    )


def _spec(asked: Txt2Img, lodestar: Service) -> JobSpec:
    model = asked.override_settings.sd_model_checkpoint
    count = asked.batch_size * asked.n_iter
    if count > lodestar.settings.max_images:
        detail = f"batch_size x n_iter is {count}; one request makes at most {lodestar.settings.max_images}"
        raise Refused([Refusal("/batch_size", detail)])
    script = asked.alwayson_scripts.lodestar
    cfg = {"method": "cfg", "scale": asked.cfg_scale} if asked.cfg_scale is not None else None
    drawn = asked.seed == -1
    return spec_of(
        {
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "model": model,
            "n": count if drawn else None,
            "seeds": None if drawn else [asked.seed + i for i in range(count)],
            "width": asked.width,
            "height": asked.height,
            "steps": asked.steps,
            "sampler": sampler_named(asked.sampler_name or asked.sampler_index),
            "guidance": script.args[0] if script else cfg,
            "preview_every": 5,
            "priority": "interactive",
            "tags": [TAG],
        }
    )


def _info(asked: Txt2Img, record: JobRecord) -> dict[str, Any]:
    """What that API's clients read about the pictures, and beside it what they cost."""
    ran, result = record.resolved, record.result
    assert result is not None
    guidance = ran.guidance.model_dump(mode="json")
    seeds = [image.seed for image in result.images]
    texts = [
        f"{ran.prompt}\nNegative prompt: {ran.negative_prompt}\nSteps: {ran.steps}, "
        f"Sampler: {CARDS[ran.sampler].title}, CFG scale: {guidance.get('scale', 1)}, Seed: {seed}, "
        f"Size: {ran.width}x{ran.height}, Model: {ran.model}, Guidance: {ran.guidance.method}"
        for seed in seeds
    ]
    return {
        "prompt": ran.prompt,
        "all_prompts": [ran.prompt] * len(seeds),
        "negative_prompt": ran.negative_prompt,
        "all_negative_prompts": [ran.negative_prompt] * len(seeds),
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": ran.width,
        "height": ran.height,
        "sampler_name": CARDS[ran.sampler].title,
        "cfg_scale": guidance.get("scale"),
        "steps": ran.steps,
        "batch_size": asked.batch_size,
        "sd_model_name": ran.model,
        "infotexts": texts,
        "index_of_first_image": 0,
        "job_timestamp": datetime.fromtimestamp(record.created_at_ms / 1e3, UTC).strftime("%Y%m%d%H%M%S"),
        "lodestar": {
            "id": record.id,
            "guidance": guidance,
            "nfe": result.nfe.model_dump(),
            "metrics": [image.metrics for image in result.images],
        },
    }


@router.get("/progress")
async def progress(lodestar: Lodestar, skip_current_image: bool = False) -> dict[str, Any]:
    """How far the oldest picture is that this API makes now; zeros where it makes none."""
    jobs = await _running(lodestar)
    if not jobs:
        state = {"job": "", "job_count": 0, "job_no": 0, "sampling_step": 0, "sampling_steps": 0}
        return {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None}
    job = jobs[0]
    eta_ms = left_ms(job)
    preview = None if skip_current_image else await lodestar.queue.get_blob(f"preview:{job.id}:0")
    return {
        "progress": job.progress.fraction,
        "eta_relative": (eta_ms or 0) / 1e3,
        "state": {
            "job": job.id,
            "job_count": len(jobs),
            "job_no": 0,
            "sampling_step": job.progress.step,
            "sampling_steps": job.progress.total,
            "interrupted": job.cancel_requested,
        },
        "current_image": base64.b64encode(preview).decode() if preview else None,
    }


@router.post("/interrupt")
async def interrupt(lodestar: Lodestar) -> dict[str, Any]:
    """Stop what this API makes now; whoever waits for it is answered 409."""
    for job in await _running(lodestar):
        await lodestar.queue.cancel(job.id)
    return {}


@router.get("/samplers")
async def samplers() -> list[dict[str, Any]]:
    """The samplers, by the titles that clients choose from."""
    return [{"name": card.title, "aliases": [card.name], "options": {}} for card in CARDS.values()]


@router.get("/schedulers")
async def schedulers() -> list[dict[str, Any]]:
    """The noise levels are those of the model; there is nothing to choose."""
    return [{"name": "automatic", "label": "Automatic", "aliases": None}]


@router.get("/sd-models")
async def sd_models(lodestar: Lodestar) -> list[dict[str, Any]]:
    """The models. Their files are the server's own business."""
    return [
        {"title": id, "model_name": id, "hash": None, "sha256": None, "filename": id, "config": None}
        for id in lodestar.catalogue.models
    ]


@router.get("/options")
async def get_options(lodestar: Lodestar) -> dict[str, Any]:
    """The default model; it is chosen per request with `override_settings`."""
    return {"sd_model_checkpoint": lodestar.catalogue.default.id}


@router.post("/options")
async def set_options(lodestar: Lodestar, options: Override) -> dict[str, Any]:
    """One client cannot change what others get: only what is so already is taken."""
    model = options.sd_model_checkpoint
    if model not in (None, lodestar.catalogue.default.id):
        detail = f'choose the model per request: "override_settings": {{"sd_model_checkpoint": {model!r}}}'
        raise Problem(409, detail, code="model_is_per_request")
    return {}


async def _running(lodestar: Service) -> list[JobRecord]:
    """The jobs that came this way and have not ended, the oldest first."""
    page = await lodestar.queue.list(
        limit=100, order="asc", status={JobStatus.QUEUED, *RUNNING}, tag=TAG, account=lodestar.account
    )
    return page.records
