from __future__ import annotations

import pytest
import torch

from guidance.asks import Level, Step
from guidance.none import NoGuidance
from guidance.zerostar import ZeroStar
from tests import analytic
from tests.analytic import CONDITIONS, Answerer, flow_levels, run, start, steps_of, vp_levels
from tests.golden.arrays import load

Z = load("baselines_wembed")
STEP = Step(1, 3, Level(0.4, 0.6, 600), Level(0.2, 0.8, 800))


def velocity(guidance: ZeroStar, pos: torch.Tensor, neg: torch.Tensor, step: Step = STEP):
    """The guided velocity, and s*, for given velocities at t = 0.6."""
    x, t = torch.randn(pos.shape, dtype=pos.dtype), step.now.sigma
    guide = guidance.guide(x, step, CONDITIONS, None)
    try:
        next(guide)
        guide.send([x - t * pos, x - t * neg])
    except StopIteration as stop:
        return (x - stop.value.denoised) / t, stop.value.trace["s_star"]
    raise AssertionError("it asked again")


def test_the_fitted_scale_is_the_official_one() -> None:
    _, s_star = velocity(ZeroStar(scale=7.5), Z["pred_cond"], Z["pred_uncond"])
    assert torch.allclose(s_star, Z["zerostar|s_star_official"].flatten(), atol=1e-9, rtol=0)
    assert torch.allclose(s_star, Z["zerostar|s_star_diffusers"].flatten(), atol=1e-6, rtol=0)


def test_the_velocity_is_that_of_diffusers() -> None:
    v, _ = velocity(ZeroStar(scale=7.5), Z["pred_cond"], Z["pred_uncond"])
    assert torch.allclose(v, Z["zerostar|pred_w7.5"], atol=1e-5, rtol=0)  # theirs fits in float32


def test_the_first_step_stands_still() -> None:
    predictions = load("apg")
    for index, expected in enumerate(Z["zerostar|guider_3steps"]):
        step = Step(index, 3, STEP.now, STEP.next)
        pos, neg = predictions["pred_cond"][index], predictions["pred_uncond"][index]
        v, _ = velocity(ZeroStar(scale=7.5), pos, neg, step)
        assert torch.allclose(v, expected, atol=1e-5, rtol=0)
        assert (v.abs().max() == 0) == (index == 0)


def test_a_zeroed_step_costs_nothing_and_moves_no_flow_sample() -> None:
    levels = flow_levels()
    ran = run(ZeroStar(zero_steps=2), start(levels), levels)
    assert torch.allclose(ran.states[2], ran.states[0], atol=1e-14)
    assert ran.answerer.evaluations == 2 * 6 * 3
    assert ZeroStar(zero_steps=2).nfe(steps_of(levels)) == 2 * 6


def test_parallel_velocities_give_the_conditional_one() -> None:
    pos = torch.randn(2, 4, 3, 3).double()
    v, s_star = velocity(ZeroStar(scale=9), pos, -0.4 * pos)
    assert torch.allclose(v, pos, atol=1e-6)
    assert s_star.tolist() == pytest.approx([-2.5, -2.5], rel=1e-6)


def test_scale_one_is_conditional_only_after_the_zeroed_steps() -> None:
    levels = flow_levels()
    ran = run(ZeroStar(scale=1, zero_steps=0), start(levels), levels)
    assert torch.equal(ran.x, run(NoGuidance(), start(levels), levels).x)
    assert ran.answerer.evaluations == 8 * 3


def test_other_models_are_guided_in_flow_coordinates() -> None:
    """The same mixture as a flow model and as a VP model at the same noise level gives the same guidance."""
    vp = vp_levels()[3]
    width = vp.alpha + vp.sigma
    flow = Level(vp.alpha / width, vp.sigma / width, vp.timestep)
    x = start([flow])
    on_flow = Answerer().finish(ZeroStar().guide(x, Step(1, 2, flow, flow), CONDITIONS, None))
    on_vp = Answerer().finish(ZeroStar().guide(x * width, Step(1, 2, vp, vp), CONDITIONS, None))
    assert torch.allclose(on_flow.denoised, on_vp.denoised, atol=1e-10)
    assert (on_vp.denoised - analytic.denoised(x * width, vp, analytic.POSITIVE)).abs().max() > 1e-3
