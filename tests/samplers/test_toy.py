"""The toy's closed forms, against each other and against sums that need no formula."""

from __future__ import annotations

import pytest
import torch

from guidance.asks import Level
from samplers import load
from samplers.models.toy import Toy

TOY = Toy(dtype="float64", size_px=16)
LEVELS = [Level(0.9, 0.436, 100), Level(0.5, 0.866, 500), Level(1.0, 3.0, 0), Level(0.3, 0.7, 300)]
X = torch.linspace(-3, 3, 12, dtype=torch.float64).view(1, 3, 2, 2)


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("name", ["", "low", "high", "a prompt of no name"])
def test_the_estimate_is_tweedies(level: Level, name: str) -> None:
    """`E[x0 | x_t] = (x_t + sigma^2 score) / alpha`, the score by automatic differentiation."""
    cond = TOY.cond(name)
    x = X.clone().requires_grad_(True)
    (score,) = torch.autograd.grad(TOY.log_density(x, level, cond).sum(), x)
    expected = (X + level.sigma**2 * score) / level.alpha
    assert torch.allclose(TOY.denoise(X, [level], [cond]), expected, atol=1e-10)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_estimate_is_bayes_on_a_grid(level: Level) -> None:
    cond = TOY.cond("high")
    x0 = torch.linspace(-6, 6, 20001, dtype=torch.float64)
    modes = zip(cond.data, (-1, 0.2, 1.3), strict=True)
    prior = sum(w * torch.exp(-0.5 * ((x0 - m) / 0.35) ** 2) for w, m in modes)
    for x_t in (-1.5, 0.0, 2.0):
        posterior = prior * torch.exp(-0.5 * ((x_t - level.alpha * x0) / level.sigma) ** 2)
        expected = float((posterior * x0).sum() / posterior.sum())
        full = torch.full((1, 3, 2, 2), x_t, dtype=torch.float64)
        assert float(TOY.denoise(full, [level], [cond])[0, 0, 0, 0]) == pytest.approx(expected, abs=1e-6)


def test_rows_have_their_own_level_and_condition() -> None:
    conds = [TOY.cond("low"), TOY.cond("high")]
    both = TOY.denoise(X.repeat(2, 1, 1, 1), LEVELS[:2], conds)
    for i in range(2):
        assert torch.equal(both[i : i + 1], TOY.denoise(X, [LEVELS[i]], [conds[i]]))


def test_the_classifier_is_bayes() -> None:
    latents = torch.tensor([-1.0, 0.2, 1.3], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    logits = TOY.classify(TOY.decode(latents))
    assert logits.argmax(1).tolist() == [0, 1, 2]
    level = Level(1.0, 1e-6, 0)
    labels = [TOY.cond("low"), TOY.cond("high")]
    gap = TOY.classify(TOY.decode(latents), labels).diff(dim=1)
    exact = [TOY.log_density(latents, level, label).flatten(1).sum(1) for label in labels]
    assert torch.allclose(gap[:, 0], exact[1] - exact[0], atol=1e-6)


def test_long_prompts_are_cut_with_a_warning() -> None:
    encoded = TOY.encode(["high", "word " * 80])
    assert encoded.conds[0].data == TOY.weights["high"]
    assert len(encoded.warnings) == 1
    assert "longer than 75 words" in encoded.warnings[0]


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, not 20x16"):
        TOY.latent_shape(20, 16)


def test_the_weak_network_is_a_broader_mixture() -> None:
    """Under much noise it says its mean, and far from all modes its slope is that of one mode."""
    level, cond = Level(1.0, 1e3, 0), TOY.cond("high")
    weights = [(w + 1 / 3) / 2 for w in cond.data]
    mean = sum(w * m for w, m in zip(weights, (-1, 0.2, 1.3), strict=True))
    assert torch.allclose(
        TOY.denoise(X, [level], [cond], "weak"), torch.tensor(mean, dtype=X.dtype), atol=1e-4
    )
    far = torch.full_like(X, 400.0)
    slope = TOY.denoise(far + 1, [LEVELS[2]], [cond], "weak") - TOY.denoise(far, [LEVELS[2]], [cond], "weak")
    assert float(slope.mean()) == pytest.approx((1.6 * 0.35) ** 2 / ((1.6 * 0.35) ** 2 + 9), rel=1e-2)


def test_a_network_answers_at_its_own_level_for_the_timestep() -> None:
    """Its eps is that of `timestep`; `denoised` is formed with the sampler's alpha and sigma."""
    bars = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    toy = Toy(dtype="float64", size_px=16, alphas_cumprod=bars)
    own = Level(0.5**0.5, 0.5**0.5, 1.0)
    eps = (X - own.alpha * TOY.denoise(X, [own], [TOY.cond("low")])) / own.sigma
    asked = Level(0.8, 0.6, 1.0)
    expected = (X - asked.sigma * eps) / asked.alpha
    assert torch.allclose(toy.denoise(X, [asked], [TOY.cond("low")]), expected, atol=1e-12)


def test_it_is_loaded_by_name() -> None:
    toy = load("toy", name="mine", dtype="float64", device="cpu", family="flow", channels=4)
    assert (toy.name, toy.family, toy.dtype) == ("mine", "flow", torch.float64)
    assert toy.latent_shape(64, 32) == (4, 4, 8)
