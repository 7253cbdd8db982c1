"""Fitting LinearAG: trajectories of CFG, least squares on them, and what the fit is worth on other images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from guidance.adaptive import Adaptive
from guidance.asks import Conditions, Denoise
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.linear import Coefficients, fit, guided_steps, is_estimated, noise_of
from samplers.cards import CARDS, problems
from samplers.driver import drive
from samplers.loop import Run, run
from samplers.models.base import Model
from samplers.noise import Noise
from samplers.steps import compile_plan

HELD_OUT = 4
"""Every so many images is kept from the fit, to measure it."""
ELEMENTS = 4096
"""Latent elements of an image that count, drawn once; of few numbers per step, more would say no more."""
TOGETHER = 8


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients, and what LinearAG with them does to images that they were not fitted on."""

    coefficients: Coefficients
    images: int
    explained: float
    """Share of the unconditional noise's power that the estimates explain, at the worst step."""
    copied: float
    """The same where the conditional noise is taken for the unconditional one."""
    error: float
    """RMSE of the final latents to CFG's."""
    half_error: float
    """The same of CFG in the first half of the steps, without estimates: what stopping there costs."""
    unguided_error: float
    """The same without any guidance."""
    evaluations: int
    cfg_evaluations: int


def fit_linear_ag(
    model: Model,
    prompts: Sequence[str],
    *,
    sampler: str,
    steps: int,
    scale: float,
    images: int = 32,
    progress: bool = False,
) -> Fit:
    """Fit LinearAG on `images` of CFG with seeds 0, 1, ..., prompt by prompt, at the model's own size.

    ValueError says what does not fit together, or that there are too few images to hold some out.
    """
    if images < HELD_OUT:
        raise ValueError(f"a fit takes at least {HELD_OUT} images, of which one is held out")
    linear = Adaptive.model_validate({"variant": "linear", "scale": scale})
    if found := problems(linear, CARDS[sampler], model.family, model.extras):
        raise ValueError("; ".join(found))
    full, half, unguided = (
        CFG.model_validate(values)
        for values in (
            {"scale": scale},
            {"scale": scale, "guide_to": guided_steps(steps) / steps},
            {"scale": 1},
        )
    )
    bench = _Bench(model, prompts, sampler, steps)
    chosen = bench.elements()
    known = [i for i in range(images) if (i + 1) % HELD_OUT]
    held_out = [i for i in range(images) if (i + 1) % HELD_OUT == 0]
    bar: tqdm[Any] = tqdm(total=images, disable=not progress, unit="image")
    with bar:
        recorded, _ = bench.recorded(full, known, chosen, bar)
        tested, cfg = bench.recorded(full, held_out, chosen, bar)
    coefficients = fit(*recorded)
    linear = linear.model_copy(update={"coefficients": coefficients})
    explained, copied = _explained(*tested, coefficients)
    error, half_error, unguided_error = (
        _rmse(bench.finals(one, held_out), cfg) for one in (linear, half, unguided)
    )
    return Fit(
        coefficients=coefficients,
        images=images,
        explained=explained,
        copied=copied,
        error=error,
        half_error=half_error,
        unguided_error=unguided_error,
        evaluations=linear.nfe(bench.plan.steps),
        cfg_evaluations=full.nfe(bench.plan.steps),
    )


class _Bench:
    def __init__(self, model: Model, prompts: Sequence[str], sampler: str, steps: int) -> None:
        self._model = model
        self._shape = model.latent_shape(*model.default_size)
        self.plan = compile_plan(sampler, steps, model.family, model.schedule_config(self._shape))
        *self._positive, self._negative = model.encode([*prompts, ""]).conds

    def elements(self) -> Tensor:
        count = self._shape[0] * self._shape[1] * self._shape[2]
        return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:ELEMENTS]

    def run(self, guidance: Guidance, image: int) -> Run:
        cond = Conditions(self._positive[image % len(self._positive)], self._negative)
        return run(self.plan, guidance, cond, Noise(image, self._shape, device=self._model.device))

    def finals(self, guidance: Guidance, images: Sequence[int]) -> Tensor:
        done, _ = drive(self._model, [self.run(guidance, image) for image in images])
        return torch.cat([final.latents for final in done])

    def recorded(
        self, guidance: Guidance, images: Sequence[int], chosen: Tensor, bar: tqdm[Any]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """CFG's noise predictions, each (steps, images, elements), and its final latents."""
        kept: list[list[Tensor]] = [[] for _ in images]
        finals: list[Tensor] = []
        for at in range(0, len(images), TOGETHER):
            some = range(at, min(at + TOGETHER, len(images)))
            runs = [_noted(self.run(guidance, images[i]), kept[i], chosen) for i in some]
            done, _ = drive(self._model, runs)
            finals += [final.latents for final in done]
            bar.update(len(some))
        pairs = torch.stack([torch.stack(noises) for noises in kept])  # image, step, branch, element
        return (pairs[:, :, 0].transpose(0, 1), pairs[:, :, 1].transpose(0, 1)), torch.cat(finals)


def _noted(run: Run, noises: list[Tensor], chosen: Tensor) -> Run:
    """The same run; what both predictions make of the noise is added to `noises`, step by step."""
    reply = None
    while True:
        try:
            ask = run.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = yield ask
        assert isinstance(ask, Denoise)
        both = [noise_of(one, ask.x_t, ask.level).flatten().cpu()[chosen] for one in reply]
        noises.append(torch.stack(both).float())


def _explained(pos: Tensor, neg: Tensor, coefficients: Coefficients) -> tuple[float, float]:
    """The least share of neg's power that the estimates explain at any step, and that pos explains."""
    shares: list[tuple[float, float]] = []
    for k in range(len(coefficients)):
        if not is_estimated(k, len(pos)):
            continue
        known = torch.cat([pos[: k + 1], neg[:k]]).double()
        estimate = torch.tensordot(torch.tensor(coefficients[k], dtype=torch.float64), known, dims=1)
        power = neg[k].double().square().sum()
        left = [(neg[k] - other).square().sum() / power for other in (estimate, pos[k])]
        shares.append((1 - left[0].item(), 1 - left[1].item()))
    return min(shares, default=(1.0, 1.0))


def _rmse(a: Tensor, b: Tensor) -> float:
    return (a - b).square().mean().sqrt().item()
