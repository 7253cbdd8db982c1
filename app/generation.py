"""What `lodestar generate` does: make pictures with a running service, or in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError
from tqdm import tqdm

from app import init_image
from app.admission import Refused, resolve
from app.calls import JobFields
from app.catalogue import load_catalogue
from app.client import ApiError, Client, Job, JobFailed, NoAnswer
from app.hub import at_hand
from app.jobs import JobSpec, JobStatus, Resolved
from app.settings import Settings


class Failed(Exception):
    """No pictures; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: a PNG with its request inside."""

    seed: int
    png: bytes
    nfe: int


@dataclass(frozen=True, slots=True)
class Made:
    """All pictures of one request."""

    pictures: list[Picture]
    seconds: float
    warnings: list[str]


def remote(asked: Mapping[str, Any], url: str) -> Made:
    """Have the service at `url` make them, with a progress bar. Raises Failed."""
    fields = dict(asked)
    prompt = fields.pop("prompt")
    began = time.monotonic()
    try:
        with Client(url) as client:
            client.ping()
            job = client.submit(prompt, **cast(JobFields, fields))
            done = _watch(client, job)
            nfe = done.nfe.model if done.nfe else 0
            pictures = [Picture(image.seed, client.image(done, image.index), nfe) for image in done.images]
    except NoAnswer as error:
        raise Failed(
            f"no service answers at {url}; start one with `lodestar serve` or add --local"
        ) from error
    except ApiError as error:
        lines = [f"{one.get('pointer')}: {one.get('detail')}" for one in error.errors]
        raise Failed("\n  ".join(["the service refused:", *(lines or [error.detail])])) from error
    except JobFailed as error:
        raise Failed(str(error)) from error
    return Made(pictures, time.monotonic() - began, done.warnings)


def _watch(client: Client, job: Job) -> Job:
    """Follow a job to its end; where events do not come through, ask for it."""
    with tqdm(total=None, unit="step", desc="queued", leave=False) as bar:
        try:
            for event in client.stream(job):
                if (progress := event.progress) is not None and progress.total:
                    bar.total = progress.total
                    bar.update(progress.step - bar.n)
                    bar.set_description(progress.stage)
        except NoAnswer:
            bar.set_description("waiting")
        done = client.wait(job)
    if done.status != JobStatus.SUCCEEDED:
        raise JobFailed(done)
    return done


def local(asked: Mapping[str, Any], settings: Settings) -> Made:
    """Load the model into this process and make them here. Raises Failed."""
    try:
        catalogue = load_catalogue(settings.catalogue)
        given = JobSpec.model_validate(asked)
        spec = resolve(given, catalogue, settings)
        fitted = _fitted(given, spec)
    except ValidationError as error:
        lines = ["/".join(map(str, one["loc"])) + f": {one['msg']}" for one in error.errors()]
        raise Failed("\n  ".join(["this cannot run:", *lines])) from error
    except Refused as error:
        lines = [f"{one.pointer}: {one.detail}" for one in error.refusals]
        raise Failed("\n  ".join(["this cannot run:", *lines])) from error
    except ValueError as error:
        raise Failed(str(error)) from error

    import numpy as np
    import torch

    from app.storage.png import encode_png
    from samplers.models import load

    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    try:
        card = at_hand(catalogue.models[spec.model])
        model = load(card.source, **card.load_options(settings.dtype, settings.device))
        began = time.monotonic()
        done = _sampled(model, spec, *fitted)
    except (ValueError, FileNotFoundError) as error:
        raise Failed(str(error)) from error
    seconds = time.monotonic() - began
    per_seed = len(done.images) // len(spec.seeds)
    pictures: list[Picture] = []
    for index, image in enumerate(done.images):
        seed = spec.seeds[index // per_seed]
        request = spec.model_copy(update={"seeds": [seed]})
        pictures.append(
            Picture(seed, encode_png(np.asarray(image), request), done.nfe[index // per_seed].model)
        )
    return Made(pictures, seconds, done.warnings)


def _fitted(given: JobSpec, spec: Resolved) -> tuple[bytes | None, bytes | None]:
    """The picture to start from and its mask, as PNGs. Raises Refused."""
    if given.init_image is None:
        return None, None
    picture, size = init_image.read(given.init_image), (spec.width, spec.height)
    fitted = init_image.fit(picture, *size)
    if given.mask is None:
        return fitted, None
    return fitted, init_image.fit_mask(init_image.read(given.mask, "mask"), picture, *size)


def _sampled(model: Any, spec: Resolved, png: bytes | None, mask_png: bytes | None) -> Any:
    """What `spec` asks for, from the picture `png` where there is one, inside its mask where it has one."""
    from io import BytesIO

    from PIL import Image

    from samplers.driver import sample
    from samplers.inversion import edit

    picture = None if png is None else Image.open(BytesIO(png))
    how: dict[str, Any] = {"guidance": spec.guidance, "sampler": spec.sampler, "steps": spec.steps}
    how |= {"negative_prompt": spec.negative_prompt, "embedded_scale": spec.embedded_scale}
    how |= {"clip_skip": spec.clip_skip}
    if picture is not None and spec.edit is not None:
        return edit(model, picture, spec.edit.source_prompt, spec.prompt, **how)
    if spec.qr is not None:
        how |= {"qr": spec.qr}
    elif picture is not None:
        mask = None if mask_png is None else Image.open(BytesIO(mask_png))
        how |= {"init_image": picture, "mask": mask, "strength": spec.strength}
    else:
        how |= {"width": spec.width, "height": spec.height}
    return sample(model, spec.prompt, classes=spec.classes, seeds=spec.seeds, progress=True, **how)
