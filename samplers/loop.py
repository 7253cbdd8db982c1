"""The run: the only place where x_t changes.

A run is a generator that yields a method's asks and is sent the answers. It ends with `Final`; closing it is
cancelling it. It never waits for the device, except to resample particles and at its end. A method's per-run
state follows its particles where it has `select(indices)`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guidance.asks import Ask, Conditions, Prediction, Step
from guidance.base import Guidance
from guidance.qr.scanning import Target
from samplers import resample
from samplers.img2img import Start
from samplers.noise import NoiseSource
from samplers.steps.row import Plan, Row
from samplers.trace import Scalar, TraceLog


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One row as it was run: the sample it began with, the guided estimate, the method's scalars."""

    step: Step
    x_t: Tensor
    denoised: Tensor
    trace_row: dict[str, Scalar]


@dataclass(frozen=True, slots=True, eq=False)
class Final:
    """The result: latents (1, C, h, w), or (K, C, h, w) where all particles are kept, and the trace."""

    latents: Tensor
    trace: dict[str, list[float | None]]
    target: Target | None = None
    """The QR symbol that the latents' picture is."""


Run = Generator[Ask, Any, Final]


def batch(guidance: Guidance) -> int:
    """How many samples a run of one image carries with this method: its particles, or 1."""
    population = guidance.population()
    return population.particles if population else 1


def run(
    plan: Plan,
    guidance: Guidance,
    cond: Conditions,
    noise: NoiseSource,
    observe: Callable[[Observed], None] | None = None,
    start: Start | None = None,
) -> Run:
    """Sample one image (or the particles of one) along `plan`, from noise or from `start`.

    Shapes, device and precision are those of `noise`, whose batch is `batch(guidance)`. `observe` is called
    after each row. ValueError where the method breaks its contract; FloatingPointError where the result is
    not finite.
    """
    guidance = guidance.planned(plan.steps)
    population = guidance.population()
    state = guidance.start()
    trace = TraceLog(guidance.traces, guidance.method)
    first = noise.draw()
    prior_scale = population.prior_scale if population else 1.0
    x = first * (plan.init_scale * prior_scale) if start is None else start.begin(plan, first)
    history: list[Tensor] = []
    log_weights = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for i, (row, step) in enumerate(zip(plan.rows, plan.steps, strict=True)):
        prediction = yield from guidance.guide(x, step, cond, state)
        _check(prediction, x, guidance)
        denoised = prediction.denoised.detach().to(x.dtype)
        renoise = denoised if prediction.renoise is None else prediction.renoise.detach().to(x.dtype)
        kept, noisy = (renoise, denoised) if plan.upward else (denoised, renoise)
        x_s = advance(row, x, kept, noisy, history, noise.draw() if row.noise else None)
        if start is not None:
            x_s = start.keep(plan, i, x_s, first)
        history = [renoise, *history[:1]]
        scalars = dict(prediction.trace)
        due = False
        if population and prediction.log_weight is not None:
            log_weights += prediction.log_weight.detach()
            size = resample.ess(log_weights)
            due = size < population.resample_below * population.particles
            if "ess" in guidance.traces:
                scalars["ess"] = size
        if population and i == len(plan.rows) - 1:
            due = due or bool(log_weights.any())
        if "resampled" in guidance.traces:
            scalars["resampled"] = float(due)
        trace.append(scalars)
        if observe is not None:
            observe(Observed(step, x, denoised, scalars))
        x = x_s
        if due:
            chosen = resample.systematic(log_weights, noise.uniform())
            x, history = x[chosen], [past[chosen] for past in history]
            if hasattr(state, "select"):
                state.select(chosen)
            log_weights.zero_()
    if not bool(torch.isfinite(x).all()):
        raise FloatingPointError(
            f"sampling with guidance {guidance.method!r} diverged: the result is not finite. "
            "Lower its scale or use more steps."
        )
    keep_all = population is not None and population.keep == "all"
    return Final(x if keep_all else x[:1], trace.columns())


def advance(
    row: Row, x_t: Tensor, denoised: Tensor, renoise: Tensor, history: Sequence[Tensor], noise: Tensor | None
) -> Tensor:
    """`x_s = a x_t + b R + c R_1 + d R_2 + shift (denoised - R) + noise n`; zero terms are not computed."""
    x_s = row.a * x_t + row.b * renoise
    if row.c:
        x_s += row.c * history[0]
    if row.d:
        x_s += row.d * history[1]
    if row.shift and denoised is not renoise:
        x_s += row.shift * (denoised - renoise)
    if noise is not None:
        x_s += row.noise * noise
    return x_s


def _check(prediction: Prediction, x: Tensor, guidance: Guidance) -> None:
    for estimate in (prediction.denoised, prediction.renoise):
        if estimate is not None and estimate.shape != x.shape:
            raise ValueError(
                f"guidance {guidance.method!r} predicted shape {tuple(estimate.shape)} for {tuple(x.shape)}"
            )
    if prediction.log_weight is not None and guidance.population() is None:
        raise ValueError(f"guidance {guidance.method!r} gave log_weight without a population()")
