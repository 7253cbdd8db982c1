"""DPM-Solver++ 2M, the data-prediction multistep solver of second order.

With `lambda = ln(alpha / sigma)`, `h` the step in lambda and `r` the previous step over this one:

    x_s = (sigma_s / sigma_t) x_t - alpha_s (e^-h - 1) (R + (R - R_1) / (2 r))

First order where there is no history, at sigma 0, and at the end of a run of fewer than 15 steps.
Source: arXiv 2211.01095, algorithm 2; diffusers 0.42 `DPMSolverMultistepScheduler` ("midpoint").
"""

from __future__ import annotations

import math

from guidance.asks import Level
from samplers.schedule import Schedule
from samplers.steps.ddim import first_order
from samplers.steps.row import Row

SCHEDULER = "DPMSolverMultistepScheduler"


def log_snr(level: Level) -> float:
    """`lambda`, half the log signal-to-noise ratio; infinite at sigma 0 and, below zero, at alpha 0."""
    if not level.alpha or not level.sigma:
        return math.inf if level.alpha else -math.inf
    return math.log(level.alpha / level.sigma)


def table(schedule: Schedule) -> list[Row]:
    """One row per step."""
    rows: list[Row] = []
    total = len(schedule.spans)
    for i, (now, then) in enumerate(schedule.spans):
        if i == 0 or then.sigma == 0 or (i == total - 1 and total < 15):
            rows.append(first_order(now, then))
            continue
        h = log_snr(then) - log_snr(now)
        r = (log_snr(now) - log_snr(schedule.spans[i - 1][0])) / h
        whole = -then.alpha * math.expm1(-h)
        bend = whole / (2 * r)
        rows.append(Row(now, then, then.sigma / now.sigma, whole + bend, c=-bend, shift=then.alpha))
    return rows
