"""From what a client asks to what will run: defaults filled in, the impossible refused with a reason."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.catalogue import Catalogue, ModelCard
from app.guided import guided
from app.jobs import JobSpec, Resolved
from app.queue.base import NewJob, rows_of
from app.scores import METRIC_CARDS
from app.settings import Settings
from app.webhooks import problem_with
from guidance.base import Guidance
from guidance.qr.request import Qr, picture_module_px
from samplers.cards import (
    CARDS,
    clip_problems,
    embedded_problems,
    inversion_problems,
    problems,
    qr_problems,
    start_problems,
    steps_from,
    usual_strength,
)

LEAST_CANVAS_PX = 1024
"""A QR code may be so large with any model: it is painted small and enlarged."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that is wrong with a request: where (a JSON pointer), why, and what is allowed there."""

    pointer: str
    detail: str
    allowed: Any = None


class Refused(ValueError):
    """A request that cannot run; nothing was queued."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__("; ".join(refusal.detail for refusal in refusals))
        self.refusals = refusals


def resolve(spec: JobSpec, catalogue: Catalogue, settings: Settings) -> Resolved:
    """Fill in every open value of `spec` from the model's card. Raises Refused with all that is wrong."""
    if spec.model is not None and spec.model not in catalogue.models:
        raise Refused([_unknown("/model", "model", spec.model, catalogue.models)])
    card = catalogue.models[spec.model] if spec.model is not None else catalogue.default
    qr, wrong = _code(spec, card, settings)
    side = None if qr is None else qr.side_px
    width, height = spec.width or side or card.width, spec.height or side or card.height
    steps = spec.steps or card.steps
    sampler = spec.sampler or card.sampler
    found = guided(spec, card, sampler, steps, settings.data_dir)
    guidance = found.guidance
    strength = spec.strength
    if strength is None and spec.init_image is not None and spec.edit is None:
        strength = usual_strength(spec.mask is not None)
    refusals = [
        *(Refusal(pointer, detail) for pointer, detail in found.problems),
        *_prompts(spec, card, settings),
        *_seeds(spec, settings),
        *_webhook(spec, settings),
        *(_size(card, width, height, settings) if spec.qr is None else wrong),
    ]
    if steps > settings.max_steps:
        detail = f"steps is {steps}; this server runs at most {settings.max_steps}"
        refusals.append(Refusal("/steps", detail, {"minimum": 1, "maximum": settings.max_steps}))
    for i, metric in enumerate(spec.metrics):
        if metric not in METRIC_CARDS:
            refusals.append(_unknown(f"/metrics/{i}", "metric", metric, METRIC_CARDS))
    if sampler not in CARDS:
        refusals.append(_unknown("/sampler", "sampler", sampler, CARDS))
    else:
        apart = problems(guidance, CARDS[sampler], card.family, card.extras)
        most = CARDS[sampler].most_steps
        if most is not None and steps > most:
            detail = (
                f"steps is {steps}; sampler {sampler!r} takes at most {most}, as it was distilled at these"
            )
            refusals.append(Refusal("/steps", detail, {"minimum": 1, "maximum": most}))
        if spec.edit is not None:
            apart += inversion_problems(guidance, CARDS[sampler])
        refusals += [Refusal(_culprit(problem), problem) for problem in apart]
    refusals += [
        Refusal("/embedded_scale", problem) for problem in embedded_problems(spec.embedded_scale, card.extras)
    ]
    refusals += [Refusal("/clip_skip", one) for one in clip_problems(spec.clip_skip, card.extras)]
    refusals += [Refusal("/qr", problem) for problem in qr_problems(guidance, spec.qr is not None)]
    refusals += _classes(spec, guidance)
    refusals += _picture(spec, guidance, steps, strength)
    if refusals:
        raise Refused(refusals)
    seeds = spec.seeds if spec.seeds is not None else [secrets.randbelow(2**32) for _ in range(spec.n or 1)]
    return Resolved(
        model=card.id,
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        classes=spec.classes,
        init_image=None,
        mask=None,
        strength=strength,
        edit=spec.edit,
        qr=qr,
        seeds=seeds,
        width=width,
        height=height,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        embedded_scale=found.embedded_scale,
        clip_skip=card.options.get("clip_skip") if spec.clip_skip is None else spec.clip_skip,
        metrics=spec.metrics,
        preview_every=spec.preview_every,
        priority=spec.priority,
    )


