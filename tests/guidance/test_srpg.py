"""SRPG: the direction it gives, when it gives one, and what each loss adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance.asks import Denoise, Level, Prediction, Step
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.qr import scanning
from guidance.srpg import SRPG, gradient, look
from tests.analytic import CONDITIONS, DARK, SCAN, TOY, Answerer, start, steps_of, vp_levels

LEVELS = vp_levels()
STEP = steps_of(LEVELS)[3]


def guided(x: Tensor, step: Step = STEP, cond: Any = CONDITIONS, **changes: Any) -> Prediction:
    guidance = SRPG(**{"base": CFG(scale=2), "threshold": "half"} | changes)
    return Answerer().finish(guidance.guide(x, step, cond, guidance.start()))


def plain(x: Tensor) -> Tensor:
    return Answerer().finish(CFG(scale=2).guide(x, STEP, CONDITIONS, None)).denoised


def losses(x: Tensor) -> tuple[Tensor, Tensor]:
    """Both losses of the estimate at x, by plain autograd, for differences."""
    images = (TOY.decode(plain(x)) / 2 + 0.5).clamp(0, 1)
    assert SCAN.reference is not None
    like, shown = (TOY.perceive(image * 2 - 1) for image in (SCAN.reference.double(), images))
    light = scanning.light_modules(SCAN.symbol, images)
    return scanning.read(images, light, 8).loss, scanning.perceptual_distance(shown, like)


@pytest.mark.parametrize(("term", "on"), [(0, "scanning_scale"), (1, "perceptual_scale")])
def test_each_loss_moves_the_estimate_against_its_own_gradient(term: int, on: str) -> None:
    """Through decoder and network, for each image; the size of the shift is sigma^2 / alpha."""
    x = start(LEVELS)
    scales: dict[str, Any] = {"scanning_scale": 0.0, "perceptual_scale": 0.0, on: 2.0}
    shift = guided(x, **scales).denoised - plain(x)
    assert (shift.flatten(1).abs().sum(1) > 0).all()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    up, down = (losses(x + h * direction)[term] for h in (1e-7, -1e-7))
    expected = -(STEP.now.sigma**2) / STEP.now.alpha * 2.0 * (up - down) / 2e-7
    along = (shift * direction).flatten(1).sum(1)
    assert torch.allclose(along, expected, rtol=1e-4, atol=1e-9)


def test_without_weights_it_is_its_base() -> None:
    x = start(LEVELS)
    assert torch.equal(guided(x, scanning_scale=0, perceptual_scale=0).denoised, plain(x))


def test_the_paper_guides_only_what_does_not_scan_yet_the_code_always() -> None:
    """Latents that decode to the symbol, and noise beside them."""
    level = Level(1.0, 1e-3, 1.0)
    step = Step(7, 8, level, Level(1.0, 0.0, 0.0))
    right = torch.where(torch.from_numpy(DARK), -1.0, 1.3).expand(1, 4, 4, 4).double()
    x = torch.cat([right, start(LEVELS, batch=1)])
    base = Answerer().finish(CFG(scale=2).guide(x, step, CONDITIONS, None)).denoised
    for tolerance, moves in ((0.0, [False, True]), (1.0, [False, False])):
        prediction = guided(x, step, scanning_scale=1e6, perceptual_scale=1e5, tolerance=tolerance)
        moved = (prediction.denoised - base).flatten(1).abs().amax(1) > 0
        assert moved.tolist() == moves
        assert prediction.trace["module_error"][0] == 0
    code = guided(x, step, scanning_scale=1e6, variant="code", tolerance=1.0)
    assert (code.denoised - base).flatten(1).abs().amax(1)[1] > 0


def test_the_codes_perceptual_loss_is_seen_and_not_felt() -> None:
    x = start(LEVELS)
    one, other = (guided(x, variant="code", perceptual_scale=scale) for scale in (2.0, 2000.0))
    assert torch.equal(one.denoised, other.denoised)
    assert (one.trace["perceptual_loss"] > 0).all()


def test_cfgpp_as_a_base_keeps_its_two_estimates() -> None:
    x, base = start(LEVELS), CFGPP(scale=0.6)
    two = Answerer().finish(base.guide(x, STEP, CONDITIONS, None))
    guidance = SRPG(base=base)
    moved = Answerer().finish(guidance.guide(x, STEP, CONDITIONS, None))
    assert two.renoise is not None
    assert moved.renoise is not None
    assert torch.allclose(moved.denoised - two.denoised, moved.renoise - two.renoise)


def test_its_network_evaluations_carry_the_gradient_and_are_its_bases() -> None:
    answerer, guidance = Answerer(), SRPG(base=CFG(scale=2))
    answerer.finish(guidance.guide(start(LEVELS, batch=1), STEP, CONDITIONS, None))
    asks = [ask for ask in answerer.asks if isinstance(ask, Denoise)]
    assert [ask.grad for ask in asks] == [True]
    assert answerer.evaluations == 2


def test_the_second_stage_is_the_last_share_of_the_steps() -> None:
    steps = steps_of(vp_levels(10))
    assert SRPG(strength=0.6).begins(10) == 4
    assert SRPG(strength=0.01).begins(10) == 9
    assert SRPG(strength=0.6, fresh_noise=True).begins(10) == 0
    assert SRPG(strength=0.6, base=CFG(scale=2)).nfe(steps) == 20 + 12


def test_thresholds_around_a_module_ask_for_less_than_a_half_does() -> None:
    """Latents of modules that differ by little, all of them light: wrong for a half, right for a reader."""
    level = Level(1.0, 1e-3, 1.0)
    step = Step(7, 8, level, Level(1.0, 0.0, 0.0))
    pale = torch.where(torch.from_numpy(DARK), 0.2, 2.0).expand(1, 4, 4, 4).double()
    errors = {
        threshold: guided(pale, step, threshold=threshold).trace["module_error"].item()
        for threshold in ("half", "local")
    }
    assert errors["half"] > 0.2
    assert errors["local"] == 0


def test_each_loss_moves_the_latents_of_the_refinement_too() -> None:
    z = start(LEVELS, batch=1).requires_grad_()
    for term in (0, 1):
        seen, far, _ = Answerer().finish(look(z, SCAN, SRPG(), contrast=0.1))
        assert gradient((seen.loss, far)[term].sum(), z).abs().sum() > 0


def test_needs_a_symbol() -> None:
    with pytest.raises(ValueError, match="give `qr`"):
        guided(start(LEVELS), cond=replace(CONDITIONS, target=None))
