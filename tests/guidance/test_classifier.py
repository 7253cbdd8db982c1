from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidance.asks import Ask, Classify, Cond, Conditions, Decode, Denoise, Level, Step
from guidance.classifier import Classifier, Running
from guidance.none import NoGuidance
from samplers.cards import CARDS, problems
from samplers.loop import run as run_plan
from samplers.models.judge import softened
from samplers.noise import Noise
from samplers.steps import compile_plan
from tests import analytic
from tests.analytic import (
    CONDITIONS,
    MIDDLE,
    NEGATIVE,
    POSITIVE,
    TARGET,
    Answerer,
    run,
    start,
    steps_of,
    vp_levels,
)
from tests.golden.arrays import load

GD, EL = load("cg_guided_diffusion"), load("elucd_ddpm")


class Tiny(nn.Module):
    """The classifier of the golden arrays."""

    def __init__(self, z: dict[str, Tensor]) -> None:
        super().__init__()
        self.first, self.act1 = nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU()
        self.second, self.act2 = nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()
        self.last = nn.Linear(8, 10)
        for layer, name in ((self.first, "c1"), (self.second, "c2"), (self.last, "f")):
            layer.weight, layer.bias = (
                nn.Parameter(z[f"{name}w"].clone()),
                nn.Parameter(z[f"{name}b"].clone()),
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act2(self.second(self.act1(self.first(x)))).mean((2, 3)))


class Fixed(Answerer):
    """A denoiser that answers with a given estimate, pictures as they are, and a classifier network."""

    def __init__(self, estimate: Tensor, network: nn.Module) -> None:
        super().__init__()
        self._estimate, self._network = estimate, network

    def answer(self, ask: Ask) -> Any:
        self.asks.append(ask)
        if isinstance(ask, Denoise):
            return [self._estimate]
        if isinstance(ask, Decode):
            return ask.latents
        with torch.set_grad_enabled(ask.grad), softened(self._network, ask.softplus):
            return self._network(ask.images)[:, [int(label.data) for label in ask.labels]]


def shifts(
    guidance: Classifier, x: Tensor, estimate: Tensor, y: Tensor, network: nn.Module, step: Step
) -> Tensor:
    """What guidance adds to the given estimate; each image has a class of its own."""
    added = []
    for k, label in enumerate(y.tolist()):
        order = [label, *(other for other in range(10) if other != label)]
        labels = [Cond(str(n), n) for n in order]
        cond = Conditions(labels[0], Cond("", None), tuple(labels[1:]))
        answerer = Fixed(estimate[k : k + 1], network)
        prediction = answerer.finish(guidance.guide(x[k : k + 1], step, cond, guidance.start()))
        added.append(prediction.denoised - estimate[k : k + 1])
    return torch.cat(added)


def bars() -> tuple[Tensor, Step]:
    """Cumulated alphas of the golden chain, and its step at t = 12."""
    kept = (1 - GD["betas"]).cumprod(0)
    now, then = (Level(kept[t].item() ** 0.5, (1 - kept[t].item()) ** 0.5, t) for t in (12, 11))
    return kept, Step(7, 20, now, then)


def gradient_of(guidance: Classifier, z: dict[str, Tensor], estimate: Tensor, network: nn.Module) -> Tensor:
    _, step = bars()
    factor = step.now.sigma**2 / step.now.alpha
    return shifts(guidance, z["x"], estimate, z["y"], network, step) / factor


def test_the_gradient_at_noisy_input_is_the_official_one() -> None:
    guidance = Classifier(gradient="noisy", scale=4)
    g = gradient_of(guidance, GD, GD["pred_xstart"], Tiny(GD))
    assert torch.allclose(g, GD["cond_fn_relu"], atol=1e-6, rtol=0)
    mean = GD["mean"] + GD["variance"] * g  # the ancestral form
    assert torch.allclose(mean, GD["condition_mean"], atol=1e-6, rtol=0)


def test_the_estimate_and_the_ddim_step_are_the_official_ones() -> None:
    _, step = bars()
    guidance = Classifier(gradient="noisy", scale=4)
    denoised = GD["pred_xstart"] + shifts(guidance, GD["x"], GD["pred_xstart"], GD["y"], Tiny(GD), step)
    assert torch.allclose(denoised, GD["condition_score_pred_xstart"], atol=5e-6, rtol=0)
    after = analytic.first_order(GD["x"], step, analytic.Prediction(denoised))
    assert torch.allclose(after, GD["ddim_sample_next"], atol=5e-6, rtol=0)


