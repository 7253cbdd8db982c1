from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from guidance.asks import Conditions, Denoise, Level, Step
from guidance.cfg import CFG
from guidance.fkc import FKC
from samplers import resample
from samplers.cards import CARDS, problems
from samplers.loop import Observed
from samplers.loop import run as run_plan
from samplers.models.toy import Toy
from samplers.noise import Noise
from samplers.schedule import Schedule
from samplers.steps import euler_a, sde
from samplers.steps.row import Plan
from tests import analytic
from tests.analytic import (
    CONDITIONS,
    FAMILIES,
    NEGATIVE,
    POSITIVE,
    TARGET,
    Answerer,
    start,
    steps_of,
    ve_levels,
)
from tests.golden.arrays import load

EDM, VE = load("fkc_edm2"), load("fkc_anneal")
LINE = Toy(dtype="float64", family="ve", channels=1, size_px=8)
GRID = torch.linspace(-4, 4, 8001, dtype=torch.float64)


def fkc(particles: int, **parameters: Any) -> FKC:
    """FKC with as many particles as statistics want; a request may have 64."""
    plain = FKC(**({"keep": "all"} | parameters))
    return plain.model_copy(update={"particles": particles})


def plan_of(levels: Sequence[Level], rule: ModuleType = sde) -> Plan:
    spans = tuple(pairwise(levels))
    return Plan(
        tuple(rule.table(Schedule(spans, levels[0].sigma, lambda s: Level(1.0, s, s)))), levels[0].sigma
    )


def particles_of(
    guidance: FKC,
    levels: Sequence[Level],
    answerer: Answerer,
    rule: ModuleType = sde,
    seed: int = 0,
    shape: tuple[int, int, int] = (1, 1, 1),
    observe: Callable[[Observed], None] | None = None,
) -> Tensor:
    noise = Noise(seed, shape, guidance.particles, dtype=torch.float64)
    # The power is that of the unconditional mixture, whose modes weigh most alike.
    cond = Conditions(NEGATIVE if guidance.target == "anneal" else POSITIVE, NEGATIVE, (TARGET,))
    return answerer.finish(run_plan(plan_of(levels, rule), guidance, cond, noise, observe)).latents


class Replay:
    """Recorded draws, in their order."""

    def __init__(self, normals: Sequence[Tensor], uniforms: Sequence[float] = ()) -> None:
        self._normals: Iterator[Tensor] = iter(normals)
        self._uniforms = iter(uniforms)

    def draw(self) -> Tensor:
        return next(self._normals)

    def uniform(self) -> float:
        return next(self._uniforms)


def golden_levels() -> list[Level]:
    return [*(Level(1.0, s, s) for s in EDM["sde_fkc|t_in"].tolist()), Level(1.0, 0.0, 0.0)]


def unweighed() -> list[Tensor]:
    """The particles at each step from the recorded noise, never weighed."""
    z = {key.removeprefix("sde_cfg|"): value for key, value in EDM.items() if key.startswith("sde_cfg|")}
    seen: list[Tensor] = []
    noise = Replay([z["init_noise"][:, 0][:, None], *z["noise"][:, :, 0][:, :, None]])
    guidance = fkc(8, scale=2.5, weigh_to=0.0)
    Answerer().finish(
        run_plan(plan_of(golden_levels()), guidance, CONDITIONS, noise, lambda row: seen.append(row.x_t))
    )
    return seen


def test_the_sde_follows_the_official_sampler_without_correction() -> None:
    assert torch.allclose(torch.stack(unweighed()), EDM["sde_cfg|x_in"], atol=1e-9, rtol=1e-12)


def test_weights_and_choices_are_the_official_ones() -> None:
    """Every row from the recorded particles: weights, survivors, and where the survivors stand next."""
    z = {key.removeprefix("sde_fkc|"): value for key, value in EDM.items() if key.startswith("sde_fkc|")}
    plan, guidance = plan_of(golden_levels()), fkc(8, scale=2.5, clamp=1.0, resample_below=1.0)
    for i in range(15):
        x, row = z["x_in"][i], plan.rows[i]
        prediction = Answerer().finish(guidance.guide(x, plan.steps[i], CONDITIONS, None))
        assert prediction.log_weight is not None
        assert torch.allclose(prediction.log_weight, z["logits"][i], atol=1e-9, rtol=0)
        chosen = resample.systematic(prediction.log_weight, z["u"][i].item())
        assert chosen.tolist() == z["choice"][i].tolist()
        after = row.a * x + row.b * prediction.denoised + row.noise * z["noise"][i]
        assert torch.allclose(after[chosen], z["x_in"][i + 1], atol=1e-9, rtol=1e-12)


