"""Inversion: from a picture up to the noise that samples it, and editing by it.

The same levels as sampling, in ascending order, and the roles of the two estimates swapped: what a method
renoises with is kept, and the guided estimate gives the noise,

    x_t = alpha_t * renoise + sigma_t * (x_s - alpha_s * denoised) / sigma_s

with the network asked at x_s and the time of t. For CFG, which has one estimate, both ways are guided.

Source: arXiv 2406.08070, section 3.3; CFGpp-diffusion/CFGpp @ 80353525 `ddim_inversion_cfg++`.
Deviates: a picture without any noise (`sigma_s = 0`) has no noise estimate; it is taken to lie at
    sigma = 0.01 alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from guidance.asks import Conditions, Level
from guidance.base import Guidance
from guidance.cfgpp import CFGPP
from samplers.cards import CARDS, inversion_problems, problems
from samplers.driver import Sampled, drive, pictures
from samplers.img2img import to_latents
from samplers.loop import Observed, Run, run
from samplers.models.base import Model
from samplers.steps import Plan, compile_plan
from samplers.steps.ddim import first_order

LEAST_NOISE = 0.01
"""`sigma / alpha` at which a picture without noise is taken to lie."""


class Given:
    """A noise source that starts a run from given latents. Nothing else can be drawn from it."""

    def __init__(self, latents: Tensor) -> None:
        self._latents: Tensor | None = latents

    def draw(self) -> Tensor:
        """The latents, once."""
        latents, self._latents = self._latents, None
        if latents is None:
            raise ValueError("this run starts from given latents; it has no noise to add")
        return latents

    def uniform(self) -> float:
        """There is none."""
        raise ValueError("this run starts from given latents; it has no particles to resample")


def upward(plan: Plan) -> Plan:
    """The inversion of a first-order plan."""

    def below(now: Level, clean: Level) -> Level:
        alpha, sigma = clean.alpha, clean.sigma
        if sigma < LEAST_NOISE * alpha:
            flow = math.isclose(now.alpha + now.sigma, 1)  # its levels lie on alpha + sigma = 1
            alpha = 1 / (1 + LEAST_NOISE) if flow else alpha
            sigma = LEAST_NOISE * alpha
        return Level(alpha, sigma, now.timestep)

    rows = [first_order(below(row.now, row.next), row.now) for row in reversed(plan.rows)]
    return Plan(tuple(rows), init_scale=1.0, upward=True)


def edit_run(
    plan: Plan,
    guidance: Guidance,
    source: Conditions,
    target: Conditions,
    latents: Tensor,
    observe: Callable[[Observed], None] | None = None,
) -> Run:
    """Invert `latents` (1, C, h, w) under `source`, then sample under `target`, guided alike both ways."""
    guidance = guidance.planned(plan.steps)
    there = yield from run(upward(plan), guidance, source, Given(latents), observe)
    return (yield from run(replace(plan, init_scale=1.0), guidance, target, Given(there.latents), observe))


def invert(
    model: Model,
    image: Image.Image | Tensor,
    prompt: str,
    *,
    negative_prompt: str = "",
    guidance: Guidance | None = None,
    sampler: str | None = None,
    steps: int = 50,
) -> Tensor:
    """The latents (1, C, h, w) from which `sampler` makes `image` under `prompt`, as far as steps allow.

    `image`: a picture, or latents (1, C, h, w). `guidance`: CFG++ with its defaults where None. ValueError
    says what cannot be inverted.
    """
    latents = to_latents(model, image)
    guidance, plan = _planned(model, guidance, sampler, steps, latents)
    positive, negative = model.encode([prompt, negative_prompt]).conds
    cond = Conditions(positive, negative)
    (final,), _ = drive(model, [run(upward(plan), guidance, cond, Given(latents))])
    return final.latents


def edit(
    model: Model,
    image: Image.Image | Tensor,
    source_prompt: str,
    prompt: str,
    *,
    negative_prompt: str = "",
    guidance: Guidance | None = None,
    sampler: str | None = None,
    steps: int = 50,
    embedded_scale: float | None = None,
    clip_skip: int | None = None,
) -> Sampled:
    """`image`, which `source_prompt` describes, turned into what `prompt` says; NFE counts both ways."""
    latents = to_latents(model, image)
    guidance, plan = _planned(model, guidance, sampler, steps, latents)
    encoded = model.encode([source_prompt, prompt, negative_prompt], clip_skip)
    before, after, negative = encoded.conds
    source, target = (Conditions(one, negative).told(embedded_scale) for one in (before, after))
    ((final,), nfe) = drive(model, [edit_run(plan, guidance, source, target, latents)])
    return Sampled(
        images=list(pictures(model, final.latents)),
        latents=final.latents,
        trace=[final.trace],
        nfe=nfe,
        warnings=encoded.warnings,
        seeds=[0],
    )


def _planned(
    model: Model, guidance: Guidance | None, sampler: str | None, steps: int, latents: Tensor
) -> tuple[Guidance, Plan]:
    guidance = CFGPP.model_validate({}) if guidance is None else guidance
    fitting: Sequence[str] = [
        card.name
        for card in CARDS.values()
        if not problems(guidance, card, model.family, model.extras) and not inversion_problems(guidance, card)
    ]
    chosen = sampler or (fitting[0] if fitting else next(iter(CARDS)))
    if chosen in CARDS and chosen not in fitting:
        card = CARDS[chosen]
        found = problems(guidance, card, model.family, model.extras) + inversion_problems(guidance, card)
        raise ValueError("; ".join(found))
    _, channels, height, width = latents.shape
    config = model.schedule_config((channels, height, width))
    plan = compile_plan(chosen, steps, model.family, config)
    return guidance.planned(plan.steps), plan
