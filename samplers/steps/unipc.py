"""UniPC of order 2 in its B(h) = e^-h - 1 form ("bh2"), data prediction.

UniP predicts x_s; UniC, at the next row, corrects that prediction with the evaluation made at it. Predictor
and corrector start from the same sample with the same factor, so their difference holds estimates only:

    x_corrected = x_t - alpha_t B (rho_2 (R - R_1) + (rho_1 - 1/2) (R_2 - R_1) / r)

and both fold into one row. What noise or guided shift the previous row added stays in x_t.
Source: arXiv 2302.04867, algorithms 5 and 6; diffusers 0.42 `UniPCMultistepScheduler`.
"""

from __future__ import annotations

import math

from samplers.schedule import Schedule
from samplers.steps.dpmpp_2m import log_snr
from samplers.steps.row import Row

SCHEDULER = "UniPCMultistepScheduler"


def table(schedule: Schedule) -> list[Row]:
    """One row per step: the corrector of the previous step, then this step's predictor."""
    spans = schedule.spans
    lambdas = [log_snr(now) for now, _ in spans] + [log_snr(spans[-1][1])]
    rows: list[Row] = []
    order = 0
    for i, (now, then) in enumerate(spans):
        k0, k1, k2 = _corrector(lambdas, i, order, now.alpha) if i else (0.0, 0.0, 0.0)
        order = min(2, i + 1, len(spans) - i)
        h = lambdas[i + 1] - lambdas[i]
        whole = -then.alpha * math.expm1(-h)
        bend = whole * h / (2 * (lambdas[i] - lambdas[i - 1])) if order == 2 else 0.0
        a = then.sigma / now.sigma
        rows.append(Row(now, then, a, whole + bend + a * k0, -bend + a * k1, a * k2, shift=then.alpha))
    return rows


def _corrector(lambdas: list[float], i: int, order: int, alpha: float) -> tuple[float, float, float]:
    """What UniC adds to x_t at row i, as factors of R, R_1, R_2; `order` is that of the step before."""
    h = lambdas[i] - lambdas[i - 1]
    base = math.expm1(-h)
    if order == 1:
        return -alpha * base / 2, alpha * base / 2, 0.0
    r = (lambdas[i - 2] - lambdas[i - 1]) / h
    phi_2 = base / -h - 1
    phi_3 = phi_2 / -h - 0.5
    # rho_1 + rho_2 = phi_2 / B and r rho_1 + rho_2 = 2 phi_3 / B
    rho_1 = (phi_2 - 2 * phi_3) / base / (1 - r)
    rho_2 = phi_2 / base - rho_1
    bend = alpha * base * (rho_1 - 0.5) / r
    return -alpha * base * rho_2, alpha * base * rho_2 + bend, -bend
