from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from guidance.apg import APG, Momentum
from guidance.asks import Conditions
from guidance.cfg import CFG
from tests import analytic
from tests.analytic import CONDITIONS, FAMILIES, Answerer, run, start, steps_of, vp_levels
from tests.golden.arrays import load

Z = load("apg")
NEUTRAL = {"eta": 1.0, "momentum": 0.0, "norm_threshold": 0.0}


def fixed(guidance: APG, pos: torch.Tensor, neg: torch.Tensor, state: Momentum | None = None) -> torch.Tensor:
    guide = guidance.guide(pos, steps_of(vp_levels())[0], CONDITIONS, state or guidance.start())
    ask = next(guide)
    with pytest.raises(StopIteration) as stop:
        guide.send([pos, neg] if len(ask.conds) == 2 else [pos])
    return stop.value.value.denoised


def configured(name: str) -> APG:
    scale, eta, threshold, momentum = Z[f"{name}|params_w_eta_r_beta"].tolist()
    return APG(
        scale=scale,
        eta=eta,
        norm_threshold=threshold,
        momentum=0.0 if math.isnan(momentum) else momentum,
    )


@pytest.mark.parametrize("name", ["cfg_neutral", "proj_only", "sdxl"])
def test_equals_the_papers_listing(name: str) -> None:
    guidance = configured(name)
    state = guidance.start()
    for k, (pos, neg) in enumerate(zip(Z["pred_cond"], Z["pred_uncond"], strict=True)):
        guided = fixed(guidance, pos, neg, state)
        assert torch.allclose(guided, Z[f"{name}|paper"][k], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["cfg_neutral", "proj_only", "sdxl"])
def test_differs_from_the_diffusers_default_by_the_parallel_part_only(name: str) -> None:
    """diffusers adds `scale * update` to neg, the paper `(scale - 1) * update` to pos."""
    guidance = configured(name)
    state = guidance.start()
    for k, (pos, neg) in enumerate(zip(Z["pred_cond"], Z["pred_uncond"], strict=True)):
        update = (fixed(guidance, pos, neg, state) - pos) / (guidance.scale - 1)
        theirs = neg + guidance.scale * update
        assert torch.allclose(theirs, Z[f"{name}|diffusers_default"][k], atol=1e-12, rtol=0)