def new_job(job_id: str, spec: JobSpec, resolved: Resolved, idempotency_key: str | None = None) -> NewJob:
    """What the queue is told of a job. Its group is what jobs must share to run in one forward.

    Raises Refused where the request brings a picture that nobody took in: see `app.init_image`.
    """
    if spec.init_image is not None and resolved.init_image is None:
        raise Refused([Refusal("/init_image", "a picture to start from is taken by POST /v1/jobs only")])
    grad = "+grad" if resolved.guidance.requires().grad else ""
    return NewJob(
        id=job_id,
        resolved=resolved,
        input=spec.model_dump(mode="json", exclude_unset=True),
        group=f"{resolved.width}x{resolved.height}{grad}",
        tags=spec.tags,
        metadata=spec.metadata,
        idempotency_key=idempotency_key,
        delay_s=spec.delay_s,
        deadline_s=spec.deadline_s,
        webhook=spec.webhook,
        cost=float(rows_of(resolved) * CARDS[resolved.sampler].rows(resolved.steps_run)),
    )


def _webhook(spec: JobSpec, settings: Settings) -> Iterable[Refusal]:
    if spec.webhook is None:
        return
    if settings.webhook_secret is None:
        detail = "this server sends no webhooks; its operator must set LODESTAR_WEBHOOK_SECRET first"
        yield Refusal("/webhook", detail)
    elif (problem := problem_with(spec.webhook, settings.webhook_private)) is not None:
        yield Refusal("/webhook", problem)


def _prompts(spec: JobSpec, card: ModelCard, settings: Settings) -> Iterable[Refusal]:
    prompts = {"prompt": spec.prompt, "negative_prompt": spec.negative_prompt}
    if spec.edit is not None:
        prompts["edit/source_prompt"] = spec.edit.source_prompt
    for name, prompt in (prompts | {f"classes/{i}": name for i, name in enumerate(spec.classes)}).items():
        length = len(prompt)
        if length > settings.max_prompt_chars:
            detail = f"{name} has {length} characters; at most {settings.max_prompt_chars} are allowed"
            yield Refusal(f"/{name}", detail, {"maxLength": settings.max_prompt_chars})
        elif card.labels is not None:
            try:
                card.labels.number(prompt)
            except ValueError as error:
                close = difflib.get_close_matches(prompt, card.labels.names, 5)
                allowed = close or {"minimum": 0, "maximum": card.labels.count - 1}
                yield Refusal(f"/{name}", str(error), allowed)


def _classes(spec: JobSpec, guidance: Guidance) -> Iterable[Refusal]:
    needed, others = guidance.requires().classes, [name for name in spec.classes if name != spec.prompt]
    if needed and not others:
        detail = f"guidance {guidance.method!r} chooses among classes; give at least one besides the prompt"
        yield Refusal("/classes", detail, {"minItems": 1})
    if spec.classes and not needed:
        detail = f"guidance {guidance.method!r} does not use classes; leave them out or choose another method"
        yield Refusal("/classes", detail)


def _picture(spec: JobSpec, guidance: Guidance, steps: int, strength: float | None) -> Iterable[Refusal]:
    """What is wrong with a request that starts from a picture, or should."""
    if spec.init_image is None:
        for name in ("mask", "strength", "edit"):
            if getattr(spec, name) is not None:
                yield Refusal(f"/{name}", f"{name} is for a picture to start from; give it in init_image")
        return
    if spec.edit is not None:
        if spec.strength is not None:
            yield Refusal("/strength", "an edit runs all steps; give edit or strength, not both")
        if spec.mask is not None:
            yield Refusal("/mask", "an edit changes the whole picture; give edit or mask, not both")
        if (spec.n or len(spec.seeds or [1])) > 1:
            pointer = "/n" if spec.seeds is None else "/seeds"
            yield Refusal(pointer, "an edit draws no noise, so every seed gives one picture; ask for one")
        return
    for problem in start_problems(guidance):
        yield Refusal("/guidance/method", problem)
    if strength is not None and steps_from(steps, strength) < 1:
        detail = f"strength {strength:g} of {steps} steps is less than one step; raise one of them"
        yield Refusal("/strength", detail)


