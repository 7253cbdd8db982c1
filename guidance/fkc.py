"""Feynman-Kac correctors (Skreta et al.): particles and weights that make guidance sample its target."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from guidance.asks import Ask, Conditions, Denoise, Guide, Prediction, Step
from guidance.base import ADVANCED, Guidance, Needs, Population, Trace
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


class FKC(Guidance):
    """Feynman-Kac corrector, with scores `s = (denoised - x) / sigma^2` of `x = x_t / alpha_t`:

        target                      guided score               d log w, times dv = sigma^2's decrease
        cfg      q_neg^(1-b) q^b    (1 - b) s_neg + b s        b (b - 1) / 2 |s - s_neg|^2
        anneal   q^b                b s                        b (b - 1) / 2 |s|^2
        product  (q q_2)^b          b (s + s_2)                b (b - 1) / 2 |s + s_2|^2 + b <s, s_2>

    b is `scale`. The loop moves `particles` samples of the image with the guided score and noise, adds up
    their log-weights and resamples them, so that they follow the target and not only its drift. The drift
    alone (one particle, or no weights) is plain CFG with noise, which samples something else.

    Source: arXiv 2503.02819, propositions 3.1 to 3.3 with a = 0 ("target score");
        martaskrt/fkc-diffusion @ f6070aaf `edm_sampler_new`.
    Deviates: `resample_below` under 1 lets weights add up until few particles count; they are proper either
        way, and at 1 it is the paper's. Tempered noise (a = 1/2) is left out: it drops modes.
    """

    title: ClassVar = "FKC"
    summary: ClassVar = (
        "Several particles per image, weighed and resampled: exact for the density you ask for."
    )
    paper: ClassVar = Paper(
        "Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts",
        "2503.02819",
        "ICML 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "martaskrt/fkc-diffusion @ f6070aaf, edm2/generate_images.py edm_sampler_new",
                "official code",
                "8 particles in 16 steps from sigma 80 without weights, scale 2.5",
                2e-13,
            ),
            Compared(
                "martaskrt/fkc-diffusion @ f6070aaf, edm2/generate_images.py sample_cat_sys",
                "official code",
                "log-weights of 15 steps, scale 2.5; the survivors are the same",
                2e-14,
            ),
            Compared(
                "hlu2413/fkc-diffusion @ ab51a79f, temperature_annealing VEReverseSDE",
                "official code",
                "drifts and weight rates at 3 times, powers 1 and 2.5",
                3e-12,
            ),
        ),
        deviates=(
            Deviation(
                "weights may add up until few particles count (`resample_below` under 1)",
                "they are proper either way, and fewer resamplings keep more variety; at 1 it is the paper's",
            ),
            Deviation("tempered noise is left out", "it drops modes; the target score's form does not"),
            Deviation(
                "the official Heun sampler with churn is left out",
                "its weights belong to the SDE: with churn it over-corrects",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True, particles=True, stochastic=True, from_noise=True)
    traces: ClassVar = {
        "ess": Trace("effective sample size"),
        "resampled": Trace("whether the particles were resampled after the step"),
        "log_weight": Trace("increment of the log-weight"),
    }

    method: Literal["fkc"] = "fkc"
    scale: float = Field(
        2.5, ge=0, le=100, description="b: the CFG scale, or the power (inverse temperature) of the target"
    )
    target: Literal["cfg", "anneal", "product"] = Field(
        "cfg", description="density to sample: CFG's geometric average, a power of it, or a product of two"
    )
    second: Literal["class", "weak"] = Field(
        "class", description="the product's other expert: the first of `classes`, or the weak model"
    )
    particles: int = Field(
        4, ge=1, le=64, description="samples per image, K; the cost is K times that of CFG"
    )
    resample_below: float = Field(
        1.0, ge=0, le=1, description="resample below this share of effective particles; 1: at every step"
    )
    weigh_from: float = Field(0.0, ge=0, le=1, description="share of the steps before weights count")
    weigh_to: float = Field(1.0, ge=0, le=1, description="share of the steps after which weights are zero")
    clamp: float = Field(
        0.0,
        ge=0,
        description="bound on an increment around the particles' mean, 1 in the official image code; 0: off",
        json_schema_extra=ADVANCED,
    )
    keep: Literal["one", "all"] = Field("one", description="return one particle per image, or all of them")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.weigh_to < self.weigh_from:
            raise ValueError(f"weigh_to ({self.weigh_to}) lies before weigh_from ({self.weigh_from})")
        if self.target != "cfg" and self.scale == 0:
            raise ValueError("scale 0 leaves nothing of the density to sample; give a scale above 0")
        return self

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        first, other = yield from self._predictions(x_t, step, cond)
        b, variance = self.scale, step.now.sigma_ve**2
        if self.target == "cfg":
            denoised = other + b * (first - other)
            rate = b * (b - 1) / 2 * _square(first - other)
        else:
            x = x_t / step.now.alpha
            away = first - x if self.target == "anneal" else first + other - 2 * x  # sigma^2 times the score
            denoised = x + b * away
            rate = b * (b - 1) / 2 * _square(away)
            if self.target == "product":
                rate = rate + b * _product(first - x, other - x)
        # dv / sigma^4, and 1 / sigma = 0 where a flow model starts
        log_weight = rate * (2 * (1 - step.next.sigma_ve / step.now.sigma_ve) / variance)
        if self.clamp:
            log_weight = (log_weight - log_weight.mean()).clamp(-self.clamp, self.clamp)
        weighed = self.weigh_from <= step.fraction < self.weigh_to
        trace = {"ess": float(len(x_t)), "resampled": 0.0, "log_weight": log_weight}
        return Prediction(denoised, log_weight=log_weight if weighed else None, trace=trace)

    def _predictions(
        self, x_t: Tensor, step: Step, cond: Conditions
    ) -> Generator[Ask, Any, tuple[Tensor, Tensor]]:
        """Both experts' estimates; annealing has one only."""
        if self.target == "product" and self.second == "class":
            if not cond.classes:
                raise ValueError("a product of two prompts needs the second one as `classes`; give one")
            return (yield Denoise(x_t, step.now, (cond.positive, cond.classes[0])))
        if self.target == "cfg":
            return (yield Denoise(x_t, step.now, (cond.positive, cond.negative)))
        (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
        if self.target == "anneal":
            return pos, pos
        (weak,) = yield Denoise(x_t, step.now, (cond.positive,), network="weak")
        return pos, weak

    def requires(self) -> Needs:
        product = self.target == "product"
        return Needs(
            negative=self.target == "cfg",
            classes=product and self.second == "class",
            weak=product and self.second == "weak",
            particles=True,
            stochastic=True,
            from_noise=True,
        )

    def population(self) -> Population:
        powers = {"cfg": 1.0, "anneal": self.scale, "product": 2 * self.scale}
        prior_scale = powers[self.target] ** -0.5  # N(0, 1) to that power
        return Population(self.particles, self.resample_below, prior_scale, self.keep)

    def nfe(self, steps: Sequence[Step]) -> int:
        return len(steps) * self.particles * (1 if self.target == "anneal" else 2)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per particle, summed over all dimensions, at least float32."""
    return (a.double() * b.double()).flatten(1).sum(1)


def _square(a: Tensor) -> Tensor:
    return _product(a, a)
