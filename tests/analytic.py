"""An analytic model and the shortest possible driver, so that guidance rules are tested without a network.

The model is the one of the golden arrays: each element of x0 is drawn independently from a mixture of three
Gaussians, and a condition is the mixture's weights. Its `denoised` is exact at every noise level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guidance.base import Ask, Classify, Cond, Conditions, Decode, Denoise, Guidance, Level, Prediction, Step

torch.set_num_threads(1)  # tensors here are tiny: threads would only wait for each other

MEANS = torch.tensor([-1.0, 0.2, 1.3], dtype=torch.float64)
STD = 0.35
WEAK_STD = 0.7
POSITIVE = Cond("positive", (0.05, 0.15, 0.80))
NEGATIVE = Cond("", (0.5, 0.3, 0.2))
TARGET = Cond("target", (0.7, 0.2, 0.1))
MIDDLE = Cond("middle", (0.1, 0.8, 0.1))
CONDITIONS = Conditions(POSITIVE, NEGATIVE, classes=(TARGET, MIDDLE))
SAME = Conditions(POSITIVE, POSITIVE, classes=(TARGET, MIDDLE))


def mixture(x: Tensor, level: Level, weights: Sequence[float], std: float = STD) -> tuple[Tensor, Tensor]:
    """(log density of x_t, E[x0 | x_t]), element by element."""
    a, s = level.alpha, level.sigma
    means = MEANS.to(x.dtype)
    variance = a * a * std * std + s * s
    apart = x.unsqueeze(-1) - a * means
    logits = torch.tensor(weights, dtype=x.dtype).log() - apart.square() / (2 * variance)
    r = logits.softmax(-1)
    denoised = (r * (means + a * std * std / variance * apart)).sum(-1)
    log_density = logits.logsumexp(-1) - 0.5 * torch.tensor(2 * torch.pi * variance, dtype=x.dtype).log()
    return log_density, denoised


def denoised(x: Tensor, level: Level, cond: Cond, std: float = STD) -> Tensor:
    return mixture(x, level, cond.data, std)[1]


@dataclass
class Answerer:
    """Answers the asks of one run and counts what they cost."""

    evaluations: int = 0
    classifications: int = 0
    asks: list[Ask] = field(default_factory=list)

    def answer(self, ask: Ask) -> Any:
        self.asks.append(ask)
        if isinstance(ask, Denoise):
            self.evaluations += len(ask.x_t) * len(ask.conds)
            std = WEAK_STD if ask.network == "weak" else STD
            with torch.set_grad_enabled(ask.grad):
                return [denoised(ask.x_t, ask.level, cond, std) for cond in ask.conds]
        if isinstance(ask, Decode):
            return torch.tanh(ask.latents)
        assert isinstance(ask, Classify)
        self.classifications += len(ask.images)
        latents = torch.atanh(ask.images.clamp(-0.999999, 0.999999)) if ask.level is None else ask.images
        level = ask.level or Level(1.0, 0.0, 0.0)
        with torch.set_grad_enabled(ask.grad):
            scores = [mixture(latents, level, label.data)[0].flatten(1).mean(1) for label in ask.labels]
            return torch.stack(scores, dim=1)

    def finish(self, guide: Any) -> Prediction:
        """Drive one `guide` to its prediction."""
        try:
            ask = next(guide)
            while True:
                ask = guide.send(self.answer(ask))
        except StopIteration as stop:
            return stop.value


@dataclass
class Ran:
    x: Tensor
    predictions: list[Prediction]
    answerer: Answerer
    states: list[Tensor]


def steps_of(levels: Sequence[Level]) -> list[Step]:
    total = len(levels) - 1
    return [Step(i, total, levels[i], levels[i + 1]) for i in range(total)]


def run(
    guidance: Guidance, x: Tensor, levels: Sequence[Level], cond: Conditions = CONDITIONS, noises: Any = None
) -> Ran:
    """The first-order rule of every family; with `noises`, ancestral (eta = 1)."""
    answerer, state, predictions, states = Answerer(), guidance.start(), [], [x]
    noise: Iterator[Tensor] = iter(noises if noises is not None else ())
    for step in steps_of(levels):
        prediction = answerer.finish(guidance.guide(x, step, cond, state))
        x = first_order(x, step, prediction, next(noise, None))
        predictions.append(prediction)
        states.append(x)
    return Ran(x, predictions, answerer, states)


def first_order(x: Tensor, step: Step, prediction: Prediction, noise: Tensor | None = None) -> Tensor:
    now, after = step.now, step.next
    renoise = prediction.denoised if prediction.renoise is None else prediction.renoise
    eps = (x - now.alpha * renoise) / now.sigma
    up = 0.0
    if noise is not None:
        t, s = now.sigma_ve, after.sigma_ve
        up = min(s, (s**2 * (t**2 - s**2) / t**2) ** 0.5) * after.alpha
    x = after.alpha * prediction.denoised + (after.sigma**2 - up**2) ** 0.5 * eps
    return x if noise is None else x + up * noise


def vp_levels(steps: int = 8, end: float = 0.0) -> list[Level]:
    """Variance-preserving levels of the SD schedule, evenly spaced, and the clean end."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    bars = (1 - betas).cumprod(0)
    times = torch.linspace(999, 20, steps).long().tolist()
    levels = [Level(bars[t].item() ** 0.5, (1 - bars[t].item()) ** 0.5, float(t)) for t in times]
    return [*levels, Level((1 - end * end) ** 0.5, end, 0.0)]


def flow_levels(steps: int = 8) -> list[Level]:
    """Rectified flow from t = 1 to 0."""
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
    return [Level(1 - t, t, 1000 * t) for t in times]


def ve_levels(steps: int = 8, high: float = 80.0, low: float = 0.002, rho: float = 7.0) -> list[Level]:
    """The EDM grid, and the clean end."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return [*(Level(1.0, s, s) for s in sigmas.tolist()), Level(1.0, 0.0, 0.0)]


FAMILIES = {"vp": vp_levels, "flow": flow_levels, "ve": ve_levels}


def start(
    levels: Sequence[Level], batch: int = 3, seed: int = 0, shape: tuple[int, ...] = (4, 4, 4)
) -> Tensor:
    """x_T for `levels[0]`, float64."""
    noise = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise * levels[0].sigma