@pytest.mark.parametrize("name", ["paper", "plain", "jointonly", "scaled"])
def test_the_gradient_for_a_clean_classifier_is_the_official_one(name: str) -> None:
    beta, tau, joint, scale = EL[f"cfg_{name}"].tolist()
    softplus = beta if math.isfinite(beta) else None
    guidance = Classifier(scale=scale, temperature=tau, joint=joint, softplus=softplus)
    g = gradient_of(guidance, EL, EL["x"].clamp(-1, 1), Tiny(EL))
    assert torch.allclose(g, EL[f"grad_{name}"], atol=1e-6, rtol=0)


def distance_to_the_official_trajectory() -> float:
    """20 ancestral steps with the sine schedule; `add` is what the official sampler puts on the variance."""
    betas, network = EL["betas"], Tiny(EL)
    kept = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1).double(), kept[:-1]])
    posterior = betas * (1 - before) / (1 - kept)
    log_posterior = torch.cat([posterior[1:2], posterior[1:]]).log()
    guidance = Classifier(joint=0.5, softplus=3.0)
    y, x, largest = EL["y"], EL["xT"], 0.0
    states = []
    for k, t in enumerate(reversed(range(20))):
        a, b = kept[t].item(), before[t].item()
        eps, v = 0.9 * x + 0.1 * torch.sin(3 * x) + 0.01 * y.view(-1, 1, 1, 1), 0.5 * torch.tanh(x)
        share = (v + 1) / 2
        log_variance = share * betas[t].log() + (1 - share) * log_posterior[t]
        estimate = ((x - (1 - a) ** 0.5 * eps) / a**0.5).clamp(-1, 1)
        beta = betas[t].item()
        mean = (b**0.5 * beta / (1 - a)) * estimate + ((1 - beta) ** 0.5 * (1 - b) / (1 - a)) * x
        step = Step(k, 20, Level(a**0.5, (1 - a) ** 0.5, t), Level(b**0.5, (1 - b) ** 0.5, t))
        g = shifts(guidance, x, estimate, y, network, step) * (a**0.5 / (1 - a))
        variance = log_variance.exp()
        largest = max(largest, variance.flatten()[0].item())
        added = max(math.sin(math.pi * t / 20) * largest * 0.3, 0.0)
        x = mean + (variance + added) * g
        if t:
            x = x + (0.5 * log_variance).exp() * EL["noises"][k]
        states.append(x)
    expected = EL["traj"]
    distances = [min((state - wanted).abs().max().item() for state in states) for wanted in expected]
    return max(*distances, (states[-1] - expected[-1]).abs().max().item())


def test_follows_the_official_trajectory() -> None:
    assert distance_to_the_official_trajectory() < 5e-5


def test_the_sine_schedule_is_the_papers() -> None:
    """gamma sin(pi t / T) times the largest posterior variance so far, over this step's."""
    guidance, state = Classifier(gamma=0.3), Running()
    levels = vp_levels(10, end=0.05)
    largest = 0.0
    for step in steps_of(levels):
        now, then = step.now, step.next
        variance = then.sigma**2 / now.sigma**2 * (1 - now.alpha**2 / then.alpha**2)
        largest = max(largest, variance)
        expected = 0.3 * math.sin(math.pi * (9 - step.index) / 10) * largest / variance
        assert guidance._bump(step, state) == pytest.approx(max(expected, 0))
    assert guidance._bump(steps_of(vp_levels(10))[-1], state) == 0


@pytest.mark.parametrize("gradient", ["denoised", "x_t", "noisy"])
def test_agrees_with_finite_differences(gradient: Any) -> None:
    """On the toy, image by image and element by element."""
    step = steps_of(vp_levels())[5]
    x = start([step.now], 2, shape=(3, 1, 1)) * 0.8
    guidance = Classifier(gradient=gradient, temperature=0.7, joint=0.4, scale=2.0)
    labels = (POSITIVE, TARGET, MIDDLE)

    def objective(at: Tensor) -> Tensor:
        if gradient == "noisy":
            logits = Answerer().answer(Classify(at, labels, step.now))
        else:
            shown = analytic.denoised(at, step.now, POSITIVE) if gradient == "x_t" else at
            logits = Answerer().answer(Classify(Answerer().answer(Decode(shown)), labels))
        return 0.7 * logits[:, 0] - (0.7 * 0.4 * logits).logsumexp(1)

    if gradient == "noisy":  # the toy's classifier reads pixels, eight to a cell
        x = torch.nn.functional.interpolate(x, scale_factor=8.0)
    pos = analytic.denoised(x, step.now, POSITIVE)
    prediction = Answerer().finish(guidance.guide(x, step, CONDITIONS, guidance.start()))
    g = (prediction.denoised - pos) / (2.0 * step.now.sigma**2 / step.now.alpha)
    at = pos if gradient == "denoised" else x
    for index in range(3):
        nudge = torch.zeros_like(at)
        nudge[:, index, 0, 0] = 1e-5
        slope = (objective(at + nudge) - objective(at - nudge)) / 2e-5
        assert torch.allclose(g[:, index, 0, 0], slope, atol=1e-6, rtol=1e-5)
    assert (g.flatten(1).norm(dim=1) > 1e-4).all()


