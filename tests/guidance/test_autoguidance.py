from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from guidance.asks import Cond, Conditions, Denoise, Level, Step
from guidance.autoguidance import Autoguidance
from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers.loop import run as run_plan
from samplers.schedule import Schedule
from samplers.steps import heun
from samplers.steps.row import Plan
from tests import analytic
from tests.analytic import (
    CONDITIONS,
    POSITIVE,
    Answerer,
    flow_levels,
    run,
    start,
    steps_of,
    ve_levels,
    vp_levels,
)
from tests.golden.arrays import load

Z = load("autoguidance_edm2")


class Gaussians(Answerer):
    """The golden denoisers: two Gaussian posteriors, whose means depend on the label."""

    def answer(self, ask: Denoise) -> list[torch.Tensor]:
        self.asks.append(ask)
        self.evaluations += len(ask.conds)
        good, s2 = ask.network == "main", ask.level.sigma**2
        spread, slope, offset = (0.25, 0.1, 0.0) if good else (0.6, 0.06, 0.03)
        return [
            (spread * ask.x_t + s2 * (slope * (cond.data - 4.5) + offset)) / (spread + s2)
            for cond in ask.conds
        ]


class Given:
    """The recorded starting noise."""

    def __init__(self, noise: torch.Tensor) -> None:
        self._noise = noise

    def draw(self) -> torch.Tensor:
        return self._noise

    def uniform(self) -> float:
        raise AssertionError("nothing is resampled here")


def edm(guidance: Any, steps: int, row: int) -> tuple[torch.Tensor, Gaussians]:
    """One image along EDM's grid with Heun's method, through the product's own loop."""
    levels: Sequence[Level] = ve_levels(steps)
    spans = tuple(pairwise(levels))
    plan = Plan(tuple(heun.table(Schedule(spans, 80.0, lambda s: Level(1.0, s, s)))), init_scale=80.0)
    cond = Cond("label", Z["y"][row].item())
    answerer = Gaussians()
    final = answerer.finish(
        run_plan(plan, guidance, Conditions(cond, cond), Given(Z["latents"][row : row + 1]))
    )
    return final.latents, answerer


@pytest.mark.parametrize(
    ("key", "scale", "steps"),
    [
        ("autog_1.0", 1.0, 32),
        ("autog_1.4", 1.4, 32),
        ("autog_2.1", 2.1, 32),
        ("autog_2.45", 2.45, 32),
        ("autog_2.1_steps2", 2.1, 2),
        ("autog_2.1_steps8", 2.1, 8),
    ],
)
def test_ends_where_the_official_sampler_ends(key: str, scale: float, steps: int) -> None:
    for row in range(3):
        latents, answerer = edm(Autoguidance(scale=scale), steps, row)
        assert torch.allclose(latents[0], Z[key][row], atol=1e-9, rtol=0)
        assert answerer.evaluations == (2 * steps - 1) * (1 if scale == 1 else 2)


def test_scale_one_is_the_good_model_and_never_asks_the_weak_one() -> None:
    levels = vp_levels()
    alone = run(Autoguidance(scale=1), start(levels), levels)
    assert torch.equal(alone.x, run(NoGuidance(), start(levels), levels).x)
    assert all(ask.network == "main" for ask in alone.answerer.asks)
    assert not Autoguidance(scale=1).requires().weak


def test_scale_zero_is_the_weak_model() -> None:
    x, step = start(vp_levels()), steps_of(vp_levels())[3]
    guided = Answerer().finish(Autoguidance(scale=0).guide(x, step, CONDITIONS, None)).denoised
    assert torch.allclose(guided, analytic.denoised(x, step.now, POSITIVE, "weak"), atol=1e-14)


def test_equal_models_do_nothing() -> None:
    class Twins(Answerer):
        def answer(self, ask: Denoise) -> Any:
            return super().answer(Denoise(ask.x_t, ask.level, ask.conds))

    x, step = start(flow_levels()), steps_of(flow_levels())[3]
    guided = Twins().finish(Autoguidance(scale=5).guide(x, step, CONDITIONS, None)).denoised
    assert torch.allclose(guided, analytic.denoised(x, step.now, POSITIVE), atol=1e-13)


