from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from guidance.asks import Level, Prediction, Step
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP, equivalent_cfg_scale
from guidance.none import NoGuidance
from samplers.cards import CARDS
from samplers.driver import drive
from samplers.loop import run as run_plan
from samplers.models.toy import Toy
from samplers.noise import Noise
from samplers.schedule import Schedule
from samplers.steps import compile_plan, ddim
from samplers.steps.row import Plan
from tests import analytic
from tests.analytic import (
    CONDITIONS,
    NEGATIVE,
    SAME,
    Answerer,
    flow_levels,
    run,
    start,
    steps_of,
    ve_levels,
    vp_levels,
)
from tests.golden.arrays import load

Z = load("cfgpp_sd15")
BARS = torch.cat([torch.ones(1).double(), Z["alphas_cumprod"]])


def vp(bar: float, timestep: int) -> Level:
    return Level(bar**0.5, (1 - bar) ** 0.5, float(timestep))


def table() -> Answerer:
    """The golden model: a network that knows its time only, and not the sampler's own level."""
    return Answerer(Toy(dtype="float64", alphas_cumprod=Z["alphas_cumprod"]))


def ddim_levels(key: str) -> list[Level]:
    times = Z[f"{key}|timesteps"].tolist()
    skip = Z[f"{key}|skip"].item()
    bars = [BARS[t].item() for t in times]
    last = BARS[times[-1] - skip].item() if times[-1] - skip >= 0 else Z["alphas_cumprod"][0].item()
    return [*(vp(bar, t) for bar, t in zip(bars, times, strict=True)), vp(last, 0)]


@pytest.mark.parametrize(
    ("key", "guidance"),
    [
        ("ddim|7.5", CFG(scale=7.5)),
        ("ddim|1.0", CFG(scale=1)),
        ("ddim_cfg++|0.0", CFGPP(scale=0)),
        ("ddim_cfg++|0.6", CFGPP(scale=0.6)),
        ("ddim_cfg++|1.0", CFGPP(scale=1)),
    ],
)
def test_ddim_follows_the_official_trajectory(key: str, guidance: CFG | CFGPP) -> None:
    x, answerer = Z[f"{key}|init"], table()
    for step in steps_of(ddim_levels(key)):
        prediction = answerer.finish(guidance.guide(x, step, CONDITIONS, guidance.start()))
        assert torch.allclose(prediction.denoised, Z[f"{key}|z0t"][step.index], atol=1e-9, rtol=0)
        x = analytic.first_order(x, step, prediction)
        assert torch.allclose(x, Z[f"{key}|zt"][step.index], atol=1e-9, rtol=0)


def test_euler_follows_the_official_trajectory() -> None:
    """The official code keeps x / alpha; its network reads `x / sqrt(sigma^2 + 1)`, which is our x."""
    key, guidance, answerer = "euler_cfg++|0.6", CFGPP(scale=0.6), table()
    times = [*Z[f"{key}|model_t"].tolist(), 0]
    levels = [vp(1 / (1 + s * s), t) for s, t in zip(Z["sigmas_karras_n10"].tolist(), times, strict=True)]
    x = Z[f"{key}|init"] * levels[0].alpha
    for step in steps_of(levels):
        prediction = answerer.finish(guidance.guide(x, step, CONDITIONS, None))
        assert torch.allclose(prediction.denoised, Z[f"{key}|z0t"][step.index], atol=1e-9, rtol=0)
        x = analytic.first_order(x, step, prediction)
        assert torch.allclose(x / step.next.alpha, Z[f"{key}|zt"][step.index], atol=1e-9, rtol=0)


