"""The shortest possible driver of a guidance method on the toy model, for batches of independent images.

`samplers.loop.run` samples one image; here a batch goes through `guide` at once, in float64, so that rules
can be held against formulas and golden arrays step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guidance.asks import Ask, Classify, Cond, Conditions, Denoise, Level, Network, Prediction, Step
from guidance.base import Guidance
from guidance.qr.scanning import Target
from guidance.qr.symbol import Symbol
from samplers.answer import answer_one
from samplers.models.toy import Toy

torch.set_num_threads(1)  # tensors here are tiny: threads would only wait for each other

TOY = Toy(dtype="float64", channels=4, size_px=32)
"""Its mixture and conditions are those of the golden arrays."""
POSITIVE, NEGATIVE, TARGET, MIDDLE = (TOY.cond(name) for name in ("high", "", "low", "middle"))


class Patch(Symbol):
    """Modules without codewords: a wrong module is damage of its share."""

    def damage(self, wrong: Any) -> float:
        return float(wrong.mean())

    @property
    def function(self) -> Any:
        return np.zeros_like(self.dark)


DARK = np.random.default_rng(0).random((4, 4)) < 0.5
SCAN = Target(Patch("", 1, "M", 0, DARK), 8, torch.rand(1, 3, 32, 32, generator=torch.Generator()))
CONDITIONS = Conditions(POSITIVE, NEGATIVE, classes=(TARGET, MIDDLE), target=SCAN)
SAME = Conditions(POSITIVE, POSITIVE, classes=(TARGET, MIDDLE), target=SCAN)


def denoised(x: Tensor, level: Level, cond: Cond, network: Network = "main") -> Tensor:
    """The toy's exact E[x0 | x_t]."""
    return TOY.denoise(x, [level] * len(x), [cond] * len(x), network)


@dataclass
class Answerer:
    """Answers the asks of one run and counts what they cost."""

    model: Any = TOY
    evaluations: int = 0
    classifications: int = 0
    asks: list[Ask] = field(default_factory=list)

    def answer(self, ask: Ask) -> Any:
        self.asks.append(ask)
        if isinstance(ask, Denoise):
            self.evaluations += len(ask.x_t) * len(ask.conds)
        self.classifications += len(ask.images) if isinstance(ask, Classify) else 0
        return answer_one(self.model, ask)

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
