"""Which guidance a request gets: its own or the model's, a scale that the network is told, LinearAG's fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from app.catalogue import ModelCard
from app.fits import Key, fitted
from app.jobs import JobSpec
from guidance.adaptive import Adaptive
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.none import NoGuidance
from guidance.srpg import SRPG
from samplers.cards import CARDS


@dataclass(frozen=True, slots=True)
class Guided:
    """A guidance with all its values, what a network with a scale built in is told, and what is wrong."""

    guidance: Guidance
    embedded_scale: float | None = None
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Where in the request (a JSON pointer), and why."""


def guided(spec: JobSpec, card: ModelCard, sampler: str, steps: int, data_dir: Path) -> Guided:
    """What guides the runs of `spec` on the model of `card`."""
    chosen = None if spec.guidance is None else spec.guidance.suited(card.family, card.pipeline)
    chosen = chosen or (None if spec.edit else card.guidance)
    told = card.embedded_scale if spec.embedded_scale is None else spec.embedded_scale
    if spec.qr is not None:
        guidance = chosen or CFG.model_validate({})
        return Guided(guidance if spec.guidance else SRPG.based_on(guidance), told)
    if isinstance(chosen, Adaptive) and chosen.variant == "linear" and sampler in CARDS:
        fit = _linear_ag(spec, chosen, Key(card.id, sampler, steps, chosen.scale), data_dir)
        return replace(fit, embedded_scale=told)
    if "embedded" in card.extras and spec.edit is None:
        return _built_in(spec, chosen or NoGuidance.model_validate({}), told)
    default = (CFGPP if spec.edit else CFG).model_validate({})
    return Guided(chosen or default.suited(card.family, card.pipeline), told)


def _built_in(spec: JobSpec, guidance: Guidance, told: float | None) -> Guided:
    """CFG's scale is what the network is told, in one pass; beside an `embedded_scale` it is two passes."""
    if not isinstance(guidance, CFG) or spec.embedded_scale is not None:
        return Guided(guidance, told)
    problems: list[tuple[str, str]] = []
    two_passes = "give embedded_scale too for two passes, or leave"
    if spec.negative_prompt:
        detail = (
            f"this model is told its scale and takes no negative prompt; {two_passes} negative_prompt out"
        )
        problems.append(("/negative_prompt", detail))
    if guidance != CFG.model_validate({"scale": guidance.scale}):
        detail = (
            f"this model is told its scale in one pass, which only `scale` acts on; {two_passes} the rest out"
        )
        problems.append(("/guidance", detail))
    return Guided(NoGuidance.model_validate({}), guidance.scale, problems)


def _linear_ag(spec: JobSpec, guidance: Adaptive, key: Key, data_dir: Path) -> Guided:
    """LinearAG with its coefficients."""
    if guidance.coefficients:
        problem = guidance.misfit(key.steps)
        return Guided(guidance, problems=[] if problem is None else [("/guidance/coefficients", problem)])
    if spec.negative_prompt:
        detail = "LinearAG is fitted with an empty negative prompt; leave negative_prompt out"
        return Guided(guidance, problems=[("/negative_prompt", detail)])
    try:
        return Guided(fitted(guidance, key, data_dir))
    except LookupError as error:
        return Guided(guidance, problems=[("/guidance/variant", str(error))])