def official_step(
    sampler: str,
    d: Callable[[Tensor, float], tuple[Tensor, Tensor]],
    x: Tensor,
    sigmas: list[float],
    i: int,
    old: Tensor | None,
    noise: Callable[[], Tensor],
) -> tuple[Tensor, Tensor]:
    """(x', D_u): the solvers as the repository and the paper's appendix write them, x / alpha and all.

    `d` gives (D_lambda, D_u) at x and sigma.
    """
    now, then = sigmas[i], sigmas[i + 1]
    guided, plain = d(x, now)
    up = then * (1 - then**2 / now**2) ** 0.5 if sampler.endswith("_a") else 0.0
    down = (then**2 - up**2) ** 0.5
    if down == 0 or sampler in ("euler", "euler_a"):
        x = guided + (x - plain) / now * down
    elif sampler == "heun":
        slope = (x - plain) / now
        guided_2, plain_2 = d(x + (then - now) * slope, then)
        x = x + (then - now) * (slope + (x + (then - now) * slope - plain_2) / then) / 2 + guided_2 - plain_2
    elif sampler == "dpmpp_2s_a":
        h, middle = math.log(now / down), (now * down) ** 0.5
        guided_2, plain_2 = d(middle / now * x - math.expm1(-h / 2) * plain, middle)
        x = down / now * x + guided_2 - math.exp(-h) * plain_2
    elif old is None:
        x = guided + (x - plain) / now * then
    else:
        h = math.log(now / then)
        r = math.log(sigmas[i - 1] / now) / h
        bend = -math.expm1(-h) * (plain - old) / (2 * r)
        x = guided - math.exp(-h) * plain + bend + math.exp(-h) * x
    return x + (up * noise() if up else 0.0), plain


def official_run(sampler: str, scale: float, sigmas: list[float], noise: Noise) -> Tensor:
    """All steps of `official_step` on the toy."""

    def d(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        level = Level(1.0, sigma, sigma)
        pos, neg = (analytic.denoised(x, level, cond) for cond in (CONDITIONS.positive, NEGATIVE))
        return neg + scale * (pos - neg), neg

    x, old = noise.draw() * sigmas[0], None
    for i in range(len(sigmas) - 1):
        x, old = official_step(sampler, d, x, sigmas, i, old, noise.draw)
    return x


@pytest.mark.parametrize("sampler", ["euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2s_a"])
@pytest.mark.parametrize("scale", [0.6, 1.0])
def test_every_solver_runs_on_the_unconditional_estimate(sampler: str, scale: float) -> None:
    """The product's loop and tables against the solvers' own formulas: one rule makes all of them CFG++."""
    levels = ve_levels(12, high=14.6, low=0.03)
    sigmas = [level.sigma for level in levels]
    spans = tuple(pairwise(levels))
    table = importlib.import_module(f"samplers.steps.{sampler}").table
    plan = Plan(tuple(table(Schedule(spans, sigmas[0], lambda s: Level(1.0, s, s)))), sigmas[0])
    answerer = Answerer()
    final = answerer.finish(
        run_plan(plan, CFGPP(scale=scale), CONDITIONS, Noise(3, (4, 4, 4), dtype=torch.float64))
    )
    x = official_run(sampler, scale, sigmas, Noise(3, (4, 4, 4), dtype=torch.float64))
    assert torch.allclose(final.latents, x, atol=1e-11, rtol=0)
    assert answerer.evaluations == 2 * len(plan.rows) == CFGPP().nfe(plan.steps)


def inverted(guidance: CFG | CFGPP) -> list[Tensor]:
    """The latents of an inversion in 10 steps, as the repository does it: from the level below, at time t.

    Going up, the roles are swapped: the unconditional estimate is kept and the guided one gives the noise.
    """
    key, answerer, x, states = "ddim_inversion_cfg++|0.6", table(), Z["src_z0"], []
    for time in Z[f"{key}|model_t"][:10].tolist():
        before = time - Z[f"{key}|skip"].item()
        bar = BARS[before].item() if before >= 0 else Z["alphas_cumprod"][0].item()
        step = Step(0, 10, vp(bar, time), vp(BARS[time].item(), time))
        up = answerer.finish(guidance.guide(x, step, CONDITIONS, None))
        kept = up.denoised if up.renoise is None else up.renoise
        x = analytic.first_order(x, step, Prediction(denoised=kept, renoise=up.denoised))
        states.append(x)
    return states


def test_inversion_follows_the_official_one() -> None:
    key = "ddim_inversion_cfg++|0.6"
    states = inverted(CFGPP(scale=0.6))
    assert torch.allclose(states[-1], Z[f"{key}|init"], atol=1e-9, rtol=0)
    back, answerer = states[-1], table()
    for step in steps_of(ddim_levels(key)):
        prediction = answerer.finish(CFGPP(scale=0.6).guide(back, step, CONDITIONS, None))
        back = analytic.first_order(back, step, prediction)
        assert torch.allclose(back, Z[f"{key}|zt"][step.index], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("guidance", "expected"), [(CFG(scale=1), 0.162), (CFG(scale=7.5), 0.894), (CFGPP(scale=0.6), 0.304)]
)
def test_the_round_trip_loses_less_than_with_cfg(guidance: CFG | CFGPP, expected: float) -> None:
    """Root mean square distance to the source after inverting and sampling in 10 steps each."""
    x, answerer = inverted(guidance)[-1], table()
    for step in steps_of(ddim_levels("ddim_inversion_cfg++|0.6")):
        prediction = answerer.finish(guidance.guide(x, step, CONDITIONS, None))
        x = analytic.first_order(x, step, prediction)
    error = (prediction.denoised - Z["src_z0"]).square().mean().sqrt().item()
    assert error == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("family", ["vp", "flow", "ve"])
def test_lambda_zero_is_the_unconditional_sampler(family: str) -> None:
    levels = analytic.FAMILIES[family]()
    unconditional = analytic.Conditions(NEGATIVE, NEGATIVE)
    guided = run(CFGPP(scale=0), start(levels), levels).x
    assert torch.allclose(guided, run(NoGuidance(), start(levels), levels, unconditional).x, atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, 0.6, 1.0, 2.0])
