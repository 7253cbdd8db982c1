"""Classifier guidance (Dhariwal & Nichol), and the recipe for off-the-shelf classifiers (EluCD)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from guidance.asks import Ask, Classify, Cond, Conditions, Decode, Denoise, Guide, Prediction, Step
from guidance.base import ADVANCED, Needs, Trace
from guidance.limited import Limited
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Running:
    """The largest posterior variance so far in the run, and the EDM form's move of the step that is on."""

    variance: float = 0.0
    push: Tensor | None = None
    trace: dict[str, Any] = field(default_factory=dict[str, Any])


class Classifier(Limited):
    """Classifier guidance, `denoised = pos + (1 + bump) * scale * gain * g`.

        g = gradient of [ temperature * f_c - log sum_k exp(temperature * joint * f_k) ],  f the logits

    is added to the score; at temperature 1 and joint 1 it is that of log p(c | picture). `gradient` says
    where the classifier looks and what is differentiated: "denoised" shows it the decoded estimate of x0 and
    takes the gradient there as if it were x_t's (EluCD; the denoiser is not differentiated); "x_t" goes on
    through the denoiser; "noisy" shows a noise-conditional classifier x_t itself (Dhariwal & Nichol). `bump`
    is EluCD's sine schedule, `max(gamma * sin(pi t / T) * m, 0) / v`, with v the posterior variance of the
    step, m its largest so far, and t the steps left after this one. `gain` is the solver's own: sigma_t^2 /
    alpha_t where it is deterministic, so that g adds to the score, and where it draws noise what moves the
    step's mean by `variance * g`.

    "edm" is EluCD's form for EDM samplers: the classifier sees x = x_t / alpha_t at unit RMS at most, and
    each step starts from `x + gamma_i * rms(x) * g / rms(g)`, gamma_i = scale * (1 - i / (N + 1)) + gamma *
    scale * sin(pi i / N). `denoised` is then what makes the same of x_t: the estimate there, and the move
    times sigma_s / (sigma_t - sigma_s).

    Source: arXiv 2105.05233, algorithms 1 and 2; openai/guided-diffusion @ 22e0df81 `cond_fn`,
        `condition_mean`, `condition_score`. EluCD: 2310.11311; AlexMaOLS/EluCD @ 0b79a4ec `DDPM/`, `EDM/`.
    Deviates: the bump is an image's own, where EluCD takes the first sample's variance for the batch. The EDM
        form is EluCD's with first-order samplers and Heun's; others that look back see earlier moves too.
    """

    title: ClassVar = "Classifier guidance"
    summary: ClassVar = "Follows the gradient of a classifier towards the prompt's class."
    paper: ClassVar = Paper(
        "Diffusion Models Beat GANs on Image Synthesis",
        "2105.05233",
        "NeurIPS 2021; EluCD: ICLR 2024",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "openai/guided-diffusion @ 22e0df81, cond_fn and condition_mean",
                "official code",
                "gradients and means at one noise level",
                1e-6,
                "float32",
            ),
            Compared(
                "openai/guided-diffusion @ 22e0df81, condition_score and ddim_sample",
                "official code",
                "one DDIM step",
                2e-6,
                "float32",
            ),
            Compared(
                "AlexMaOLS/EluCD @ 0b79a4ec, DDPM/ design_cond_fn",
                "official code",
                "gradients, 4 settings of temperatures and softplus",
                1e-6,
                "float32",
            ),
            Compared(
                "AlexMaOLS/EluCD @ 0b79a4ec, DDPM/ p_sample_loop_progressive",
                "official code",
                "20 ancestral steps with the sine schedule",
                3e-6,
                "float32",
            ),
            Compared(
                "the formulas of AlexMaOLS/EluCD @ 0b79a4ec, EDM/generate.py, in a loop of its own",
                "own",
                "10 Heun steps with the published settings, and with a conditional temperature",
                2e-14,
            ),
        ),
        deviates=(
            Deviation(
                "the EDM form's move is folded into the estimate of the clean sample",
                "the sample changes in one place only; with first-order samplers and Heun's it is the same",
            ),
            Deviation(
                "the sine schedule takes each image's own variance, EluCD's code the first sample's",
                "an image must not depend on its neighbours",
            ),
        ),
    )
    needs: ClassVar = Needs(classifier=True, classes=True, grad=True)
    traces: ClassVar = {
        "log_probability": Trace("log-probability of the class"),
        "gradient_norm": Trace("norm of the gradient", log=True),
    }
    presets: ClassVar = {
        "elucd": {"gradient": "denoised", "scale": 1.0, "joint": 0.5, "gamma": 0.3, "softplus": 3.0},
        "elucd-edm": {"gradient": "edm", "scale": 0.004, "joint": 0.0, "gamma": 0.3, "softplus": 5.0},
        "dhariwal-256": {"gradient": "noisy", "scale": 1.0},
        "dhariwal-512": {"gradient": "noisy", "scale": 4.0},
    }

    method: Literal["classifier"] = "classifier"
    scale: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="s, factor on the classifier's gradient, or the EDM form's largest move, 0.004; 0 is off",
    )
    gradient: Literal["denoised", "x_t", "noisy", "edm"] = Field(
        "denoised",
        description="differentiate at the estimate of the clean sample, through the denoiser to x_t, a "
        "noise-conditional classifier at x_t, or EluCD's EDM form at x_t",
    )
    temperature: float = Field(1.0, gt=0, le=100, description="tau_1, factor on the logits")
    joint: float = Field(
        1.0, ge=0, le=1, description="tau_2 / tau_1; 1: conditional, 0: joint direction alone; EluCD has 0.5"
    )
    gamma: float = Field(
        0.0,
        ge=0,
        le=10,
        description="height of EluCD's sine schedule, 0.3; 0: off",
        json_schema_extra=ADVANCED,
    )
    softplus: float | None = Field(
        None,
        gt=0,
        le=1e5,
        description="beta of a Softplus in the place of the classifier's ReLUs, EluCD: 3 (EDM form: 5); none "
        "keeps them",
        json_schema_extra=ADVANCED,
    )

    def start(self) -> Running:
        return Running()

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Running) -> Guide:
        bump = self._bump(step, state)
        if self.scale == 0 or not self.active(step):
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(pos, trace={"log_probability": 0.0, "gradient_norm": 0.0})
        labels = (cond.positive, *(label for label in cond.classes if label.key != cond.positive.key))
        if len(labels) == 1:
            raise ValueError("a classifier needs a class besides the prompt's own; give it in `classes`")
        if self.gradient == "edm":
            return (yield from self._moved(x_t, step, labels, state))
        through = self.gradient == "x_t"
        x = x_t.detach().requires_grad_()
        (pos,) = yield Denoise(x if through else x_t, step.now, (cond.positive,), grad=through)
        if self.gradient == "noisy":
            at, logits = x, (yield Classify(x, labels, step.now, self.softplus, grad=True))
        else:
            shown = pos if through else pos.detach().requires_grad_()
            pictures = yield Decode(shown, grad=True)
            at, logits = (
                x if through else shown,
                (yield Classify(pictures, labels, None, self.softplus, grad=True)),
            )
        g = _gradient(self._objective(logits), at)
        gain = step.noise_gain
        if gain is None:
            gain = step.now.sigma**2 / max(step.now.alpha, 1e-6)  # rectified flow at t = 1
        shift = (1 + bump) * self.scale * gain * g
        return Prediction(pos.detach() + shift.to(pos.dtype), trace=_traced(logits, g))

    def _moved(self, x_t: Tensor, step: Step, labels: Sequence[Cond], state: Running) -> Guide:
        """The EDM form. A step's second evaluation keeps the move of its first."""
        if step.began is None or state.push is None:
            push = state.push = yield from self._push(x_t, step, labels, state)
            x_t = x_t + step.now.alpha * push
        else:
            push = state.push
        (pos,) = yield Denoise(x_t, step.now, labels[:1])
        sigma_t, sigma_s = (step.began or step.now).sigma_ve, step.next.sigma_ve
        return Prediction(pos + sigma_s / (sigma_t - sigma_s) * push, trace=state.trace)

    def _push(
        self, x_t: Tensor, step: Step, labels: Sequence[Cond], state: Running
    ) -> Generator[Ask, Any, Tensor]:
        """What is added to x_t / alpha_t before the step."""
        x = x_t.detach() / step.now.alpha
        size = _rms(x)
        seen = (x / size.clamp(min=1)).requires_grad_()
        logits = yield Classify(seen, labels, None, self.softplus, grad=True)
        g = _gradient(self._objective(logits), seen)
        state.trace = _traced(logits, g)
        i, steps = step.index, step.total
        falling = max(self.scale * (steps + 1 - i) / (steps + 1), 1e-5)
        height = falling + math.sin(math.pi * i / steps) * self.scale * self.gamma
        return (height * size * g / _rms(g).clamp(min=1e-30)).to(x_t.dtype)

    def requires(self) -> Needs:
        return Needs(classifier=True, classes=True, grad=True, pixels=self.gradient in ("noisy", "edm"))

    def nfe(self, steps: Sequence[Step]) -> int:
        """One evaluation per step, whose gradient is taken too where `gradient` is "x_t"."""
        return len(steps)

    def _objective(self, logits: Tensor) -> Tensor:
        """`tau_1 f_c - log sum exp(tau_2 f)`, column 0 being the class c."""
        tau_1, tau_2 = self.temperature, self.temperature * self.joint
        return tau_1 * logits[:, 0] - (tau_2 * logits).logsumexp(1)

    def _bump(self, step: Step, state: Running) -> float:
        """What EluCD's sine schedule adds to the posterior variance, as a share of it."""
        now, then = step.now, step.next
        variance = then.sigma**2 * (1 - (now.alpha * then.sigma / (then.alpha * now.sigma)) ** 2)
        state.variance = max(state.variance, variance)
        left = step.total - 1 - step.index
        added = self.gamma * math.sin(math.pi * left / step.total) * state.variance
        return max(added, 0.0) / variance if variance > 0 else 0.0


def _traced(logits: Tensor, g: Tensor) -> dict[str, Any]:
    log_p = logits.detach().log_softmax(1)[:, 0]
    return {"log_probability": log_p, "gradient_norm": g.flatten(1).norm(dim=1)}


def _rms(x: Tensor) -> Tensor:
    """Root mean square per image, shaped to broadcast over it."""
    return x.flatten(1).square().mean(1).sqrt().view(-1, *(1,) * (x.dim() - 1))


def _gradient(objective: Tensor, at: Tensor) -> Tensor:
    import torch

    return torch.autograd.grad(objective.sum(), at)[0]