def annealing(power: str, time: str) -> list[tuple[Tensor, Tensor]]:
    """Ours and theirs: the drift, and the rate of the log-weight.

    Their drift is per unit of time: `g^2 b s` and `g^2 b (b - 1) / 2 |s|^2`, where ours is per step.
    """
    g, h = VE[f"ve|t{time}|g"].item(), VE[f"ve|t{time}|h"].item()
    level = Level(1.0, h**0.5, 0)
    step = Step(0, 2, level, Level(1.0, 0.9 * level.sigma, 0))
    x = VE["ve|x"].view(6, 1, 1, 2)
    cond = Conditions(NEGATIVE, NEGATIVE)  # the official test takes the unconditional mixture
    prediction = Answerer().finish(fkc(6, target="anneal", scale=float(power)).guide(x, step, cond, None))
    assert prediction.log_weight is not None
    drift = g * g * (prediction.denoised - x) / h
    lasts = 2 * 0.1 * h / (g * g)  # how long the step lasts, in their time
    weight = prediction.log_weight / lasts
    key = f"ve|b{power}|target|t{time}"
    return [(drift.view(6, 2), VE[f"{key}|drift_x"]), (weight, VE[f"{key}|drift_a"])]


@pytest.mark.parametrize("time", ["0.9", "0.5", "0.1"])
@pytest.mark.parametrize("power", ["1.0", "2.5"])
def test_annealing_has_the_official_drift_and_weight(power: str, time: str) -> None:
    for ours, theirs in annealing(power, time):
        assert torch.allclose(ours, theirs, atol=1e-9, rtol=1e-9)


def exact(target: str, b: float) -> Tensor:
    """Log of the target density at `GRID`, unnormalised."""
    clean = Level(1.0, 0.0, 0.0)
    pos, neg, low = (
        LINE.log_density(GRID.view(-1, 1, 1, 1), clean, c).flatten() for c in (POSITIVE, NEGATIVE, TARGET)
    )
    return {"cfg": (1 - b) * neg + b * pos, "anneal": b * neg, "product": b * (pos + low)}[target]


def wasserstein(samples: Tensor, log_density: Tensor) -> float:
    """W1 between samples and a density on `GRID`, by quantiles."""
    cumulated = (log_density - log_density.max()).exp().cumsum(0)
    places = (torch.arange(samples.numel(), dtype=torch.float64) + 0.5) / samples.numel() * cumulated[-1]
    quantiles = GRID[torch.searchsorted(cumulated, places).clamp(max=len(GRID) - 1)]
    return (samples.flatten().sort().values - quantiles).abs().mean().item()


@pytest.mark.parametrize(
    ("target", "b", "rule", "particles"),
    [
        ("cfg", 3.0, sde, 2000),
        ("cfg", 3.0, euler_a, 2000),
        pytest.param("anneal", 2.0, sde, 4000, marks=pytest.mark.slow),
        pytest.param("product", 1.0, sde, 4000, marks=pytest.mark.slow),
    ],
    ids=["cfg-sde", "cfg-euler_a", "anneal-sde", "product-sde"],
)
@pytest.mark.timeout(600)
def test_samples_its_target_where_the_drift_alone_does_not(
    target: str, b: float, rule: ModuleType, particles: int
) -> None:
    """In distance W1, the mean of two seeds. Over 8 seeds it is 0.014, 0.025, 0.029 and 0.058."""

    def distance(seed: int, weigh_to: float) -> float:
        guidance = fkc(particles, target=target, scale=b, weigh_to=weigh_to)
        samples = particles_of(guidance, ve_levels(150, high=10.0), Answerer(LINE), rule, seed)
        return wasserstein(samples, exact(target, b))

    drift = distance(0, weigh_to=0.0)
    assert drift > 0.1
    assert (distance(0, weigh_to=1.0) + distance(2, weigh_to=1.0)) / 2 < 0.45 * drift