def test_equal_conditions_give_the_base_solver(scale: float) -> None:
    levels = vp_levels()
    guided = run(CFGPP(scale=scale), start(levels), levels, SAME).x
    assert torch.allclose(guided, run(NoGuidance(), start(levels), levels).x, atol=1e-12)


@pytest.mark.parametrize("sampler", [name for name, card in CARDS.items() if "vp" in card.families])
def test_with_every_sampler_it_is_the_solver_of_the_unconditional_estimate_and_a_shift(sampler: str) -> None:
    """At lambda 0 that solver; where both predictions agree, the plain one; NFE two of each."""
    toy = Toy(dtype="float64")
    plan = compile_plan(sampler, 4, "vp", toy.scheduler_config)

    def final(guidance: CFG | CFGPP | NoGuidance, cond: analytic.Conditions) -> tuple[Tensor, int]:
        noise = Noise(7, (3, 4, 4), dtype=torch.float64)
        (done,), (nfe,) = drive(toy, [run_plan(plan, guidance, cond, noise)])
        return done.latents, nfe.model

    plain, once = final(NoGuidance(), analytic.Conditions(NEGATIVE, NEGATIVE))
    off, twice = final(CFGPP(scale=0), CONDITIONS)
    assert torch.allclose(off, plain, atol=1e-11, rtol=0)
    assert twice == 2 * once
    same = final(CFGPP(scale=0.6), analytic.Conditions(NEGATIVE, NEGATIVE))[0]
    assert torch.allclose(same, plain, atol=1e-11, rtol=0)
    assert not torch.allclose(final(CFGPP(scale=0.6), CONDITIONS)[0], plain, atol=1e-2)


@pytest.mark.parametrize("family", ["vp", "flow", "ve"])
def test_a_first_order_step_equals_cfg_at_the_equivalent_scale(family: str) -> None:
    levels = analytic.FAMILIES[family]()
    x = start(levels)
    for step in steps_of(levels):
        omega = equivalent_cfg_scale(0.6, step)
        plus = Answerer().finish(CFGPP(scale=0.6).guide(x, step, CONDITIONS, None))
        if step.now.alpha:
            cfg = Answerer().finish(CFG(scale=omega).guide(x, step, CONDITIONS, None))
            expected = analytic.first_order(x, step, cfg)
            assert torch.allclose(
                analytic.first_order(x, step, plus), expected, atol=1e-12 * max(1, step.now.sigma)
            )
        x = analytic.first_order(x, step, plus)
    assert equivalent_cfg_scale(0.6, steps_of(levels)[-1]) == pytest.approx(0.6)


