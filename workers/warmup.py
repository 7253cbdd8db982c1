"""The run that a worker makes of a model before work comes."""

from __future__ import annotations

from app.catalogue import ModelCard
from guidance.asks import Conditions
from guidance.cfg import CFG
from samplers.loop import Run, batch, run
from samplers.models.base import Model
from samplers.noise import Noise
from samplers.steps import compile_plan


def warm_up(model: Model, card: ModelCard) -> Run:
    """One step with the card's defaults: the first of each kind of kernel, and an ask to measure."""
    guidance = card.guidance or CFG.model_validate({})
    shape = model.latent_shape(card.width, card.height)
    plan = compile_plan(card.sampler, 1, model.family, model.schedule_config(shape))
    (empty,) = model.encode([""]).conds
    return run(plan, guidance, Conditions(empty, empty), Noise(0, shape, batch(guidance), model.device))
