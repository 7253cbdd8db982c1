"""Euler-Maruyama on the reverse SDE, in VE coordinates `x / alpha`.

    x' = x + 2 sigma (sigma - sigma') s + sqrt(2 sigma (sigma - sigma')) n,   s = (R - x) / sigma^2
       = (2 r - 1) x + 2 (1 - r) R + sigma sqrt(2 (1 - r)) n,                 r = sigma' / sigma

It wants many steps: where sigma falls by more than half in one, it overshoots; `euler_a` has the same limit
without that. Source: arXiv 2503.02819; martaskrt/fkc-diffusion @ f6070aaf `edm_sampler_new`. Deviates: the
last step, to sigma 0, takes R as it is, where the official code adds noise once more.
"""

from __future__ import annotations

import math

from samplers.schedule import Schedule
from samplers.steps.row import Row

SCHEDULER = "EulerDiscreteScheduler"


def table(schedule: Schedule) -> list[Row]:
    """One row per step."""
    rows: list[Row] = []
    for now, then in schedule.spans:
        left = 1 - then.sigma_ve / now.sigma_ve
        if then.sigma == 0:
            rows.append(Row.from_ve(now, then, a=0.0, b=1.0))
            continue
        noise = now.sigma_ve * math.sqrt(2 * left)
        rows.append(Row.from_ve(now, then, a=1 - 2 * left, b=2 * left, noise=noise))
    return rows
