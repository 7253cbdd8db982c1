"""LinearAG (Castillo et al.): estimate the unconditional noise from the predictions so far.

    eps_neg(k) = sum_{i <= k} bc_i eps_pos(i) + sum_{i < k} bu_i eps_neg(i)

In the first half of the steps, even ones are CFG and odd ones CFG with the estimate, at half the cost; in
the second half the conditional prediction stands alone. `coefficients[k]` is (bc_0 ... bc_k, bu_0 ...
bu_{k-1}), empty where step k evaluates both. They hold for one model, sampler, step count and scale, and for
the negative prompt that they were fitted with. `guidance.adaptive` is the method that runs it.

Source: arXiv 2312.12487, eq. 8 and section 5.
Deviates: least squares leave out directions in which the predictions hardly vary (`NOISE_FLOOR`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Strict

from guidance.asks import Ask, Conditions, Denoise, Level, Step

if TYPE_CHECKING:
    from torch import Tensor

Row = Annotated[tuple[float, ...], Strict(False)]  # JSON has lists alone
Coefficients = Annotated[tuple[Row, ...], Strict(False)]

NOISE_FLOOR = 1e-4
"""Neighbouring steps' predictions are nearly collinear. Along directions with a singular value below this
share of the largest one there is little but rounding, which least squares answers with huge coefficients;
those throw a run off, which estimates from its own estimates."""


@dataclass(slots=True)
class History:
    """The noise predictions of the steps so far; estimates stand where neg was not evaluated."""

    pos: list[Tensor] = field(default_factory=list["Tensor"])
    neg: list[Tensor] = field(default_factory=list["Tensor"])


def guided_steps(total: int) -> int:
    """How many of `total` steps are guided: the first half."""
    return (total + 1) // 2


def is_estimated(index: int, total: int) -> bool:
    """Whether step `index` of `total` estimates the negative prediction."""
    return index < guided_steps(total) and index % 2 == 1


def problem_with(coefficients: Coefficients) -> str | None:
    """Why these cannot be coefficients; None where they can."""
    for k, row in enumerate(coefficients):
        wanted = 2 * k + 1 if k % 2 else 0
        if len(row) != wanted:
            return f"coefficients[{k}] must have {wanted} numbers, not {len(row)}"
    return None


def noise_of(denoised: Tensor, x_t: Tensor, level: Level) -> Tensor:
    """The noise that an estimate of x0 leaves in `x_t`."""
    return (x_t - level.alpha * denoised) / level.sigma


def predictions(
    x_t: Tensor, step: Step, cond: Conditions, coefficients: Coefficients, state: History
) -> Generator[Ask, Any, tuple[Tensor, Tensor]]:
    """Both estimates of x0 at a guided step, the negative one estimated at odd steps."""
    now = step.now
    if is_estimated(step.index, step.total):
        (pos,) = yield Denoise(x_t, now, (cond.positive,))
        state.pos.append(noise_of(pos, x_t, now))
        known = (*state.pos, *state.neg)
        terms = [b * eps for b, eps in zip(coefficients[step.index], known, strict=True)]
        eps_neg = sum(terms[1:], terms[0])
        neg = (x_t - now.sigma * eps_neg) / now.alpha
    else:
        pos, neg = yield Denoise(x_t, now, (cond.positive, cond.negative))
        state.pos.append(noise_of(pos, x_t, now))
        eps_neg = noise_of(neg, x_t, now)
    state.neg.append(eps_neg)
    return pos, neg


def fit(eps_pos: Tensor, eps_neg: Tensor) -> Coefficients:
    """The coefficients for runs as long as these trajectories of CFG.

    `eps_pos`, `eps_neg`: (steps, trajectories, ...), the noise predictions of whole runs.
    """
    total = len(eps_pos)
    return tuple(
        solve(eps_pos, eps_neg, k) if is_estimated(k, total) else () for k in range(guided_steps(total))
    )


def solve(eps_pos: Tensor, eps_neg: Tensor, k: int, floor: float = NOISE_FLOOR) -> tuple[float, ...]:
    """Step k's coefficients: least squares without intercept, in float64; ordinary ones at floor 0."""
    import torch

    pos, neg = eps_pos[: k + 1].double().flatten(1), eps_neg[: k + 1].double().flatten(1)
    known = torch.cat([pos, neg[:k]])
    left, right = known.T.cpu(), neg[k, :, None].cpu()
    solved = torch.linalg.lstsq(left, right, rcond=floor or None, driver="gelsd").solution
    return tuple(solved.flatten().tolist())