def test_vp_equals_ve_on_scaled_latents() -> None:
    vps = vp_levels()
    ves = [Level(1.0, level.sigma_ve, level.timestep) for level in vps]
    x = start(vps)
    on_vp = run(CFGPP(), x, vps).x
    on_ve = run(CFGPP(), x / vps[0].alpha, ves).x
    assert torch.allclose(on_vp, on_ve, atol=1e-10)


def test_lambda_one_ends_on_the_conditional_estimate() -> None:
    x, step = start(vp_levels()) * 0.3, steps_of(vp_levels())[-1]
    prediction = Answerer().finish(CFGPP(scale=1).guide(x, step, CONDITIONS, None))
    expected = analytic.denoised(x, step.now, analytic.POSITIVE)
    assert torch.allclose(analytic.first_order(x, step, prediction), expected, atol=1e-12)


def test_flow_takes_the_bridge_form() -> None:
    """x_s = (1 - s) D_lambda + s n_u with n_u = (x_t - (1 - t) D_u) / t."""
    step = steps_of(flow_levels(28))[5]
    t, s = step.now.sigma, step.next.sigma
    assert equivalent_cfg_scale(0.4, step) == pytest.approx(0.4 * (1 - s) * t / (t - s))
    x = start(flow_levels())
    prediction = Answerer().finish(CFGPP(scale=0.4).guide(x, step, CONDITIONS, None))
    n_u = (x - (1 - t) * analytic.denoised(x, step.now, NEGATIVE)) / t
    expected = (1 - s) * prediction.denoised + s * n_u
    assert torch.allclose(analytic.first_order(x, step, prediction), expected, atol=1e-12)


def test_lambda_follows_from_a_cfg_scale_and_the_schedule() -> None:
    """The mean of w / lambda over DDIM steps with leading spacing, as tabled for SD's schedule."""
    for count, mean in ((10, 2.88), (20, 5.21), (50, 12.18), (100, 23.80)):
        times = [i * (1000 // count) + 1 for i in reversed(range(count))]
        levels = [vp(BARS[t].item(), t) for t in times] + [vp(BARS[1].item(), 0)]
        lam = CFGPP.matching(1.0, steps_of(levels)).scale
        assert 1 / lam == pytest.approx(mean, rel=0.01)
    levels = ve_levels(20)
    assert CFGPP.matching(5.0, steps_of(levels)).scale == pytest.approx(
        5 * CFGPP.matching(1.0, steps_of(levels)).scale
    )


def test_a_cfg_scale_becomes_lambda_when_the_steps_are_known() -> None:
    levels = vp_levels(20)
    asked = CFGPP(cfg_scale=7.5)
    planned = asked.planned(steps_of(levels))
    assert planned.scale == CFGPP.matching(7.5, steps_of(levels)).scale != 0.6
    assert planned.cfg_scale is None
    assert planned.planned(steps_of(vp_levels(5))) == planned
    assert CFGPP(scale=0.3).planned(steps_of(levels)) == CFGPP(scale=0.3)
    spans = tuple(pairwise(levels))
    plan = Plan(tuple(ddim.table(Schedule(spans, 1.0, lambda s: Level(1.0, s, s)))), 1.0)

    def sampled(guidance: CFGPP) -> Tensor:
        noise = Noise(3, (4, 4, 4), dtype=torch.float64)
        return Answerer().finish(run_plan(plan, guidance, CONDITIONS, noise)).latents

    assert torch.equal(sampled(asked), sampled(planned))
    with pytest.raises(ValidationError, match="not both"):
        CFGPP(cfg_scale=7.5, scale=0.4)
    with pytest.raises(ValueError, match="lower the noise"):
        CFGPP.matching(7.5, steps_of(levels[::-1]))


def test_both_conditions_are_always_asked_for() -> None:
    levels = vp_levels()
    for scale in (0.0, 1.0):
        ran = run(CFGPP(scale=scale), start(levels), levels)
        assert ran.answerer.evaluations == 2 * 8 * 3
        assert all(prediction.renoise is not None for prediction in ran.predictions)


def test_a_negative_lambda_is_refused() -> None:
    with pytest.raises(ValidationError, match="scale"):
        CFGPP(scale=-0.1)