def test_both_terms_of_the_objective_push() -> None:
    """The joint direction (joint = 0) and what the normaliser adds to it are both non-zero, per image."""
    step = steps_of(vp_levels())[5]
    x = start([step.now]) * 0.8
    pos = analytic.denoised(x, step.now, POSITIVE)

    def push(joint: float) -> Tensor:
        guidance = Classifier(joint=joint)
        return Answerer().finish(guidance.guide(x, step, CONDITIONS, Running())).denoised - pos

    assert (push(0.0).flatten(1).norm(dim=1) > 1e-3).all()
    assert ((push(1.0) - push(0.0)).flatten(1).norm(dim=1) > 1e-3).all()


def test_is_linear_in_the_scale_and_blind_to_a_constant() -> None:
    x, network = EL["x"], Tiny(EL)
    estimate = x.clamp(-1, 1)
    one = gradient_of(Classifier(joint=0.5), EL, estimate, network)
    assert torch.allclose(
        gradient_of(Classifier(joint=0.5, scale=3), EL, estimate, network), 3 * one, atol=1e-9
    )
    with torch.no_grad():
        network.last.bias += 5
    assert torch.allclose(gradient_of(Classifier(joint=0.5), EL, estimate, network), one, atol=1e-9)


def test_a_sharp_softplus_is_the_relu() -> None:
    estimate = EL["x"].clamp(-1, 1)
    one, other = (gradient_of(Classifier(softplus=beta), EL, estimate, Tiny(EL)) for beta in (None, 1e4))
    assert torch.allclose(one, other, atol=1e-3 * one.abs().max().item())


def test_scale_zero_is_unguided_and_asks_nothing_more() -> None:
    levels = vp_levels()
    off = run(Classifier(scale=0), start(levels), levels)
    assert torch.equal(off.x, run(NoGuidance(), start(levels), levels).x)
    assert all(isinstance(ask, Denoise) for ask in off.answerer.asks)


def test_only_the_x_t_gradient_goes_through_the_denoiser() -> None:
    levels = vp_levels()
    for gradient, through in (("denoised", False), ("x_t", True)):
        guidance = Classifier(gradient=gradient)  # pyright: ignore[reportArgumentType]
        asks = run(guidance, start(levels), levels).answerer.asks
        assert {ask.grad for ask in asks if isinstance(ask, Denoise)} == {through}


def test_on_the_toy_it_raises_the_probability_of_the_target() -> None:
    levels = vp_levels(20)
    x = start(levels, 32, shape=(4, 1, 1))

    def probability(guidance: Any) -> float:
        latents = run(guidance, x, levels, Conditions(POSITIVE, NEGATIVE, (TARGET, MIDDLE))).x
        logits = analytic.TOY.classify(analytic.TOY.decode(latents), (POSITIVE, TARGET, MIDDLE))
        return logits.softmax(1)[:, 0].mean().item()

    plain = probability(NoGuidance())
    for gradient in ("denoised", "x_t"):
        assert probability(Classifier(gradient=gradient)) > plain + 0.03  # pyright: ignore[reportArgumentType]


def test_without_another_class_it_says_so() -> None:
    step, x = steps_of(vp_levels())[0], start(vp_levels())
    with pytest.raises(ValueError, match="classes"):
        Answerer().finish(Classifier().guide(x, step, Conditions(POSITIVE, NEGATIVE), Running()))


def test_a_noisy_classifier_wants_pixels() -> None:
    assert Classifier(gradient="noisy").requires().pixels
    assert not Classifier().requires().pixels


def test_a_model_without_gradients_or_classifier_is_refused() -> None:
    found = problems(Classifier(), CARDS["ddim"], "vp", set())
    assert any("gradients" in sentence for sentence in found)
    assert any("a classifier" in sentence for sentence in found)
    assert not problems(Classifier(), CARDS["ddim"], "vp", {"classifier", "grad"})


VE = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0}


class Edm(Fixed):
    """The stub of EluCD's EDM sampler: an affine denoiser of class 3, and a classifier in float64."""

    def __init__(self) -> None:
        super().__init__(torch.empty(0), Tiny(EL).double())

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        return (0.25 * x + sigma**2 * 0.1 * (3 - 4.5)) / (0.25 + sigma**2)

    def answer(self, ask: Ask) -> Any:
        if isinstance(ask, Denoise):
            self.asks.append(ask)
            return [self.denoised(ask.x_t, ask.level.sigma)]
        return super().answer(ask)