def _code(spec: JobSpec, card: ModelCard, settings: Settings) -> tuple[Qr | None, list[Refusal]]:
    """The QR code with all its values, and what is wrong with it."""
    if spec.qr is None:
        return None, []
    try:
        qr = spec.qr.resolved(card.cell_px, card.extras)
    except ValueError as error:
        return None, [Refusal("/qr", str(error))]
    refusals: list[Refusal] = []
    for name in ("init_image", "mask", "strength", "edit", "classes"):
        if getattr(spec, name):
            detail = f"a QR code starts from a picture of its own; leave {name} out"
            refusals.append(Refusal(f"/{name}", detail))
    modules, side = qr.canvas_px // (qr.module_px or 1), qr.side_px
    for name, value in (("width", spec.width), ("height", spec.height)):
        if value is not None and value != side:
            detail = f"{name} is {value}; {modules} modules and the quiet zone take {side}: leave {name} out"
            refusals.append(Refusal(f"/{name}", detail, [side]))
    most = min(max(card.max_size_px, LEAST_CANVAS_PX), int(settings.max_pixels**0.5))
    if max(qr.canvas_px, side) > most:
        fit = (most // picture_module_px(qr.module_px or 1) - 2 * qr.quiet_zone - 17) // 4
        detail = (
            f"{modules} modules of {qr.module_px} px make a picture of {side} px; {card.id} takes at most "
            f"{most}, which is version {max(fit, 1)}: shorten data, lower ecc or use smaller modules"
        )
        refusals.append(Refusal("/qr", detail, {"maximum_px": most}))
    return qr, refusals


def _seeds(spec: JobSpec, settings: Settings) -> Iterable[Refusal]:
    if spec.seeds is not None and spec.n is not None:
        yield Refusal("/n", "give seeds or n, not both: there is one image per seed")
    seen = set[int]()
    for i, seed in enumerate(spec.seeds or ()):
        if seed in seen:
            yield Refusal(f"/seeds/{i}", f"seed {seed} is given twice; it would make the same picture")
        seen.add(seed)
    count, pointer = (len(spec.seeds), "/seeds") if spec.seeds is not None else (spec.n or 1, "/n")
    if count > settings.max_images:
        detail = f"{count} images are asked for; one job makes at most {settings.max_images}"
        yield Refusal(pointer, detail, {"maximum": settings.max_images})


def _size(card: ModelCard, width: int, height: int, settings: Settings) -> Iterable[Refusal]:
    low, high, unit = card.min_size_px, card.max_size_px, card.factor
    for name, value in (("width", width), ("height", height)):
        if value % unit or not low <= value <= high:
            nearest = min(max(round(value / unit) * unit, -(-low // unit) * unit), high // unit * unit)
            detail = (
                f"{name} is {value}; {card.id} takes multiples of {unit} from {low} to {high}, say {nearest}"
            )
            yield Refusal(f"/{name}", detail, {"multipleOf": unit, "minimum": low, "maximum": high})
    if width * height > settings.max_pixels:
        detail = f"{width} x {height} is {width * height} pixels; at most {settings.max_pixels} are allowed"
        yield Refusal("/width", detail, {"pixels": settings.max_pixels})


def _unknown(pointer: str, what: str, value: str, known: Iterable[str]) -> Refusal:
    names = list(known)
    close = difflib.get_close_matches(value, names, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return Refusal(pointer, f"there is no {what} {value!r} here{hint}", names)


def _culprit(problem: str) -> str:
    return "/sampler" if problem.startswith("sampler") else "/guidance/method"
