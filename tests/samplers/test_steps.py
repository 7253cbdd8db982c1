"""Each sampler's table against diffusers' own scheduler, with the same network and the same noise.

The network is a smooth function of its input and time, so a wrong level, timestep or coefficient shows. Our
runs are in float32, as served; diffusers keeps its levels, and some of its samples, in float32 too. So
differences are relative to the largest value of its result, and nothing below 1e-6 means anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from guidance.asks import Cond, Conditions, Denoise, Level
from guidance.none import NoGuidance
from samplers.cards import CARDS, Family
from samplers.loop import run
from samplers.noise import Noise
from samplers.steps import Plan, compile_plan
from samplers.steps.euler_a import split
from tests.conftest import COUNTERPARTS, SD_SCHEDULER

SHAPE, SEED = (4, 4, 4), 5
NOBODY = Conditions(Cond("", None), Cond("", None))
SD = {"num_train_timesteps": 1000, **SD_SCHEDULER}
CONFIGS: dict[str, dict[str, Any]] = {
    f"{short}, {spacing}": SD | {"timestep_spacing": spacing, "prediction_type": prediction}
    for short, prediction in (("eps", "epsilon"), ("v", "v_prediction"))
    for spacing in ("leading", "linspace", "trailing")
}
GRIDS: dict[str, dict[str, Any]] = {
    "karras": CONFIGS["eps, leading"] | {"use_karras_sigmas": True},
    "karras, v": CONFIGS["v, trailing"] | {"use_karras_sigmas": True},
    "exponential": CONFIGS["eps, linspace"] | {"use_exponential_sigmas": True},
}
ZERO_SNR = CONFIGS["v, trailing"] | {"rescale_betas_zero_snr": True}
EDM = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0}


def network(x: Tensor, timestep: Tensor | float) -> Tensor:
    """Something smooth and time-dependent in the place of a UNet, in float64."""
    return torch.tanh(0.8 * x.double() + float(timestep) / 700 - 0.3) + 0.2 * x.double().roll(1, -1)


def estimate(x: Tensor, level: Level, prediction: str) -> Tensor:
    """`denoised` from the network's output, as an adapter makes it."""
    out = network(x, level.timestep)
    match prediction:
        case "v_prediction":
            return level.alpha * x - level.sigma * out
        case "flow":
            return x - level.sigma * out
        case "edm":
            spread = math.hypot(level.sigma, EDM["sigma_data"])
            out = network(x / spread, level.timestep)
            return (EDM["sigma_data"] / spread) ** 2 * x + level.sigma * EDM["sigma_data"] / spread * out
        case _:
            return (x - level.sigma * out) / level.alpha


def finish(plan: Plan, denoise: Callable[[Tensor, Level], Tensor], dtype: torch.dtype) -> Tensor:
    """Drive one unguided run to its latents."""
    sampling = run(plan, NoGuidance(), NOBODY, Noise(SEED, SHAPE, dtype=dtype))
    answer: Any = None
    while True:
        try:
            ask = sampling.send(answer)
        except StopIteration as stop:
            return stop.value.latents
        assert isinstance(ask, Denoise)
        answer = [denoise(ask.x_t, ask.level)]


def ours(
    sampler: str,
    steps: int,
    family: Family,
    config: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    prediction = {"flow": "flow", "ve": "edm"}.get(family) or config["prediction_type"]
    plan = compile_plan(sampler, steps, family, config)
    return finish(plan, lambda x, level: estimate(x, level, prediction), dtype)


def theirs(scheduler: Any, steps: int, start: float | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    scheduler.set_timesteps(steps)
    x = torch.randn((1, *SHAPE), generator=generator).double()
    x = x * (scheduler.init_noise_sigma if start is None else start)
    takes_noise = any(kind in type(scheduler).__name__ for kind in ("Ancestral", "DDPM", "LCM"))
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        noise = {"generator": generator} if takes_noise else {}
        out = network(scaled, timestep)
        if takes_noise:  # it draws noise in the network's precision, or in the sample's
            out = out.float()
        if "LCM" in type(scheduler).__name__:
            x = x.float()
        x = scheduler.step(out, timestep, x, **noise).prev_sample.double()
    return x


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("sampler", COUNTERPARTS)
def test_it_is_diffusers_scheduler(sampler: str, config: str, steps: int) -> None:
    scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(CONFIGS[config])
    assert apart(ours(sampler, steps, "vp", CONFIGS[config]), theirs(scheduler, steps)) < 1e-5


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "unipc", "heun"])
def test_other_grids_are_diffusers(sampler: str, grid: str, steps: int) -> None:
    scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(GRIDS[grid])
    assert apart(ours(sampler, steps, "vp", GRIDS[grid]), theirs(scheduler, steps)) < 1e-5


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
@pytest.mark.parametrize("sampler", [name for name in COUNTERPARTS if name != "heun"])
def test_zero_terminal_snr_is_diffusers(sampler: str, steps: int) -> None:
    """diffusers' Heun does not know it; its Euler rounds samples of size 4096 to float32, 2e-4 of a unit."""
    scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(ZERO_SNR)
    reference = theirs(scheduler, steps)
    bound = 2e-4 if sampler == "euler" else 1e-5
    assert apart(ours(sampler, steps, "vp", ZERO_SNR), reference) < bound


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_an_end_above_zero_is_diffusers(sampler: str, steps: int) -> None:
    """There the order of the last step shows, which depends on the number of steps."""
    config = CONFIGS["v, trailing"] | {"final_sigmas_type": "sigma_min"}
    scheduler = getattr(diffusers, COUNTERPARTS[sampler]).from_config(config)
    assert apart(ours(sampler, steps, "vp", config), theirs(scheduler, steps)) < 1e-5


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
@pytest.mark.parametrize("extra", [{"shift": 1.0}, {"shift": 3.0}, {"shift": 3.0, "use_karras_sigmas": True}])
def test_flow_euler_is_diffusers(extra: dict[str, Any], steps: int) -> None:
    config = {"num_train_timesteps": 1000} | extra
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)
    assert apart(ours("flow_euler", steps, "flow", config), theirs(scheduler, steps, start=1.0)) < 1e-5


