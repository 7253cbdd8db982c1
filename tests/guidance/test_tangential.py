from __future__ import annotations

import pytest
import torch

from guidance.asks import Level, Step
from guidance.cfg import CFG
from guidance.none import NoGuidance
from guidance.tangential import Tangential
from tests.analytic import CONDITIONS, SAME, Answerer, run, start, vp_levels
from tests.golden.arrays import load

Z = load("baselines_wembed")
LEVEL = Level(0.8, 0.6, 400)
STEP = Step(1, 4, LEVEL, LEVEL)


def noise(guidance: Tangential | CFG, c: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The guided noise for given noise predictions."""
    x = torch.randn(c.shape, dtype=c.dtype)
    guide = guidance.guide(x, STEP, CONDITIONS, None)
    next(guide)
    with pytest.raises(StopIteration) as stop:
        guide.send([(x - 0.6 * eps) / 0.8 for eps in (c, u)])
    return (x - 0.8 * stop.value.value.denoised) / 0.6


@pytest.mark.parametrize("scale", [2.0, 7.5])
def test_equals_diffusers(scale: float) -> None:
    from diffusers.guiders.tangential_classifier_free_guidance import normalized_guidance

    c, u = Z["pred_cond"], Z["pred_uncond"]
    expected = normalized_guidance(c, u, scale)  # float32 inside
    assert torch.allclose(noise(Tangential(scale=scale), c, u), expected, atol=1e-4, rtol=0)
    assert (noise(CFG(scale=scale), c, u) - expected).abs().max() > 0.1


def decomposed(c: torch.Tensor, u: torch.Tensor, scale: float) -> torch.Tensor:
    """The rule by a singular value decomposition, flat."""
    guided = []
    for a, b in zip(c.flatten(1), u.flatten(1), strict=True):
        v = torch.linalg.svd(torch.stack([a, b]), full_matrices=False).Vh[0]
        shared = (b @ v) * v
        guided.append(shared + scale * (a - shared))
    return torch.stack(guided)


def test_equals_the_singular_value_decomposition() -> None:
    c, u = Z["pred_cond"], Z["pred_uncond"]
    guided = noise(Tangential(scale=3), c, u).flatten(1)
    assert torch.allclose(guided, decomposed(c, u, 3.0), atol=1e-12)


def test_parallel_predictions_are_cfg() -> None:
    c = Z["pred_cond"]
    assert torch.allclose(noise(Tangential(scale=5), c, 0.3 * c), noise(CFG(scale=5), c, 0.3 * c), atol=1e-12)


def test_a_tie_damps_nothing() -> None:
    """Two orthogonal predictions of one length have no first singular vector."""
    x, level = torch.zeros(1, 1, 1, 2).double(), Level(1.0, 1.0, 0)
    pos, neg = torch.tensor([[[[1.0, 0.0]]]]).double(), torch.tensor([[[[0.0, 1.0]]]]).double()
    guide = Tangential(scale=2).guide(x, Step(1, 2, level, level), CONDITIONS, None)
    next(guide)
    with pytest.raises(StopIteration) as stop:
        guide.send([pos, neg])
    assert torch.equal(stop.value.value.denoised, 2 * pos - neg)


def test_scale_one_and_equal_conditions_are_conditional() -> None:
    levels = vp_levels()
    one = run(Tangential(scale=1), start(levels), levels)
    assert torch.equal(one.x, run(NoGuidance(), start(levels), levels).x)
    assert one.answerer.evaluations == 8 * 3
    same = run(Tangential(), start(levels), levels, SAME)
    assert torch.allclose(same.x, one.x, atol=1e-12)


def test_at_pure_noise_of_a_flow_model_it_is_the_limit() -> None:
    x = start([Level(0.0, 1.0, 1000)])
    at, near = (
        Answerer().finish(Tangential().guide(x, Step(0, 2, level, level), CONDITIONS, None)).denoised
        for level in (Level(0.0, 1.0, 1000), Level(1e-4, 1 - 1e-4, 999.9))
    )
    assert torch.allclose(at, near, atol=2e-2)
