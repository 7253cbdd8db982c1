from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from guidance.adaptive import Adaptive
from guidance.cfg import CFG
from guidance.linear import fit, solve
from samplers.cards import CARDS, problems, start_problems
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
LINEAR = Adaptive(variant="linear", scale=7.5, coefficients=COEFFICIENTS)


RELATION = (0.3, -0.2, 0.9)


def fit_of_a_relation() -> tuple[float, ...]:
    """What is found where `neg[1]` is made of the others with `RELATION`."""
    pos = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    neg = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    neg[1] = 0.3 * pos[0] - 0.2 * pos[1] + 0.9 * neg[0]
    empty, row = fit(pos, neg)
    assert empty == ()
    return row


def test_finds_the_coefficients_of_a_linear_relation() -> None:
    assert fit_of_a_relation() == pytest.approx(RELATION, abs=1e-12)


def test_the_floor_keeps_coefficients_small_and_costs_little() -> None:
    """Ordinary least squares on nearly collinear predictions: a hair nearer, with far larger numbers."""
    pos, neg = trajectories(start(LEVELS, 40, seed=5))
    known = torch.cat([pos[:10], neg[:9]])

    def left(row: tuple[float, ...]) -> float:
        estimate = torch.tensordot(torch.tensor(row, dtype=torch.float64), known, dims=1)
        return ((neg[9] - estimate).square().sum() / neg[9].square().sum()).item()

    ordinary, floored = solve(pos, neg, 9, floor=0), solve(pos, neg, 9)
    assert left(ordinary) <= left(floored) < 1e-4
    assert max(map(abs, floored)) < 0.1 * max(map(abs, ordinary))


def test_predicts_the_unconditional_noise_of_new_trajectories() -> None:
    """Far better than taking the conditional one for it."""
    pos, neg = trajectories(start(LEVELS, 20, seed=9))
    for k in range(1, 10, 2):
        terms = torch.cat([pos[: k + 1], neg[:k]])
        weights = torch.tensor(COEFFICIENTS[k], dtype=torch.float64).view(-1, 1, 1, 1, 1)
        error = (neg[k] - (weights * terms).sum(0)).square().mean()
        assert error < 0.05 * (neg[k] - pos[k]).square().mean()


def test_costs_25_evaluations_in_20_steps() -> None:
    guidance = LINEAR
    ran = run(guidance, start(LEVELS), LEVELS)
    assert guidance.nfe(steps_of(LEVELS)) == 25
    assert ran.answerer.evaluations == 25 * 3
    asked = [len(ask.conds) for ask in ran.answerer.asks]  # pyright: ignore[reportAttributeAccessIssue]
    assert asked == [2, 1] * 5 + [1] * 10


def test_stays_close_to_cfg_while_it_guides() -> None:
    x = start(LEVELS, 8, seed=3)
    linear = run(LINEAR, x, LEVELS).states[9]
    cfg = run(CFG(scale=7.5), x, LEVELS).states[9]
    unguided = run(CFG(scale=1), x, LEVELS).states[9]
    assert (linear - cfg).square().mean() < 0.01 * (unguided - cfg).square().mean()


def test_the_first_step_is_cfg_bit_for_bit() -> None:
    x, step = start(LEVELS), steps_of(LEVELS)[0]
    linear, cfg = LINEAR, CFG(scale=7.5)
    one = Answerer().finish(linear.guide(x, step, CONDITIONS, linear.start())).denoised
    assert torch.equal(one, Answerer().finish(cfg.guide(x, step, CONDITIONS, None)).denoised)


def test_coefficients_hold_for_their_step_count_only() -> None:
    with pytest.raises(ValueError, match="10 guided steps, and 8 steps have 4"):
        LINEAR.planned(steps_of(vp_levels(8)))
    with pytest.raises(ValueError, match="fit-linear-ag"):
        Adaptive(variant="linear").planned(steps_of(LEVELS))
    assert LINEAR.planned(steps_of(LEVELS)) is LINEAR
    with pytest.raises(ValidationError, match=r"coefficients\[1\] must have 3 numbers"):
        Adaptive(variant="linear", coefficients=((), (1.0,)))


def test_what_belongs_to_the_other_variant_is_refused_and_json_is_not() -> None:
    with pytest.raises(ValidationError, match="leave out threshold"):
        Adaptive(variant="linear", threshold=0.9)
    with pytest.raises(ValidationError, match="add variant 'linear'"):
        Adaptive(coefficients=COEFFICIENTS)
    assert Adaptive.model_validate_json(LINEAR.model_dump_json()) == LINEAR


def test_traces_say_how_long_it_guides_and_how_alike_the_predictions_are() -> None:
    ran = run(LINEAR, start(LEVELS), LEVELS)
    assert [prediction.trace["guided"] for prediction in ran.predictions] == [1.0] * 10 + [0.0] * 10
    cosines = torch.stack([prediction.trace["cosine"] for prediction in ran.predictions[:10]])
    assert (cosines.abs() <= 1).all()
    assert (cosines[9] > cosines[0]).all()


def test_a_sampler_that_looks_back_is_refused() -> None:
    assert problems(LINEAR, CARDS["heun"], "vp", set())
    assert not problems(LINEAR, CARDS["ddim"], "vp", set())
    assert start_problems(LINEAR)
    assert not start_problems(Adaptive())
