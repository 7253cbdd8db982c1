"""DPM-Solver++ 2S ancestral: a midpoint step down to `sigma_down`, then noise up to the next level.

In VE coordinates, with `sigma_mid = sqrt(sigma sigma_down)` (the middle in log sigma), D_1 the estimate at
sigma and D_2 the one at sigma_mid:

    x_2 = (sigma_mid / sigma) x + (1 - sigma_mid / sigma) D_1
    x'  = (sigma_down / sigma) x + (1 - sigma_down / sigma) D_2 + sigma_up n

The second row finds x again from x_2 and D_1. The guided shift of CFG++ is added by the second row only. The
step to sigma 0 is Euler's. Source: arXiv 2211.01095, algorithm 1; k-diffusion's `sample_dpmpp_2s_ancestral`.
"""

from __future__ import annotations

import math

from samplers.schedule import Schedule
from samplers.steps.ddim import first_order
from samplers.steps.euler_a import split
from samplers.steps.row import Row

SCHEDULER = "EulerDiscreteScheduler"


def table(schedule: Schedule) -> list[Row]:
    """Two rows per step, one for the last."""
    rows: list[Row] = []
    for now, then in schedule.spans:
        if then.sigma == 0:
            rows.append(first_order(now, then))
            continue
        sigma = now.sigma_ve
        down, up = split(sigma, then.sigma_ve)
        half = schedule.between(math.sqrt(sigma * down))
        to_half, from_half = half.sigma_ve / sigma, down / half.sigma_ve
        back = -from_half * (1 - to_half)
        rows.append(Row.from_ve(now, half, a=to_half, b=1 - to_half, shift=0.0))
        rows.append(Row.from_ve(half, then, a=from_half, b=1 - down / sigma, c=back, noise=up, began=now))
    return rows
