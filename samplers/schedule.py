"""Noise levels: which `alpha`, `sigma` and network time each step of a run has.

Betas, spacings, shifts and Karras grids are diffusers': its schedulers are built from the model's own
`scheduler_config` and read; only the coordinates change. Everything is float64 from there on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import diffusers
import numpy as np

from guidance.asks import Level
from samplers.cards import Family

Spans = Sequence[tuple[Level, Level]]
"""The (now, next) levels of the user's steps, noisiest first."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The (now, next) levels of every step. DDIM's `next` need not be the following step's `now`."""

    spans: Spans
    init_scale: float
    between: Callable[[float], Level]
    """The level at any `sigma_ve`, for solvers that evaluate between two steps."""
    large_variance: bool = False
    """DDPM only: its steps add noise of variance `beta`, not the posterior's (variance_type fixed_large)."""
    timestep_scaling: float = 10.0
    """LCM only: how much its boundary conditions stretch the timesteps."""


def schedule(scheduler: str, steps: int, family: Family, config: Mapping[str, Any]) -> Schedule:
    """The levels that diffusers' class `scheduler` visits in `steps` steps for a model with this config.

    Beside the scheduler's own keys a flow model's `config` may have `mu`, the shift for the picture's size,
    and `uniform_sigmas`, where its pipeline shifts evenly spaced sigmas and not the scheduler's.
    ValueError where the schedule has no room for that many steps or asks for what is not supported.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if config.get("thresholding"):
        raise ValueError(
            "the scheduler config asks for dynamic thresholding, which is not supported; set it to false"
        )
    solver = family == "flow" and config.get("use_flow_sigmas")
    flow = "DPMSolverMultistepScheduler" if solver else "FlowMatchEulerDiscreteScheduler"
    name = {"vp": scheduler, "flow": flow, "ve": "EDMEulerScheduler"}[family]
    if family == "vp" and config.get("use_flow_sigmas"):
        raise ValueError(
            "the scheduler config has flow sigmas, which a vp model does not; set use_flow_sigmas to false"
        )
    if family == "flow" and config.get("use_dynamic_shifting") and "mu" not in config:
        raise ValueError(
            "the scheduler config asks for a shift by picture size; give a fixed `shift` instead"
        )
    known = {key: value for key, value in config.items() if key not in ("mu", "uniform_sigmas")}
    built = getattr(diffusers, name).from_config(known)
    grid: dict[str, Any] = {"mu": config["mu"]} if "mu" in config else {}
    if config.get("uniform_sigmas"):
        grid["sigmas"] = np.linspace(1, 1 / steps, steps).tolist()
    built.set_timesteps(steps, **grid)
    if solver:
        return _flow_of_solver(built)
    indexed = {"DDIMScheduler": _ddim, "DDPMScheduler": _ddpm, "LCMScheduler": _lcm}
    return indexed.get(name, {"vp": _vp, "flow": _flow, "ve": _ve}[family])(built)


def vp_level(sigma_ve: float, timestep: float) -> Level:
    """The variance-preserving level with `sigma / alpha = sigma_ve`."""
    alpha = 1 / math.sqrt(1 + sigma_ve**2)
    return Level(alpha, sigma_ve * alpha, timestep)


def _too_many(steps: int) -> str:
    return f"{steps} steps are too many for this model's noise schedule; use fewer"


def _chain(levels: list[Level]) -> Spans:
    spans = tuple(pairwise(levels))
    if levels[-1].sigma and levels[-1].sigma == levels[-2].sigma:
        raise ValueError("the scheduler config repeats the last level; set final_sigmas_type to zero")
    if any(now.sigma_ve <= then.sigma_ve for now, then in spans):
        raise ValueError(_too_many(len(spans)))
    return spans


def _ddim(built: Any) -> Schedule:
    """DDIM reads alpha by training index and steps back by a fixed stride, whatever the next timestep is."""
    abar = built.alphas_cumprod.double().numpy()
    final = float(built.final_alpha_cumprod)
    stride = built.config.num_train_timesteps // built.num_inference_steps
    if int(built.timesteps.max()) >= len(abar):  # "leading" with an offset, at one step per training step
        raise ValueError(_too_many(built.num_inference_steps))

    def at(timestep: int) -> Level:
        kept = float(abar[timestep]) if timestep >= 0 else final
        return Level(math.sqrt(kept), math.sqrt(1 - kept), float(max(timestep, 0)))

    spans = tuple((at(t), at(t - stride)) for t in built.timesteps.tolist())
    return Schedule(spans, init_scale=1.0, between=_between(abar))


def _ddpm(built: Any) -> Schedule:
    """DDPM reads alpha by training index, too, and ends at the clean sample."""
    large = built.config.variance_type.startswith("fixed_large")
    return Schedule(_to_clean(built), 1.0, _between(built.alphas_cumprod.double().numpy()), large)


def _lcm(built: Any) -> Schedule:
    """LCM likewise, along the timesteps that it was distilled at."""
    between = _between(built.alphas_cumprod.double().numpy())
    return Schedule(_to_clean(built), 1.0, between, timestep_scaling=built.config.timestep_scaling)


def _to_clean(built: Any) -> Spans:
    abar = built.alphas_cumprod.double().numpy()
    if int(built.timesteps.max()) >= len(abar):
        raise ValueError(_too_many(built.num_inference_steps))
    kept = [(float(abar[t]), float(t)) for t in built.timesteps.tolist()] + [(1.0, 0.0)]
    return _chain([Level(math.sqrt(a), math.sqrt(1 - a), t) for a, t in kept])


def _vp(built: Any) -> Schedule:
    sigmas = built.sigmas.double().tolist()
    timesteps = [*built.timesteps.double().tolist(), 0.0]
    levels = [vp_level(sigma, timestep) for sigma, timestep in zip(sigmas, timesteps, strict=True)]
    # Euler's classes start from noise * init_noise_sigma in VE coordinates, the others from noise in VP ones.
    init = float(built.init_noise_sigma)
    scale = init * levels[0].alpha if built.__class__.__name__.startswith("Euler") else init
    return Schedule(_chain(levels), scale, _between(built.alphas_cumprod.double().numpy()))


def _between(abar: np.ndarray) -> Callable[[float], Level]:
    log_sigmas = 0.5 * np.log((1 - abar) / np.maximum(abar, 2.0**-24))
    indices = np.arange(len(abar), dtype=np.float64)
    return lambda sigma: vp_level(sigma, float(np.interp(math.log(sigma), log_sigmas, indices)))


def _flow(built: Any) -> Schedule:
    if built.config.invert_sigmas:
        raise ValueError("the scheduler config has inverted sigmas, which are not supported")
    train = built.config.num_train_timesteps
    levels = [Level(1 - sigma, sigma, sigma * train) for sigma in built.sigmas.double().tolist()]

    def between(sigma_ve: float) -> Level:
        sigma = sigma_ve / (1 + sigma_ve)
        return Level(1 - sigma, sigma, sigma * train)

    return Schedule(_chain(levels), init_scale=levels[0].sigma, between=between)


def _flow_of_solver(built: Any) -> Schedule:
    """The grid of a model whose own scheduler is DPM-Solver's; it tells the network whole timesteps."""
    made = zip(built.sigmas.double().tolist(), [*built.timesteps.tolist(), 0], strict=True)
    levels = [Level(1 - sigma, sigma, float(timestep)) for sigma, timestep in made]

    def between(sigma_ve: float) -> Level:
        sigma = sigma_ve / (1 + sigma_ve)
        return Level(1 - sigma, sigma, sigma * built.config.num_train_timesteps)

    return Schedule(_chain(levels), init_scale=1.0, between=between)


def _ve(built: Any) -> Schedule:
    """EDM's grid, started from `sigma_max * noise` (EDM's algorithm 1; diffusers: sqrt(sigma_max^2 + 1))."""

    def at(sigma: float) -> Level:
        return Level(1.0, sigma, 0.25 * math.log(max(sigma, 1e-9)))

    levels = [at(sigma) for sigma in built.sigmas.double().tolist()]
    return Schedule(_chain(levels), init_scale=levels[0].sigma, between=at)
