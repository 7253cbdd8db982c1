"""DDPM's ancestral step: a draw from the posterior q(x_s | x_t, x0) with the estimate in the place of x0.

With `alpha_ts = abar_t / abar_s` and `beta_ts = 1 - alpha_ts`:

    x_s = sqrt(alpha_ts) (1 - abar_s) / (1 - abar_t) x_t + sqrt(abar_s) beta_ts / (1 - abar_t) R + s n
    s^2 = (1 - abar_s) / (1 - abar_t) beta_ts, or beta_ts where the model's variance_type is "fixed_large"

Source: arXiv 2006.11239, eqs. 6 and 7; diffusers 0.42 `DDPMScheduler`.
Deviates: a variance that the network learned is not used; the posterior's stands for it.
"""

from __future__ import annotations

import math

from samplers.schedule import Schedule
from samplers.steps.row import Row

SCHEDULER = "DDPMScheduler"


def table(schedule: Schedule) -> list[Row]:
    """One row per step; the last one, to the clean sample, adds no noise."""
    rows: list[Row] = []
    for now, then in schedule.spans:
        ratio = now.alpha / then.alpha
        beta, kept = 1 - ratio**2, (then.sigma / now.sigma) ** 2
        rows.append(
            Row(
                now,
                then,
                a=ratio * kept,
                b=then.alpha * beta / now.sigma**2,
                shift=then.alpha,
                noise=math.sqrt(beta if schedule.large_variance and then.sigma else kept * beta),
            )
        )
    return rows
