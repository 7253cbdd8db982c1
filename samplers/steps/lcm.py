"""LCM: the consistency model's estimate of the clean sample, then noise of its own down to the next level.

    D   = c_skip x_t + c_out R,   c_skip = d^2 / (s^2 + d^2),   c_out = s / sqrt(s^2 + d^2)
    x_s = alpha_s D + sigma_s n

with d = 0.5 and s the timestep times `timestep_scaling`; the last step ends in D. A run visits every k-th of
the 50 timesteps that the model was distilled at. Source: arXiv 2310.04378, algorithm 1; diffusers 0.42
`LCMScheduler`. Deviates: a run from a picture skips steps of this grid; diffusers can spread a shorter one.
"""

from __future__ import annotations

import math

from samplers.schedule import Schedule
from samplers.steps.row import Row

SCHEDULER = "LCMScheduler"
SIGMA_DATA = 0.5


def table(schedule: Schedule) -> list[Row]:
    """One row per step; the last one, to the clean sample, adds no noise."""
    rows: list[Row] = []
    for now, then in schedule.spans:
        scaled = now.timestep * schedule.timestep_scaling
        spread = math.hypot(scaled, SIGMA_DATA)
        whole = then.alpha * scaled / spread
        kept = then.alpha * (SIGMA_DATA / spread) ** 2
        rows.append(Row(now, then, a=kept, b=whole, shift=whole, noise=then.sigma))
    return rows
