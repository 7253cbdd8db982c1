"""Euler ancestral: Euler down to `sigma_down`, then noise up to the next level, in VE coordinates.

    sigma_up^2   = sigma'^2 (sigma^2 - sigma'^2) / sigma^2
    sigma_down^2 = sigma'^2 - sigma_up^2 = sigma'^4 / sigma^2
    x'           = (sigma_down / sigma) x + (1 - sigma_down / sigma) R + sigma_up n

Source: k-diffusion's `sample_euler_ancestral` with eta = 1; diffusers 0.42 `EulerAncestralDiscreteScheduler`.
"""

from __future__ import annotations

import math

from samplers.schedule import Schedule
from samplers.steps.row import Row

SCHEDULER = "EulerAncestralDiscreteScheduler"


def split(sigma: float, sigma_next: float) -> tuple[float, float]:
    """`(sigma_down, sigma_up)` of the ancestral step, both in VE units."""
    return sigma_next**2 / sigma, sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)


def table(schedule: Schedule) -> list[Row]:
    """One row per step; the last one, to sigma 0, adds no noise."""
    rows: list[Row] = []
    for now, then in schedule.spans:
        down, up = split(now.sigma_ve, then.sigma_ve)
        ratio = down / now.sigma_ve
        rows.append(Row.from_ve(now, then, a=ratio, b=1 - ratio, noise=up))
    return rows
