"""DDIM, `x_s = alpha_s * R + sigma_s * eps(R)` with `eps(R) = (x_t - alpha_t * R) / sigma_t`.

The same update is Euler on the probability-flow ODE in VE and in flow coordinates; those samplers differ in
their levels alone. Source: arXiv 2010.02502, eq. 12 with sigma = 0; diffusers 0.42 `DDIMScheduler`, eta 0.
"""

from __future__ import annotations

from guidance.asks import Level
from samplers.schedule import Schedule
from samplers.steps.row import Row

SCHEDULER = "DDIMScheduler"


def first_order(now: Level, then: Level) -> Row:
    """The row that keeps eps and moves to the level `then`."""
    ratio = then.sigma / now.sigma
    return Row(now, then, a=ratio, b=then.alpha - now.alpha * ratio, shift=then.alpha)


def table(schedule: Schedule) -> list[Row]:
    """One first-order row per step."""
    return [first_order(now, then) for now, then in schedule.spans]