def test_both_models_get_the_same_condition() -> None:
    asks = run(Autoguidance(), start(vp_levels()), vp_levels()).answerer.asks
    assert {cond.key for ask in asks for cond in ask.conds} == {POSITIVE.key}


def test_the_interval_saves_the_weak_model() -> None:
    _, answerer = edm(Autoguidance(scale=2.0, sigma_low=0.19, sigma_high=1.61), 32, 0)
    weak = [ask for ask in answerer.asks if ask.network == "weak"]
    assert len(weak) == 2 * 6  # steps 17 to 22, both evaluations
    assert weak[0].level.sigma == pytest.approx(1.609, abs=1e-3)
    assert weak[-1].level.sigma == pytest.approx(0.189, abs=1e-3)


def test_is_affine_in_the_predictions() -> None:
    """The same combination as CFG's, so scaling and shifting both predictions does so to the answer."""
    step, x = steps_of(vp_levels())[0], start(vp_levels())
    pos, weak = torch.randn_like(x), torch.randn_like(x)

    def combined(a: float, b: float) -> torch.Tensor:
        guide = Autoguidance(scale=2.3).guide(x, step, CONDITIONS, None)
        next(guide)
        guide.send([a * pos + b])
        with pytest.raises(StopIteration) as stop:
            guide.send([a * weak + b])
        return stop.value.value.denoised

    assert torch.allclose(combined(2.0, 0.7), 2 * combined(1.0, 0.0) + 0.7, atol=1e-12)
    cfg = CFG(scale=2.3).guide(x, step, CONDITIONS, None)
    next(cfg)
    with pytest.raises(StopIteration) as stop:
        cfg.send([pos, weak])
    assert torch.equal(combined(1.0, 0.0), stop.value.value.denoised)


TOY = load("autoguidance_toy_gmm")


def mixture_denoised(x: torch.Tensor, sigma: float, extra: float = 0.0) -> torch.Tensor:
    """The official 2-D toy's posterior mean (mixture A); `extra` on its covariances makes it bad."""
    weights, means = TOY["phiA"], TOY["muA"]
    noisy = TOY["SA"] + (sigma**2 + extra) * torch.eye(2, dtype=torch.float64)
    parts = torch.distributions.MultivariateNormal(means, noisy)
    points = x.view(-1, 1, 2)
    share = (weights.log() + parts.log_prob(points)).softmax(1)
    scores = torch.linalg.solve(noisy, (means - points).unsqueeze(-1)).squeeze(-1)
    return (x.view(-1, 2) + sigma**2 * (share.unsqueeze(-1) * scores).sum(1)).view(x.shape)


@pytest.mark.parametrize("sigma", ["0.1", "0.3", "1.0"])
def test_guides_the_official_toys_scores(sigma: str) -> None:
    """In scores, as the official toy combines them, it is the same as in estimates of x0."""
    noise, bad = float(sigma), TOY["bad_extra_cov"].item()
    x = TOY["x_eval"].view(-1, 1, 1, 2)

    class Mixture(Answerer):
        def answer(self, ask: Denoise) -> Any:
            return [mixture_denoised(ask.x_t, ask.level.sigma, bad if ask.network == "weak" else 0.0)]

    level = Level(1.0, noise, 0)
    step = Step(0, 2, level, Level(1.0, noise / 2, 0))
    guided = Mixture().finish(Autoguidance(scale=3).guide(x, step, CONDITIONS, None)).denoised
    weak = (mixture_denoised(x, noise, bad) - x).view(-1, 2) / noise**2
    expected = weak + 3 * (TOY[f"scoreA_{sigma}"] - weak)
    assert torch.allclose((guided - x).view(-1, 2) / noise**2, expected, atol=1e-4, rtol=1e-4)
