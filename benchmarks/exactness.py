"""Guidance methods on analytic models, where the right answer is known.

    python -m benchmarks.exactness [--particles 4000] [--steps 200] [--seeds 3]

Prints one row per claim with what was measured and what it must be, then the same as one line of JSON, and
draws the plot. The exit status is 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import torch
from torch import Tensor

from guidance import Guidance
from guidance.adaptive import Adaptive
from guidance.apg import APG
from guidance.asks import Classify, Conditions, Decode, Denoise, Level
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.classifier import Classifier
from guidance.fkc import FKC
from guidance.none import NoGuidance
from samplers.answer import answer_one
from samplers.driver import drive, sample
from samplers.inversion import edit
from samplers.loop import run
from samplers.models.toy import Toy
from samplers.noise import Noise
from samplers.steps import compile_plan

GRID = torch.linspace(-4, 4, 8001, dtype=torch.float64)
VE = {"sigma_min": 0.002, "sigma_max": 10.0, "sigma_data": 0.5, "rho": 7.0}
LINE = Toy(dtype="float64", family="ve", channels=1, size_px=8, scheduler_config=VE)
POSITIVE, NEGATIVE, OTHER = (LINE.cond(name) for name in ("high", "", "low"))
TARGETS = {"cfg": (1.4, 3.0), "anneal": (2.0,), "product": (1.0,)}
"""Powers of each of FKC's targets."""


@dataclass(frozen=True)
class Claim:
    """`measured` must be at most `limit`; None: reported only."""

    name: str
    measured: float
    limit: float | None
    detail: str = ""

    @property
    def holds(self) -> bool:
        return self.limit is None or self.measured <= self.limit


def fkc(particles: int, **parameters: Any) -> FKC:
    """With as many particles as statistics want; a request may have 64."""
    return FKC(keep="all", **parameters).model_copy(update={"particles": particles})


def particles_of(
    model: Any, guidance: FKC, config: dict[str, float], steps: int, seed: int, shape: tuple[int, int, int]
) -> Tensor:
    # The power is taken of the unconditional mixture, whose modes weigh most alike.
    cond = Conditions(NEGATIVE if guidance.target == "anneal" else POSITIVE, NEGATIVE, (OTHER,))
    noise = Noise(seed, shape, guidance.particles, dtype=torch.float64)
    (final,), _ = drive(model, [run(compile_plan("sde", steps, "ve", config), guidance, cond, noise)])
    return final.latents.flatten(1)


def exact(target: str, b: float) -> Tensor:
    """Log of the target density on `GRID`, unnormalised."""
    clean = Level(1.0, 0.0, 0.0)
    pos, neg, other = (
        LINE.log_density(GRID.view(-1, 1, 1, 1), clean, c).flatten() for c in (POSITIVE, NEGATIVE, OTHER)
    )
    return {"cfg": (1 - b) * neg + b * pos, "anneal": b * neg, "product": b * (pos + other)}[target]


def wasserstein(samples: Tensor, log_density: Tensor) -> float:
    """W1 between samples and a density on `GRID`, by quantiles."""
    cumulated = (log_density - log_density.max()).exp().cumsum(0)
    places = (torch.arange(samples.numel(), dtype=torch.float64) + 0.5) / samples.numel() * cumulated[-1]
    quantiles = GRID[torch.searchsorted(cumulated, places).clamp(max=len(GRID) - 1)]
    return (samples.flatten().sort().values - quantiles).abs().mean().item()


def drawn(log_density: Tensor, count: int, seed: int) -> Tensor:
    """Independent samples of a density on `GRID`: what no sampler does better than."""
    cumulated = (log_density - log_density.max()).exp().cumsum(0)
    u = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return GRID[torch.searchsorted(cumulated, u * cumulated[-1]).clamp(max=len(GRID) - 1)]


def line_claims(particles: int, steps: int, seeds: int) -> list[Claim]:
    """FKC on the 1-D mixture against the same sampler without weights, and that against exact samples."""
    claims: list[Claim] = []
    for target, powers in TARGETS.items():
        for b in powers:
            drift, corrected = (
                mean(
                    wasserstein(
                        particles_of(LINE, fkc(particles, target=target, scale=b, weigh_to=to), VE, steps, k,
                                     (1, 1, 1)),
                        exact(target, b),
                    )
                    for k in range(seeds)
                )
                for to in (0.0, 1.0)
            )  # fmt: skip
            floor = mean(
                wasserstein(drawn(exact(target, b), particles, k), exact(target, b)) for k in range(seeds)
            )
            detail = f"W1 {corrected:.4f}, without weights {drift:.4f}, of exact samples {floor:.4f}"
            name = f"{target} b={b:g}"
            claims += [
                Claim(f"fkc {name}: W1 over that of the drift", corrected / drift, 0.45, detail),
                Claim(f"the drift of {name} misses it: exact samples' W1 over its", floor / drift, 0.5),
            ]
    return claims


