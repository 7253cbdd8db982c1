from __future__ import annotations

import pytest
import torch

from guidance.adaptive import Adaptive
from guidance.cfg import CFG
from guidance.none import NoGuidance
from samplers.models.toy import Toy
from tests import analytic
from tests.analytic import CONDITIONS, FAMILIES, SAME, Answerer, Ran, run, start, steps_of, vp_levels
from tests.golden.arrays import load

Z = load("adaptive_guidance")
BARS = load("cfgpp_sd15")["alphas_cumprod"]


def golden_levels() -> list[analytic.Level]:
    """20 DDIM steps of the SD schedule; the sampler reads abar[t - 1], the network abar[t]."""
    times = list(range(951, 0, -50))
    bars = [BARS[t - 1].item() for t in times] + [BARS[0].item()]
    return [
        analytic.Level(bar**0.5, (1 - bar) ** 0.5, float(t)) for bar, t in zip(bars, [*times, 0], strict=True)
    ]


def golden_run(guidance: Adaptive | CFG) -> Ran:
    levels = golden_levels()
    model = Toy(dtype="float64", alphas_cumprod=BARS)
    answerer, state, x, predictions, states = Answerer(model), guidance.start(), Z["init"], [], []
    for step in steps_of(levels):
        prediction = answerer.finish(guidance.guide(x, step, CONDITIONS, state))
        x = analytic.first_order(x, step, prediction)
        predictions.append(prediction)
        states.append(x)
    return Ran(x, predictions, answerer, states)


@pytest.mark.parametrize("space", ["eps", "denoised"])
def test_the_cosine_is_the_papers(space: str) -> None:
    ran = golden_run(Adaptive(scale=7.5, threshold=2, space=space))  # pyright: ignore[reportArgumentType]
    cosines = torch.stack([prediction.trace["cosine"] for prediction in ran.predictions])
    expected = Z["cfg|gamma_eps" if space == "eps" else "cfg|gamma_x0"]
    assert torch.allclose(cosines, expected, atol=1e-9, rtol=0)
    assert torch.allclose(torch.stack(ran.states), Z["cfg|xt"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("threshold", ["0.991", "0.999"])
def test_stops_each_image_where_the_formula_does(threshold: str) -> None:
    key = f"ag_eps_{threshold}"
    ran = golden_run(Adaptive(scale=7.5, threshold=float(threshold), space="eps"))
    assert torch.allclose(ran.predictions[-1].denoised, Z[f"{key}|x0_final"], atol=1e-9, rtol=0)
    assert ran.answerer.evaluations == Z[f"{key}|nfe"].sum().item()
    guided = torch.stack([prediction.trace["guided"] for prediction in ran.predictions]).sum(0)
    first = Z[f"{key}|first_step_over_threshold"]
    assert guided.tolist() == torch.where(first < 0, 20, first + 1).tolist()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_threshold_above_one_is_cfg_bit_for_bit(family: str) -> None:
    levels = FAMILIES[family]()
    adaptive, cfg = (
        run(Adaptive(threshold=1.1), start(levels), levels),
        run(CFG(scale=7.5), start(levels), levels),
    )
    assert torch.equal(adaptive.x, cfg.x)
    assert adaptive.answerer.evaluations == 2 * 8 * 3


def test_the_lowest_threshold_guides_the_first_step_only() -> None:
    levels = vp_levels()
    ran = run(Adaptive(threshold=-1), start(levels), levels)
    assert ran.answerer.evaluations == (8 + 1) * 3


def test_equal_conditions_stop_at_once() -> None:
    levels = vp_levels()
    ran = run(Adaptive(), start(levels), levels, SAME)
    assert ran.answerer.evaluations == (8 + 1) * 3
    assert torch.allclose(ran.x, run(NoGuidance(), start(levels), levels).x, atol=1e-12)


def test_a_minimum_share_is_guided_in_any_case() -> None:
    levels = vp_levels()
    ran = run(Adaptive(threshold=-1, minimum_share=0.5), start(levels), levels)
    assert [p.trace["guided"].mean().item() for p in ran.predictions] == [1] * 4 + [0] * 4
    assert (
        run(Adaptive(threshold=-1, minimum_share=1), start(levels), levels).answerer.evaluations == 2 * 8 * 3
    )


def test_the_cost_rises_with_the_threshold() -> None:
    levels = vp_levels(20)
    costs = [
        run(Adaptive(threshold=t), start(levels, 6), levels).answerer.evaluations
        for t in (-1, 0.5, 0.9, 0.99, 0.999, 1.1)
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[3] < costs[-1]


def test_the_latch_never_opens_again() -> None:
    ran = run(Adaptive(threshold=0.9), start(vp_levels(20), 6), vp_levels(20))
    guided = torch.stack([prediction.trace["guided"] for prediction in ran.predictions])
    assert (guided[1:] <= guided[:-1]).all()
    assert 0 < guided.mean() < 1


def test_only_images_still_guided_ask_for_the_negative_condition() -> None:
    """Where images differ, the mixed batch costs what its images cost alone."""
    levels = vp_levels(20)
    x = start(levels, 6, shape=(4, 1, 1))  # few elements, so that the cosines differ
    together = run(Adaptive(threshold=0.97), x, levels)
    alone = [run(Adaptive(threshold=0.97), x[k : k + 1], levels) for k in range(6)]
    costs = [ran.answerer.evaluations for ran in alone]
    assert len(set(costs)) > 1
    assert together.answerer.evaluations == sum(costs)
    assert torch.allclose(together.x, torch.cat([ran.x for ran in alone]), atol=1e-12)


def test_until_it_stops_it_is_cfg_bit_for_bit() -> None:
    levels = vp_levels(20)
    x = start(levels, 1)
    adaptive, cfg = run(Adaptive(threshold=0.97), x, levels), run(CFG(scale=7.5), x, levels)
    stop = [p.trace["guided"].item() for p in adaptive.predictions].index(0)
    assert 1 < stop < 20
    for k in range(stop + 1):
        assert torch.equal(adaptive.states[k], cfg.states[k])
    assert not torch.equal(adaptive.states[stop + 1], cfg.states[stop + 1])