def distance_of_the_edm_form(joint: float) -> float:
    """10 Heun steps of EluCD's formulas, written out, against the run."""
    guidance = Classifier(gradient="edm", scale=0.004, joint=joint, gamma=0.3, softplus=5.0)
    plan, stub = compile_plan("heun", 10, "ve", VE), Edm()
    labels = [Cond(str(n), n) for n in (3, 0, 1, 2, 4, 5, 6, 7, 8, 9)]
    noise = Noise(0, (3, 16, 16), dtype=torch.float64)
    driven = run_plan(plan, guidance, Conditions(labels[0], Cond("", None), tuple(labels[1:])), noise)
    reply: Any = None
    while True:
        try:
            reply = stub.answer(driven.send(reply))
        except StopIteration as stop:
            ours = stop.value.latents
            break
    levels = [row.now.sigma for row in plan.rows if row.began is None] + [0.0]
    x = Noise(0, (3, 16, 16), dtype=torch.float64).draw() * plan.init_scale
    for i in range(10):
        rms = x.square().mean().sqrt()
        u = (x / rms if rms > 1 else x).requires_grad_()
        with softened(stub._network, 5.0):
            logits = stub._network(u)
        (g,) = torch.autograd.grad(logits[0, 3] - (joint * logits).logsumexp(1)[0], u)
        height = max(0.004 / 11 * (11 - i), 1e-5) + math.sin(math.pi * i / 10) * 0.004 * 0.3
        x = (x + g / g.square().mean().sqrt() * rms * height).detach()
        now, then = levels[i], levels[i + 1]
        d = (x - stub.denoised(x, now)) / now
        after = x + (then - now) * d
        if then:
            after = x + (then - now) * (d + (after - stub.denoised(after, then)) / then) / 2
        x = after
    return (ours - x).abs().max().item()


@pytest.mark.parametrize("joint", [0.0, 1.0])
def test_the_edm_form_is_elucds_sampler(joint: float) -> None:
    assert distance_of_the_edm_form(joint) < 1e-11


def test_the_edm_form_needs_pixels() -> None:
    guidance = Classifier(gradient="edm", scale=0.004)
    assert guidance.requires().pixels
    assert any(
        "on pixels only" in why for why in problems(guidance, CARDS["heun"], "vp", {"classifier", "grad"})
    )


def test_an_ancestral_sampler_moves_its_mean_by_variance_times_gradient() -> None:
    """The papers' form for solvers that draw noise; for the others the gradient adds to the score."""
    for sampler in ("ddpm", "euler_a"):
        plan = compile_plan(sampler, 8, "vp", analytic.TOY.scheduler_config)
        row, step = plan.rows[3], plan.steps[3]
        x = start([step.now]) * 0.8
        plain = analytic.denoised(x, step.now, POSITIVE)
        guidance = Classifier(scale=2.0)
        guided = Answerer().finish(guidance.guide(x, step, CONDITIONS, guidance.start())).denoised
        score = replace(step, noise_gain=None)
        other = Answerer().finish(guidance.guide(x, score, CONDITIONS, guidance.start())).denoised
        g = (other - plain) / (step.now.sigma**2 / step.now.alpha)
        moved = row.b * (guided - plain)
        assert row.noise > 0
        assert torch.allclose(moved, row.noise**2 * g, atol=1e-12, rtol=1e-9)


def test_the_edm_forms_move_has_the_scheduled_size_whatever_the_logits() -> None:
    """RMS r gamma_i, with gamma_0 = scale: the sine is zero there."""
    x = 3 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = [Cond(str(n), n) for n in range(10)]
    cond = Conditions(labels[0], Cond("", None), tuple(labels[1:]))
    rms = x.square().mean().sqrt().item()
    plan = compile_plan("heun", 10, "ve", VE)
    for index, height in ((0, 0.004), (5, 0.004 * (1 - 5 / 11) + 0.004 * 0.3)):
        step = next(one for one in plan.steps if one.index == index)
        for temperature in (1.0, 7.0):
            stub = Edm()
            guidance = Classifier(gradient="edm", scale=0.004, gamma=0.3, temperature=temperature, joint=0.5)
            stub.finish(guidance.guide(x, step, cond, guidance.start()))
            (moved,) = [ask.x_t for ask in stub.asks if isinstance(ask, Denoise)]
            assert (moved - x).square().mean().sqrt().item() == pytest.approx(rms * height, rel=1e-9)
