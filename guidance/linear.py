"""LinearAG (Castillo et al.): estimate the unconditional prediction from earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from guidance.base import Conditions, Denoise, Guidance, Guide, Needs, Prediction, Step, Trace
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class History:
    """The noise predictions of the steps so far; estimates stand where neg was not evaluated."""

    pos: list[Tensor] = field(default_factory=list["Tensor"])
    neg: list[Tensor] = field(default_factory=list["Tensor"])


class LinearAG(Guidance):
    """LinearAG, CFG with `eps_neg(k) = sum_i<=k bc_i eps_pos(i) + sum_i<k bu_i eps_neg(i)` at odd steps k.

    In the first half of the steps, even ones are CFG and odd ones CFG with the estimate, at half the cost; in
    the second half `denoised = pos`. `coefficients[k]` is (bc_0 ... bc_k, bu_0 ... bu_{k-1}), empty where
    step k evaluates both. They come from `fit`, and hold for one model, sampler, step count, scale and
    negative prompt. Without any, the first half is CFG.

    Source: arXiv 2312.12487, eq. 8 and section 5.
    """

    title: ClassVar = "LinearAG"
    summary: ClassVar = "CFG that predicts every other unconditional evaluation: five eighths of its cost."
    paper: ClassVar = Paper(
        "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models",
        "2312.12487",
        "AAAI 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "the linear relation that made the data; there is no official code",
                "own",
                "coefficients fitted to 50 trajectories of a known relation",
                1e-14,
            ),
        ),
        deviates=(
            Deviation(
                "steps without coefficients evaluate both conditions",
                "a request that brings no coefficients still is CFG in its first half",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True, first_order=True)
    traces: ClassVar = {"guidance_norm": Trace("norm of the guidance term")}

    method: Literal["linear"] = "linear"
    scale: float = Field(7.5, ge=0, le=100, description="w of CFG; the coefficients hold for this scale")
    coefficients: tuple[tuple[float, ...], ...] = Field(
        (),
        description="per step of the first half, 2k + 1 fitted numbers, or none to evaluate both conditions",
    )

    @model_validator(mode="after")
    def _shaped(self) -> Self:
        for k, row in enumerate(self.coefficients):
            if row and len(row) != 2 * k + 1:
                raise ValueError(f"coefficients[{k}] must have {2 * k + 1} numbers or none, not {len(row)}")
        return self

    def start(self) -> History:
        return History()

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: History) -> Guide:
        if self.coefficients and len(self.coefficients) != _guided(step.total):
            raise ValueError(
                f"these coefficients were fitted for {2 * len(self.coefficients)} steps, not {step.total}; "
                "fit them again or take that many steps"
            )
        now = step.now
        if step.index >= _guided(step.total):
            (pos,) = yield Denoise(x_t, now, (cond.positive,))
            return Prediction(pos, trace={"guidance_norm": 0.0})
        row = self._row(step.index)
        if row:
            (pos,) = yield Denoise(x_t, now, (cond.positive,))
            state.pos.append((x_t - now.alpha * pos) / now.sigma)
            terms = [b * eps for b, eps in zip(row, (*state.pos, *state.neg), strict=True)]
            eps_neg = sum(terms[1:], terms[0])
            neg = (x_t - now.sigma * eps_neg) / now.alpha
        else:
            pos, neg = yield Denoise(x_t, now, (cond.positive, cond.negative))
            state.pos.append((x_t - now.alpha * pos) / now.sigma)
            eps_neg = (x_t - now.alpha * neg) / now.sigma
        state.neg.append(eps_neg)
        delta = pos - neg
        norm = delta.flatten(1).norm(dim=1)
        return Prediction(neg + self.scale * delta, trace={"guidance_norm": norm})

    def nfe(self, steps: Sequence[Step]) -> int:
        both = sum(step.index < _guided(step.total) and not self._row(step.index) for step in steps)
        return len(steps) + both

    def _row(self, k: int) -> tuple[float, ...]:
        return self.coefficients[k] if k < len(self.coefficients) else ()


def _guided(total: int) -> int:
    return (total + 1) // 2


def fit(eps_pos: Tensor, eps_neg: Tensor) -> tuple[tuple[float, ...], ...]:
    """Coefficients from trajectories of CFG: ordinary least squares, without intercept, in float64.

    `eps_pos`, `eps_neg`: (steps, trajectories, ...), the noise predictions of whole runs. Even steps: none.
    """
    import torch

    pos, neg = eps_pos.double().flatten(1), eps_neg.double().flatten(1)
    rows: list[tuple[float, ...]] = []
    for k in range(_guided(len(pos))):
        if k % 2 == 0:
            rows.append(())
            continue
        known = torch.cat([pos[: k + 1], neg[:k]])
        # gelsd: the predictions of neighbouring steps are nearly collinear
        solved = torch.linalg.lstsq(known.T.cpu(), neg[k, :, None].cpu(), driver="gelsd").solution
        rows.append(tuple(solved.flatten().tolist()))
    return tuple(rows)
