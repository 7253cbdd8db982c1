from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from guidance.cfg import CFG, clip_dynamically, spread_like
from guidance.none import NoGuidance
from samplers.cards import CARDS, problems
from tests import analytic
from tests.analytic import CONDITIONS, Answerer, flow_levels, run, start, steps_of, ve_levels, vp_levels
from tests.golden.arrays import load


def fixed(guidance: CFG, pos: torch.Tensor, neg: torch.Tensor) -> torch.Tensor:
    """The guided estimate for given predictions."""
    step = steps_of(vp_levels())[0]
    guide = guidance.guide(pos, step, CONDITIONS, guidance.start())
    ask = next(guide)
    with pytest.raises(StopIteration) as stop:
        guide.send([pos, neg] if len(ask.conds) == 2 else [pos])
    return stop.value.value.denoised


def test_equals_the_formula() -> None:
    z = load("baselines_wembed")
    guided = fixed(CFG(scale=7.5), z["pred_cond"], z["pred_uncond"])
    assert torch.allclose(guided, z["cfg_w7.5"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("phi", ["0.7", "1.0"])
def test_rescale_equals_diffusers(phi: str) -> None:
    z = load("baselines_wembed")
    guided = fixed(CFG(scale=7.5, rescale=float(phi)), z["pred_cond"], z["pred_uncond"])
    assert torch.allclose(guided, z[f"rescale_phi{phi}"], atol=1e-12, rtol=0)


def test_full_rescale_keeps_the_spread_per_image() -> None:
    pos, guided = torch.randn(3, 4, 5, 5).double(), 3 * torch.randn(3, 4, 5, 5).double()
    spread = spread_like(guided, pos).flatten(1).std(dim=1)
    assert torch.allclose(spread, pos.flatten(1).std(dim=1), atol=1e-12)
    assert torch.equal(spread_like(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("ceiling", ["1.0", "1.5", "100.0"])
def test_dynamic_thresholding_equals_diffusers(ceiling: str) -> None:
    z = load("baselines_wembed")
    clipped = clip_dynamically(z["dynthresh|in"], 0.995, float(ceiling))
    assert torch.allclose(clipped, z[f"dynthresh|max{ceiling}"], atol=1e-6, rtol=0)


def test_dynamic_thresholding_wants_pixels() -> None:
    assert CFG(threshold_percentile=0.995).requires().pixels
    assert not CFG().requires().pixels
    (refused,) = problems(CFG(threshold_percentile=0.995), CARDS["ddim"], "vp", {"grad"})
    assert "pixels" in refused
    x = start(vp_levels())
    step = steps_of(vp_levels())[-1]
    plain = Answerer().finish(CFG(scale=30).guide(x, step, CONDITIONS, None)).denoised
    clipped = Answerer().finish(
        CFG(scale=30, threshold_percentile=0.9, threshold_max=100).guide(x, step, CONDITIONS, None)
    )
    assert clipped.denoised.abs().max() <= 1 < plain.abs().max()


def test_scale_one_is_conditional_only_and_costs_one() -> None:
    levels = vp_levels()
    one, none = run(CFG(scale=1), start(levels), levels), run(NoGuidance(), start(levels), levels)
    assert torch.equal(one.x, none.x)
    assert one.answerer.evaluations == none.answerer.evaluations == 8 * 3
    assert not CFG(scale=1).requires().negative


def test_scale_zero_is_unconditional() -> None:
    x, step = start(vp_levels()), steps_of(vp_levels())[2]
    guided = Answerer().finish(CFG(scale=0).guide(x, step, CONDITIONS, None)).denoised
    assert torch.allclose(guided, analytic.denoised(x, step.now, analytic.NEGATIVE), atol=1e-14)


def test_interval_in_sigma_is_open_below_and_closed_above() -> None:
    """The paper's (0.19, 1.61] on its 32-step grid are the steps 17 to 22 of the official code."""
    sigmas = load("baselines_wembed")["edm32_sigmas"].tolist()
    steps = steps_of(ve_levels(32))
    assert [step.now.sigma for step in steps] == pytest.approx(sigmas)
    guidance = CFG(sigma_low=sigmas[23], sigma_high=sigmas[17])
    assert [step.index for step in steps if guidance.active(step)] == [17, 18, 19, 20, 21, 22]
    assert guidance.nfe(steps) == 32 + 6


def test_both_evaluations_of_a_step_share_its_decision() -> None:
    from dataclasses import replace

    steps = steps_of(ve_levels(32))
    guidance = CFG(sigma_low=0.19, sigma_high=1.61)
    first, after = steps[22], steps[23]
    assert guidance.active(first)
    assert not guidance.active(after)
    assert guidance.active(replace(first, now=after.now, began=first.now))


def test_interval_in_steps_counts_as_diffusers_does() -> None:
    steps = steps_of(vp_levels(10))
    guidance = CFG(guide_from=0.3, guide_to=0.7)
    assert [step.index for step in steps if guidance.active(step)] == [3, 4, 5, 6]


def test_outside_the_interval_the_conditional_stands_alone() -> None:
    levels = flow_levels()
    nowhere = run(CFG(guide_from=0.5, guide_to=0.5), start(levels), levels)
    assert torch.equal(nowhere.x, run(NoGuidance(), start(levels), levels).x)
    everywhere = run(CFG(sigma_high=1e9, guide_from=0), start(levels), flow_levels())
    assert everywhere.answerer.evaluations == 3 * (8 + 7)  # t = 1 lies at infinite sigma, above any limit


@pytest.mark.parametrize(
    "wrong",
    [{"guide_from": 0.6, "guide_to": 0.5}, {"sigma_low": 2, "sigma_high": 1}, {"scale": -1}, {"rescale": 2}],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="|".join(wrong)):
        CFG(**wrong)  # pyright: ignore[reportArgumentType]