def neutral_trajectory() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The guided estimate and the next latent of each of 10 DDIM steps."""
    bars = load("cfgpp_sd15")["alphas_cumprod"]
    guidance = APG(scale=7.5, **NEUTRAL)
    x = Z["traj_x0_neutral|init"]
    state = guidance.start()
    # The network reads abar[t], the sampler steps with abar[t-1].
    times = list(range(901, 0, -100))
    for t in times:
        before = max(t - 1 - 100, 0)
        now, after = bars[t - 1].item(), bars[before].item()
        predictions = []
        for cond in (analytic.POSITIVE, analytic.NEGATIVE):
            network = analytic.Level(bars[t].item() ** 0.5, (1 - bars[t].item()) ** 0.5, t)
            eps = (x - network.alpha * analytic.denoised(x, network, cond)) / network.sigma
            predictions.append((x - (1 - now) ** 0.5 * eps) / now**0.5)
        guided = fixed(guidance, *predictions, state)
        x = after**0.5 * guided + (1 - after) ** 0.5 * (x - now**0.5 * guided) / (1 - now) ** 0.5
        yield guided, x


def test_follows_the_trajectory_on_the_estimate_of_x0() -> None:
    for k, (guided, x) in enumerate(neutral_trajectory()):
        assert torch.allclose(guided, Z["traj_x0_neutral|x0"][k], atol=1e-9, rtol=0)
        assert torch.allclose(x, Z["traj_x0_neutral|xt"][k], atol=1e-9, rtol=0)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_neutral_parameters_are_cfg(family: str) -> None:
    levels = FAMILIES[family]()
    apg, cfg = (run(g, start(levels), levels).x for g in (APG(scale=7.5, **NEUTRAL), CFG(scale=7.5)))
    assert torch.allclose(apg, cfg, atol=1e-12, rtol=1e-12)


def test_scale_one_is_conditional_only() -> None:
    levels = vp_levels()
    one = run(APG(scale=1), start(levels), levels)
    assert one.answerer.evaluations == 8 * 3
    assert torch.equal(one.x, run(CFG(scale=1), start(levels), levels).x)


def test_eta_zero_leaves_the_component_along_the_prediction_alone() -> None:
    pos, neg = Z["pred_cond"][0], Z["pred_uncond"][0]
    guided = fixed(APG(scale=8, eta=0, momentum=0, norm_threshold=0), pos, neg)
    along = ((guided - pos) * pos).flatten(1).sum(1)
    assert along.abs().max() < 1e-11
    assert (guided - pos).abs().max() > 0.1


def test_the_difference_is_capped() -> None:
    pos, neg = Z["pred_cond"][0], Z["pred_uncond"][0]
    guided = fixed(APG(scale=2, eta=1, momentum=0, norm_threshold=1.5), pos, neg)
    assert (guided - pos).flatten(1).norm(dim=1).tolist() == pytest.approx([1.5, 1.5])
    loose = fixed(APG(scale=2, eta=1, momentum=0, norm_threshold=1e6), pos, neg)
    assert torch.allclose(loose, fixed(APG(scale=2, **NEUTRAL), pos, neg), atol=1e-12)


def test_scaling_everything_scales_the_answer() -> None:
    pos, neg = Z["pred_cond"][0], Z["pred_uncond"][0]
    small = fixed(APG(scale=5, eta=0.3, norm_threshold=2), pos, neg)
    large = fixed(APG(scale=5, eta=0.3, norm_threshold=6), 3 * pos, 3 * neg)
    assert torch.allclose(large, 3 * small, atol=1e-11)


def test_momentum_is_a_running_sum() -> None:
    """A constant difference d settles at d / (1 - beta); the first evaluation is not touched."""
    pos, neg = Z["pred_cond"][0], Z["pred_uncond"][0]
    guidance = APG(scale=2, eta=1, momentum=-0.5, norm_threshold=0)
    state = guidance.start()
    first = fixed(guidance, pos, neg, state)
    assert torch.allclose(first, pos + (pos - neg), atol=1e-12)
    for _ in range(60):
        last = fixed(guidance, pos, neg, state)
    assert torch.allclose(last, pos + (pos - neg) / 1.5, atol=1e-12)


def test_momentum_rests_outside_the_interval() -> None:
    guidance = APG(guide_from=0.25, guide_to=0.75)
    levels = vp_levels()
    x, state = start(levels), guidance.start()
    for step in steps_of(levels):
        before = state.delta
        Answerer().finish(guidance.guide(x, step, CONDITIONS, state))
        assert (state.delta is before) == (not 2 <= step.index < 6)


def test_zeros_do_not_divide() -> None:
    zero, some = torch.zeros(2, 4, 6, 6).double(), Z["pred_uncond"][0]
    assert fixed(APG(), zero, some).isfinite().all()
    assert torch.equal(fixed(APG(), some, some), some)


def test_a_new_run_starts_without_momentum() -> None:
    guidance = APG()
    levels = vp_levels()
    assert torch.equal(run(guidance, start(levels), levels).x, run(guidance, start(levels), levels).x)
    assert guidance.start().delta is None


def test_video_latents_use_all_dimensions_but_the_batch() -> None:
    pos, neg = torch.randn(2, 3, 4, 4, 4).double(), torch.randn(2, 3, 4, 4, 4).double()
    guided = fixed(APG(scale=3, momentum=0, norm_threshold=0), pos, neg)
    assert ((guided - pos) * pos).flatten(1).sum(1).abs().max() < 1e-10


def test_conditions_are_asked_in_one_ask() -> None:
    step = steps_of(vp_levels())[0]
    ask = next(
        APG().guide(start(vp_levels()), step, Conditions(analytic.POSITIVE, analytic.NEGATIVE), Momentum())
    )
    assert [cond.key for cond in ask.conds] == ["high", ""]