class Gaussians(Answerer):
    """Two 1-D Gaussians, the conditional one (mean, std) and the unconditional one."""

    def __init__(self, conditional: tuple[float, float], unconditional: tuple[float, float]) -> None:
        super().__init__()
        self._by_key = {POSITIVE.key: conditional, NEGATIVE.key: unconditional}

    def answer(self, ask: Denoise) -> list[Tensor]:
        out = []
        for cond in ask.conds:
            mean, std = self._by_key[cond.key]
            out.append(mean + std**2 / (std**2 + ask.level.sigma**2) * (ask.x_t - mean))
        return out


def test_equal_variances_need_no_correction() -> None:
    """The geometric average is N((1-w) m_u + w m_c, s^2), and all particles have the same weight."""
    answerer = Gaussians((1.0, 0.5), (0.0, 0.5))
    x = start(ve_levels(), 5, shape=(1, 1, 1))
    for step in steps_of(ve_levels()):
        prediction = answerer.finish(fkc(5, scale=2.0).guide(x, step, CONDITIONS, None))
        assert prediction.log_weight is not None
        assert torch.allclose(prediction.log_weight, prediction.log_weight[:1].expand(5), rtol=1e-9)
    samples = particles_of(fkc(2000, scale=2.0), ve_levels(200), answerer)
    assert samples.mean().item() == pytest.approx(2.0, abs=0.05)
    assert samples.std().item() == pytest.approx(0.5, abs=0.03)


def test_unequal_variances_get_the_precision_that_cfg_misses() -> None:
    """Precision (1-w)/s_u^2 + w/s_c^2, mean by the weighed precisions."""
    answerer = Gaussians((1.0, 0.5), (0.0, 1.0))
    w = 2.0
    precision = (1 - w) / 1.0 + w / 0.25
    mean, std = (w * 1.0 / 0.25) / precision, precision**-0.5
    corrected = particles_of(fkc(3000, scale=w, resample_below=1.0), ve_levels(200), answerer)
    assert corrected.mean().item() == pytest.approx(mean, abs=0.03)
    assert corrected.std().item() == pytest.approx(std, abs=0.02)
    drift = particles_of(fkc(3000, scale=w, weigh_to=0.0), ve_levels(200), answerer)
    assert abs(drift.mean().item() - mean) > 0.04


class Forty(Answerer):
    """The paper's 2-D mixture of 40 modes, in coordinates divided by 50."""

    locs, std = VE["gmm40|locs"] / 50, VE["gmm40|std"][0].item() / 50

    def answer(self, ask: Denoise) -> list[Tensor]:
        x = ask.x_t.flatten(1)
        variance = self.std**2 + ask.level.sigma**2
        share = torch.softmax(-torch.cdist(x, self.locs).square() / (2 * variance), dim=1)
        mean = share @ self.locs
        return [(mean + self.std**2 / variance * (x - mean)).view(ask.x_t.shape)] * len(ask.conds)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_forty_modes_keep_their_masses_when_annealed() -> None:
    """A third of the temperature: without weights some modes take over (total variation 0.38)."""
    sigmas = torch.logspace(1, -2, 400, dtype=torch.float64).tolist()
    levels = [*(Level(1.0, s, s) for s in sigmas), Level(1.0, 0.0, 0.0)]
    expected = expected_masses()

    def variation(seed: int, weigh_to: float) -> float:
        guidance = fkc(2000, target="anneal", scale=3.0, weigh_to=weigh_to)
        samples = particles_of(guidance, levels, Forty(), shape=(1, 1, 2), seed=seed).flatten(1)
        masses = torch.bincount(torch.cdist(samples, Forty.locs).argmin(1), minlength=40) / len(samples)
        return (masses - expected).abs().sum().item() / 2

    drift = variation(1, weigh_to=0.0)
    assert drift == pytest.approx(0.384, abs=0.03)  # the official code: 0.384
    assert (variation(1, weigh_to=1.0) + variation(2, weigh_to=1.0)) / 2 < 0.6 * drift