class Forty:
    """The FKC paper's 2-D mixture of 40 equal modes, in coordinates divided by 50."""

    config: ClassVar[dict[str, float]] = {"sigma_min": 0.01, "sigma_max": 10.0, "sigma_data": 0.5, "rho": 7.0}
    std = math.log1p(math.exp(2.0)) / 50

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.locs = ((torch.rand(40, 2, generator=generator) - 0.5) * 2 * 40).double() / 50

    def denoise(self, x_t: Tensor, levels: Sequence[Level], *_: Any) -> Tensor:
        x, variance = x_t.flatten(1), self.std**2 + levels[0].sigma ** 2
        share = torch.softmax(-torch.cdist(x, self.locs).square() / (2 * variance), dim=1)
        centre = share @ self.locs
        return (centre + self.std**2 / variance * (x - centre)).view(x_t.shape)

    def masses(self, power: float) -> Tensor:
        """Mass of the density's power nearest to each mode, on a grid."""
        axis = torch.linspace(-1, 1, 501, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        far = torch.cdist(points, self.locs)
        log_q = torch.logsumexp(-far.square() / (2 * self.std**2), dim=1)
        density = (power * (log_q - log_q.max())).exp()
        masses = torch.zeros(40, dtype=torch.float64).index_add(0, far.argmin(1), density)
        return masses / masses.sum()


def forty_claims(particles: int, steps: int, seeds: int) -> list[Claim]:
    """Total variation of the modes' masses at a third of the temperature."""
    model, power = Forty(), 3.0
    wanted = model.masses(power)

    def variation(seed: int, weigh_to: float) -> float:
        guidance = fkc(particles, target="anneal", scale=power, weigh_to=weigh_to)
        samples = particles_of(model, guidance, model.config, steps, seed, (1, 1, 2))
        counts = torch.bincount(torch.cdist(samples, model.locs).argmin(1), minlength=40)
        return (counts / len(samples) - wanted).abs().sum().item() / 2

    drift, corrected = (mean(variation(k, to) for k in range(seeds)) for to in (0.0, 1.0))
    detail = f"TV {corrected:.3f}, without weights {drift:.3f}"
    return [Claim("fkc anneal b=3, 40 modes: TV over that of the drift", corrected / drift, 0.6, detail)]


def round_trips(seeds: int, counts: Sequence[int] = (10, 20, 50)) -> dict[str, dict[int, float]]:
    """RMSE to the source after inverting it and sampling it again, by method and steps."""
    toy = Toy(dtype="float64")
    methods: dict[str, Guidance] = {
        "none": NoGuidance(),
        "cfgpp lambda=0.6": CFGPP(scale=0.6),
        "cfgpp as strong as w=7.5": CFGPP(cfg_scale=7.5),
        "cfg w=7.5": CFG(scale=7.5),
    }
    sources = [
        sample(toy, "high", guidance=NoGuidance(), steps=200, seeds=(seed,)).latents for seed in range(seeds)
    ]

    def error(source: Tensor, guidance: Guidance, steps: int) -> float:
        back = edit(toy, source, "high", "high", guidance=guidance, steps=steps).latents
        return (back - source).square().mean().sqrt().item()

    return {
        name: {steps: mean(error(source, guidance, steps) for source in sources) for steps in counts}
        for name, guidance in methods.items()
    }


def round_trip_claims(errors: dict[str, dict[int, float]]) -> list[Claim]:
    """Held at the official code's 10 steps; with more steps, and at equal strength, it is reported only."""
    claims: list[Claim] = []
    for steps, cfg in errors["cfg w=7.5"].items():
        for name in ("cfgpp lambda=0.6", "cfgpp as strong as w=7.5"):
            held = steps == 10 and name == "cfgpp lambda=0.6"
            detail = f"RMSE {errors[name][steps]:.3f}, cfg {cfg:.3f}, unguided {errors['none'][steps]:.3f}"
            claims.append(
                Claim(f"round trip, {steps} steps: {name} over cfg w=7.5", errors[name][steps] / cfg,
                      1.0 if held else None, detail)
            )  # fmt: skip
    return claims


def identity_claims() -> list[Claim]:
    """Methods that must be CFG at the setting that takes their own part away."""
    toy = Toy(dtype="float64")

    def final(guidance: Guidance) -> Tensor:
        noise = Noise(1, (3, 8, 8), dtype=torch.float64)
        cond = Conditions(toy.cond("high"), toy.cond(""))
        plan = compile_plan("ddim", 25, toy.family, toy.scheduler_config)
        return drive(toy, [run(plan, guidance, cond, noise)])[0][0].latents

    cfg = final(CFG(scale=7.5))
    apg = final(APG(scale=7.5, eta=1, momentum=0, norm_threshold=0))
    adaptive = final(Adaptive(scale=7.5, threshold=1.1))
    return [
        Claim("apg at eta 1, no cap, no momentum: to cfg", (apg - cfg).abs().max().item(), 1e-12),
        Claim("adaptive, threshold above 1: elements not those of cfg", float((adaptive != cfg).sum()), 0.0),
    ]


def finite_difference_claims() -> list[Claim]:
    """The classifier's gradients against central differences of the objective, relative to the largest."""
    toy = Toy(dtype="float64", size_px=8)
    labels = tuple(toy.cond(name) for name in ("high", "low", "middle"))
    cond = Conditions(labels[0], toy.cond(""), labels[1:])
    plan = compile_plan("ddim", 10, toy.family, toy.scheduler_config)
    x = torch.randn(1, 3, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def denoised(at: Tensor) -> Tensor:
        return answer_one(toy, Denoise(at, plan.steps[5].now, (labels[0],)))[0]

    def objective(at: Tensor, gradient: str) -> float:
        shown = denoised(at) if gradient == "x_t" else at
        logits = answer_one(toy, Classify(answer_one(toy, Decode(shown)), labels))
        return float(0.7 * logits[0, 0] - (0.28 * logits).logsumexp(1))

    claims: list[Claim] = []
    for gradient in ("denoised", "x_t"):
        guidance = Classifier(gradient=gradient, temperature=0.7, joint=0.4, scale=2.0)  # pyright: ignore
        step, pos = plan.steps[5], denoised(x)
        guide = guidance.guide(x, step, cond, guidance.start())
        reply: Any = None
        try:
            while True:
                reply = answer_one(toy, guide.send(reply))
        except StopIteration as stop:
            g = (stop.value.denoised - pos) / (2.0 * step.now.sigma**2 / step.now.alpha)
        at, slopes = pos if gradient == "denoised" else x, torch.zeros_like(x)
        for k in range(3):
            nudge = torch.zeros_like(x)
            nudge[0, k] = 1e-5
            slopes[0, k] = (objective(at + nudge, gradient) - objective(at - nudge, gradient)) / 2e-5
        apart = ((g - slopes).abs().max() / slopes.abs().max()).item()
        claims.append(Claim(f"classifier, gradient {gradient}: to finite differences", apart, 1e-6))
    return claims


def plot(path: Path, particles: int, steps: int, errors: dict[str, dict[int, float]]) -> None:
    """Densities on the left, round trips on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(16, 3.8))
    for axis, (target, powers) in zip(axes, TARGETS.items(), strict=False):
        b = powers[-1]
        density = (exact(target, b) - exact(target, b).max()).exp()
        axis.plot(GRID, density / density.sum() / (GRID[1] - GRID[0]), "k", lw=1, label="exact")
        for to, label in ((0.0, "drift alone"), (1.0, "FKC")):
            guidance = fkc(particles, target=target, scale=b, weigh_to=to)
            samples = particles_of(LINE, guidance, VE, steps, 0, (1, 1, 1)).flatten()
            axis.hist(samples, bins=80, range=(-2.5, 2.5), density=True, histtype="step", label=label)
        axis.set(xlim=(-2.5, 2.5), title=f"{target}, b = {b:g}", yticks=[])
        axis.legend(frameon=False, fontsize=8)
    for name, by_steps in errors.items():
        axes[-1].plot(list(by_steps), list(by_steps.values()), "o-", label=name)
    axes[-1].set(title="round trip: RMSE to the source", xlabel="DDIM steps each way", xscale="log", ylim=0)
    axes[-1].set_xticks(list(next(iter(errors.values()))), [str(n) for n in next(iter(errors.values()))])
    axes[-1].minorticks_off()
    axes[-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--particles", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plot", type=Path, default=Path("docs/results/exactness.png"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sizes = (options.particles, options.steps, options.seeds)
    errors = round_trips(options.seeds)
    parts: list[Callable[[], list[Claim]]] = [
        lambda: line_claims(*sizes),
        lambda: forty_claims(*sizes),
        lambda: round_trip_claims(errors),
        identity_claims,
        finite_difference_claims,
    ]
    claims = [claim for part in parts for claim in part()]
    for claim in claims:
        verdict = "      " if claim.limit is None else "holds " if claim.holds else "FAILS "
        limit = "" if claim.limit is None else f"<= {claim.limit:<8g}"
        print(f"{verdict} {claim.name:<58} {claim.measured:<10.3g} {limit:<12} {claim.detail}")
    plot(options.plot, options.particles, options.steps, errors)
    rows = [asdict(claim) | {"holds": claim.holds} for claim in claims]
    print(json.dumps({"particles": sizes[0], "steps": sizes[1], "seeds": sizes[2], "claims": rows}))
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