@pytest.mark.parametrize("steps", [5, 10, 20, 30])
@pytest.mark.parametrize(
    ("sampler", "name"), [("euler", "EDMEulerScheduler"), ("dpmpp_2m", "EDMDPMSolverMultistepScheduler")]
)
def test_edm_is_diffusers(sampler: str, name: str, steps: int) -> None:
    """Up to the start: the paper's is sigma_max, diffusers' sqrt(sigma_max^2 + 1)."""
    reference = theirs(getattr(diffusers, name).from_config(EDM), steps, start=EDM["sigma_max"])
    assert apart(ours(sampler, steps, "ve", EDM), reference) < 1e-5


def test_dpmpp_2s_a_is_the_published_algorithm() -> None:
    """diffusers has no counterpart; here it is in VE coordinates with the exponentials of its paper."""
    config, steps = CONFIGS["eps, linspace"], 12
    levels = compile_plan("euler", steps, "vp", config).levels
    between = [row.now for row in compile_plan("dpmpp_2s_a", steps, "vp", config).rows[1::2]]
    noise = Noise(SEED, SHAPE, dtype=torch.float64)
    x = noise.draw() * levels[0].sigma_ve * compile_plan("euler", steps, "vp", config).init_scale
    x = x / levels[0].sigma

    def at(x_ve: Tensor, level: Level) -> Tensor:
        return estimate(x_ve * level.alpha, level, "epsilon")

    for i, (now, then) in enumerate(pairwise(levels)):
        if then.sigma == 0:
            x = at(x, now)
            break
        down, up = split(now.sigma_ve, then.sigma_ve)
        t, t_next = -math.log(now.sigma_ve), -math.log(down)
        h = t_next - t
        middle = math.exp(-(t + h / 2))
        assert between[i].sigma_ve == pytest.approx(middle, rel=1e-9)
        x_2 = middle / now.sigma_ve * x - math.expm1(-h / 2) * at(x, now)
        x = down / now.sigma_ve * x - math.expm1(-h) * at(x_2, between[i]) + up * noise.draw()
    assert apart(ours("dpmpp_2s_a", steps, "vp", config, torch.float64), x) < 1e-9


def test_sde_has_the_marginals_drift_and_spread() -> None:
    """For data at 0 (R = 0) each row of the SDE must keep the spread of the level up to O(step^2)."""
    rows = compile_plan("sde", 900, "vp", CONFIGS["eps, linspace"]).rows
    for row in rows[:-1]:
        spread = math.hypot(row.a * row.now.sigma, row.noise)
        left = 1 - row.next.sigma_ve / row.now.sigma_ve
        assert spread == pytest.approx(row.next.sigma, rel=4 * left**2 + 1e-9)


@pytest.mark.parametrize("sampler", [name for name, card in CARDS.items() if "vp" in card.families])
def test_every_solver_lands_on_an_estimate_that_stays(sampler: str) -> None:
    plan = compile_plan(sampler, 10, "vp", CONFIGS["v, trailing"] | {"set_alpha_to_one": True})
    target = torch.full((1, *SHAPE), 0.7, dtype=torch.float64)
    assert torch.allclose(finish(plan, lambda x, level: target, torch.float64), target, atol=1e-9)


def test_errors_say_what_would_work() -> None:
    with pytest.raises(ValueError, match="there is no sampler 'plms'; use one of: ddim"):
        compile_plan("plms", 10, "vp", SD)
    with pytest.raises(ValueError, match="does not fit a flow model; use one of: flow_euler"):
        compile_plan("ddim", 10, "flow", {"shift": 1.0})
    with pytest.raises(ValueError, match="at least 1"):
        compile_plan("ddim", 0, "vp", SD)
    with pytest.raises(ValueError, match="'lcm' takes at most 50 steps, not 51"):
        compile_plan("lcm", 51, "vp", SD)
    for sampler in ("ddim", "euler", "dpmpp_2m"):
        with pytest.raises(ValueError, match="1000 steps are too many for this model's noise schedule"):
            compile_plan(sampler, 1000, "vp", CONFIGS["eps, leading"])
