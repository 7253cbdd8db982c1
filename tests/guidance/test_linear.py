from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from guidance.cfg import CFG
from guidance.linear import LinearAG, fit
from samplers.cards import CARDS, problems
from tests.analytic import CONDITIONS, NEGATIVE, POSITIVE, Answerer, denoised, run, start, steps_of, vp_levels

LEVELS = vp_levels(20)


def trajectories(x: Tensor) -> tuple[Tensor, Tensor]:
    """Both noise predictions along CFG's own trajectories."""
    ran = run(CFG(scale=7.5), x, LEVELS)
    out = []
    for cond in (POSITIVE, NEGATIVE):
        eps = [
            (state - step.now.alpha * denoised(state, step.now, cond)) / step.now.sigma
            for state, step in zip(ran.states, steps_of(LEVELS), strict=False)
        ]
        out.append(torch.stack(eps))
    return out[0], out[1]


COEFFICIENTS = fit(*trajectories(start(LEVELS, 40, seed=5)))


def test_finds_the_coefficients_of_a_linear_relation() -> None:
    pos = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    neg = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    neg[1] = 0.3 * pos[0] - 0.2 * pos[1] + 0.9 * neg[0]
    empty, row = fit(pos, neg)
    assert empty == ()
    assert row == pytest.approx((0.3, -0.2, 0.9), abs=1e-12)


def test_predicts_the_unconditional_noise_of_new_trajectories() -> None:
    """Far better than taking the conditional one for it."""
    pos, neg = trajectories(start(LEVELS, 20, seed=9))
    for k in range(1, 10, 2):
        terms = torch.cat([pos[: k + 1], neg[:k]])
        weights = torch.tensor(COEFFICIENTS[k], dtype=torch.float64).view(-1, 1, 1, 1, 1)
        error = (neg[k] - (weights * terms).sum(0)).square().mean()
        assert error < 0.05 * (neg[k] - pos[k]).square().mean()


def test_costs_25_evaluations_in_20_steps() -> None:
    guidance = LinearAG(scale=7.5, coefficients=COEFFICIENTS)
    ran = run(guidance, start(LEVELS), LEVELS)
    assert guidance.nfe(steps_of(LEVELS)) == 25
    assert ran.answerer.evaluations == 25 * 3
    asked = [len(ask.conds) for ask in ran.answerer.asks]  # pyright: ignore[reportAttributeAccessIssue]
    assert asked == [2, 1] * 5 + [1] * 10


def test_stays_close_to_cfg_while_it_guides() -> None:
    x = start(LEVELS, 8, seed=3)
    linear = run(LinearAG(scale=7.5, coefficients=COEFFICIENTS), x, LEVELS).states[10]
    cfg = run(CFG(scale=7.5), x, LEVELS).states[10]
    unguided = run(CFG(scale=1), x, LEVELS).states[10]
    assert (linear - cfg).square().mean() < 0.1 * (unguided - cfg).square().mean()


def test_the_first_step_is_cfg_bit_for_bit() -> None:
    x, step = start(LEVELS), steps_of(LEVELS)[0]
    linear, cfg = LinearAG(scale=7.5, coefficients=COEFFICIENTS), CFG(scale=7.5)
    one = Answerer().finish(linear.guide(x, step, CONDITIONS, linear.start())).denoised
    assert torch.equal(one, Answerer().finish(cfg.guide(x, step, CONDITIONS, None)).denoised)


def test_coefficients_hold_for_their_step_count_only() -> None:
    with pytest.raises(ValueError, match="20 steps, not 8"):
        run(LinearAG(coefficients=COEFFICIENTS), start(vp_levels(8)), vp_levels(8))
    with pytest.raises(ValidationError, match=r"coefficients\[1\] must have 3 numbers"):
        LinearAG(coefficients=((), (1.0,)))


def test_a_sampler_that_looks_back_is_refused() -> None:
    assert problems(LinearAG(), CARDS["heun"], "vp", set())
    assert not problems(LinearAG(), CARDS["ddim"], "vp", set())
