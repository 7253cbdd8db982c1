"""The plain driver: sample a prompt on a loaded model, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from guidance import REGISTRY
from guidance.asks import Ask, Conditions
from guidance.base import Guidance
from guidance.qr.request import Qr
from guidance.srpg import SRPG
from samplers.answer import Nfe, answer
from samplers.cards import (
    CARDS,
    clip_problems,
    embedded_problems,
    problems,
    qr_problems,
    start_problems,
    steps_from,
    usual_strength,
)
from samplers.img2img import start_from
from samplers.loop import Final, Observed, Run, batch, run
from samplers.models.base import Model
from samplers.noise import Noise
from samplers.qr import CodeCourse, code_course, finished
from samplers.steps import compile_plan


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """What `sample` returns: one entry per seed in each list, in the order of `seeds`."""

    images: list[Image.Image]
    latents: Tensor
    """(N, C, h, w); particles that a method keeps are further rows of their image."""
    trace: list[dict[str, list[float | None]]]
    nfe: list[Nfe]
    warnings: list[str]
    seeds: list[int]


def sample(
    model: Model,
    prompt: str,
    *,
    negative_prompt: str = "",
    classes: Sequence[str] = (),
    guidance: Guidance | None = None,
    sampler: str | None = None,
    steps: int = 25,
    seeds: Sequence[int] = (0,),
    width: int | None = None,
    height: int | None = None,
    embedded_scale: float | None = None,
    clip_skip: int | None = None,
    init_image: Image.Image | Tensor | None = None,
    mask: Image.Image | None = None,
    strength: float | None = None,
    qr: Qr | None = None,
    progress: bool = False,
) -> Sampled:
    """Sample one image per seed; all of them share the forwards.

    `guidance`: CFG with its defaults where None. `sampler`: the first that fits model and guidance where
    None. `classes`: alternative prompts, for methods that compare with them. `embedded_scale`: what a model
    with a guidance scale built in is told; its own default where None. `clip_skip`: CLIP's last layers to
    leave out. `init_image`: a picture, or latents (1, C, h, w), to start from, of which the last `strength`
    of the steps make another; width and height are then its own. `mask`: of its size, white where it is made
    anew; then all steps are run where no strength is given. `qr`: the QR code that the picture shall be, with
    SRPG; it says how large the picture is.
    ValueError lists what does not fit together.
    """
    if not seeds:
        raise ValueError("give at least one seed; each makes one image")
    guidance = REGISTRY["cfg"](method="cfg") if guidance is None else guidance
    sampler = sampler or fitting_sampler(model, guidance)
    found = embedded_problems(embedded_scale, model.extras) + clip_problems(clip_skip, model.extras)
    if sampler in CARDS:
        found += problems(guidance, CARDS[sampler], model.family, model.extras)
    if init_image is not None:
        found += start_problems(guidance)
        if width is not None or height is not None:
            found.append("width and height are those of init_image; leave them out, or resize it")
    elif mask is not None:
        found.append("a mask is for a picture to start from; give it in init_image")
    found += qr_problems(guidance, qr is not None)
    if qr is not None and (width or height or init_image is not None):
        found.append("a QR code's size is that of its modules; leave out width, height and init_image")
    if found:
        raise ValueError("; ".join(found))
    if qr is not None and isinstance(guidance, SRPG):
        course = code_course(
            model, prompt, negative_prompt,
            sampler=sampler, steps=steps, guidance=guidance, qr=qr, clip_skip=clip_skip,
        )  # fmt: skip
        return _codes(model, course, seeds, progress)
    start = None if init_image is None else start_from(model, init_image, mask)
    shape, skip = _shape(model, width, height), 0
    if start is not None:
        shape = start.latents.shape[1], start.latents.shape[2], start.latents.shape[3]
        skip = steps - steps_from(steps, usual_strength(mask is not None) if strength is None else strength)
    plan = compile_plan(sampler, steps, model.family, model.schedule_config(shape), skip)
    encoded = model.encode([prompt, negative_prompt, *classes], clip_skip)
    positive, negative, *others = encoded.conds
    cond = Conditions(positive, negative, tuple(others)).told(embedded_scale)
    with tqdm(total=len(plan.rows) * len(seeds), disable=not progress, unit="step") as bar:

        def tick(_: Observed) -> None:
            bar.update()

        noises = (Noise(seed, shape, batch(guidance), model.device) for seed in seeds)
        done, nfe = drive(model, [run(plan, guidance, cond, noise, tick, start) for noise in noises])
    latents = torch.cat([final.latents for final in done])
    return Sampled(
        images=list(pictures(model, latents)),
        latents=latents,
        trace=[final.trace for final in done],
        nfe=nfe,
        warnings=encoded.warnings,
        seeds=list(seeds),
    )


def _codes(model: Model, course: CodeCourse, seeds: Sequence[int], progress: bool) -> Sampled:
    with tqdm(total=course.steps * len(seeds), disable=not progress, unit="step") as bar:

        def tick(_: Observed) -> None:
            bar.update()

        done, nfe = drive(model, [course.run(seed, tick) for seed in seeds])
    return Sampled(
        images=[Image.fromarray(finished(model, final, course.qr)) for final in done],
        latents=torch.cat([final.latents for final in done]),
        trace=[final.trace for final in done],
        nfe=nfe,
        warnings=course.warnings,
        seeds=list(seeds),
    )


def _shape(model: Model, width: int | None, height: int | None) -> tuple[int, int, int]:
    own_width, own_height = model.default_size
    return model.latent_shape(own_width if width is None else width, own_height if height is None else height)


def fitting_sampler(model: Model, guidance: Guidance) -> str:
    """The first sampler that this model and method go with. ValueError says why none does."""
    refused = {card.name: problems(guidance, card, model.family, model.extras) for card in CARDS.values()}
    for name, found in refused.items():
        if not found:
            return name
    raise ValueError("; ".join(min(refused.values(), key=len)))


def drive(model: Model, runs: Sequence[Run]) -> tuple[list[Final], list[Nfe]]:
    """Run all runs to their ends, answering in one go what they ask at the same time."""
    finals: dict[int, Final] = {}
    nfe = [Nfe() for _ in runs]
    replies: dict[int, Any] = dict.fromkeys(range(len(runs)))
    while replies:
        asks: dict[int, Ask] = {}
        for i, reply in replies.items():
            try:
                asks[i] = runs[i].send(reply)
                nfe[i].count(asks[i])
            except StopIteration as stop:
                finals[i] = stop.value
        replies = dict(zip(asks, answer(model, list(asks.values())), strict=True))
    return [finals[i] for i in range(len(runs))], nfe


def pictures(model: Model, latents: Tensor) -> Iterator[Image.Image]:
    """Decode one latent after the other, so that memory does not grow with their number."""
    with torch.no_grad():
        for latent in latents:
            image = model.decode(latent[None])[0]
            pixels = (image / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
            yield Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