def expected_masses() -> Tensor:
    """Mass of q^3 nearest to each mode, on a grid."""
    axis = torch.linspace(-1, 1, 501, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    log_q = torch.logsumexp(-torch.cdist(points, Forty.locs).square() / (2 * Forty.std**2), dim=1)
    density = (3 * (log_q - log_q.max())).exp()
    nearest = torch.cdist(points, Forty.locs).argmin(1)
    masses = torch.zeros(40, dtype=torch.float64).index_add(0, nearest, density)
    return masses / masses.sum()


@pytest.mark.parametrize(("b", "sign"), [(0.0, 0), (0.5, -1), (1.0, 0), (3.0, 1)])
def test_the_sign_of_the_weights_follows_the_scale(b: float, sign: int) -> None:
    x, step = start(ve_levels()), steps_of(ve_levels())[4]
    prediction = Answerer().finish(FKC(scale=b).guide(x, step, CONDITIONS, None))
    assert prediction.log_weight is not None
    assert prediction.log_weight.sign().tolist() == [sign] * 3


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_moves_as_cfg_does(family: str) -> None:
    levels = FAMILIES[family]()
    x, step = start(levels), steps_of(levels)[2]
    fkc_, cfg = (Answerer().finish(g.guide(x, step, CONDITIONS, None)) for g in (FKC(scale=3), CFG(scale=3)))
    assert torch.equal(fkc_.denoised, cfg.denoised)


def test_a_vp_level_weighs_as_the_ve_level_it_is() -> None:
    vp = analytic.vp_levels()
    ve = [Level(1.0, level.sigma_ve, 0) for level in vp]
    x = start(vp)
    for target in ("cfg", "anneal", "product"):
        guidance = FKC(scale=2, target=target)  # pyright: ignore[reportArgumentType]
        on_vp = Answerer().finish(guidance.guide(x, steps_of(vp)[3], CONDITIONS, None))
        on_ve = Answerer().finish(guidance.guide(x / vp[3].alpha, steps_of(ve)[3], CONDITIONS, None))
        assert on_vp.log_weight is not None
        assert on_ve.log_weight is not None
        assert torch.allclose(on_vp.log_weight, on_ve.log_weight, rtol=1e-9)
        assert torch.allclose(on_vp.denoised, on_ve.denoised, atol=1e-9)


def test_weights_count_inside_their_interval_only() -> None:
    x = start(ve_levels())
    weighed = [
        Answerer().finish(FKC(weigh_from=0.25, weigh_to=0.75).guide(x, step, CONDITIONS, None)).log_weight
        for step in steps_of(ve_levels())
    ]
    assert [w is not None for w in weighed] == [False, False, True, True, True, True, False, False]


def test_the_starting_noise_has_the_targets_width() -> None:
    assert FKC(scale=4).population().prior_scale == 1
    assert FKC(scale=4, target="anneal").population().prior_scale == 0.5
    assert FKC(scale=2, target="product").population().prior_scale == 0.5


def test_needs_follow_the_target() -> None:
    assert FKC().requires().negative
    assert FKC(target="product").requires().classes
    assert FKC(target="product", second="weak").requires().weak
    assert not FKC(target="anneal").requires().negative
    x, step = start(ve_levels()), steps_of(ve_levels())[0]
    with pytest.raises(ValueError, match="classes"):
        Answerer().finish(FKC(target="product").guide(x, step, Conditions(POSITIVE, NEGATIVE), None))
    asks = Answerer()
    asks.finish(FKC(target="product", second="weak").guide(x, step, CONDITIONS, None))
    assert [ask.network for ask in asks.asks] == ["main", "weak"]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_sampler_without_noise_is_refused() -> None:
    found = problems(FKC(), CARDS["ddim"], "vp", {"weak"})
    assert any("adds noise" in sentence and "euler_a" in sentence for sentence in found)
    assert not problems(FKC(), CARDS["euler_a"], "vp", set())


def test_cost_counts_the_particles() -> None:
    steps = steps_of(ve_levels())
    assert FKC(particles=8).nfe(steps) == 2 * 8 * 8
    assert FKC(particles=8, target="anneal").nfe(steps) == 8 * 8


@pytest.mark.parametrize(
    "wrong", [{"weigh_from": 0.5, "weigh_to": 0.2}, {"target": "anneal", "scale": 0}, {"particles": 0}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="|".join(wrong)):
        FKC(**wrong)
