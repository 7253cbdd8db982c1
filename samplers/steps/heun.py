"""Heun's method on the probability-flow ODE: an Euler row, then a row that averages the two slopes.

In VE coordinates with `r = sigma' / sigma`, D_1 and D_2 the estimates at sigma and at sigma':

    x_2 = r x + (1 - r) D_1
    x'  = x + (sigma' - sigma) (d_1 + d_2) / 2 = x_2 + (1 - r) / (2 r) (D_2 - D_1)

so the second row needs no copy of x. The guided shift of CFG++ is added once, by the second row. The step to
sigma 0 is Euler's. Source: arXiv 2206.00364, algorithm 1; diffusers 0.42 `HeunDiscreteScheduler`. Levels are
Euler's, which are the same and know zero-terminal-SNR betas too.
"""

from __future__ import annotations

from samplers.schedule import Schedule
from samplers.steps.ddim import first_order
from samplers.steps.row import Row

SCHEDULER = "EulerDiscreteScheduler"


def table(schedule: Schedule) -> list[Row]:
    """Two rows per step, one for the last."""
    rows: list[Row] = []
    for now, then in schedule.spans:
        if then.sigma == 0:
            rows.append(first_order(now, then))
            continue
        ratio = then.sigma_ve / now.sigma_ve
        half = (1 - ratio) / (2 * ratio)
        rows.append(Row.from_ve(now, then, a=ratio, b=1 - ratio, shift=0.0))
        rows.append(Row.from_ve(then, then, a=1.0, b=half, c=-half, began=now))
    return rows
