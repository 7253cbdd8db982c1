"""CFG-Zero* (Fan et al.): fit the unconditional velocity before guiding, and wait at the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import Needs, Trace
from guidance.limited import Scaled
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


class ZeroStar(Scaled):
    """CFG-Zero*, on velocities `v = s* v_neg + scale * (v_pos - s* v_neg)`, `denoised = x - t v`.

    `s* = <v_pos, v_neg> / ||v_neg||^2` per image. In the first `zero_steps` steps v = 0, and the network is
    not evaluated. Velocities are those of rectified flow in the coordinates `x = x_t / (alpha_t + sigma_t)`,
    `t = sigma_t / (alpha_t + sigma_t)`, which are a flow model's own.

    Source: arXiv 2503.18886, eqs. 8 and 13; WeichenFan/CFG-Zero-star @ 3162be1f `optimized_scale`.
    Deviates: the change of coordinates makes it apply to other models than flow models too, to which the
        paper restricts itself; skipped steps cost nothing, where the official code evaluates and discards;
        1e-8 bounds the denominator instead of being added, so that equal conditions cancel exactly.
    """

    title: ClassVar = "CFG-Zero*"
    summary: ClassVar = "CFG for flow models that corrects the early steps, where the velocity is unreliable."
    paper: ClassVar = Paper(
        "CFG-Zero*: Improved Classifier-Free Guidance for Flow Matching Models",
        "2503.18886",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "WeichenFan/CFG-Zero-star @ 3162be1f, optimized_scale",
                "official code",
                "the fitted scale of two predictions",
                5e-11,
            ),
            Compared(
                "diffusers 0.42.1, ClassifierFreeZeroStarGuidance",
                "library",
                "velocities of two predictions and of three steps, the first one zeroed; scale 7.5",
                1e-5,
                "float32",
            ),
        ),
        deviates=(
            Deviation("zeroed steps do not ask the network", "their velocity is 0 whatever it says"),
            Deviation("other models are guided in flow coordinates", "the rule is defined on velocities"),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {"s_star": Trace("fitted scale of the unconditional velocity")}

    method: Literal["zerostar"] = "zerostar"
    scale: float = Field(4.0, ge=0, le=100, description="w; 1 is the conditional prediction alone")
    zero_steps: int = Field(1, ge=0, le=10, description="first steps with velocity zero; 0 is off")

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        width = step.now.alpha + step.now.sigma
        x, t = x_t / width, step.now.sigma / width
        if step.index < self.zero_steps:
            return Prediction(x, trace={"s_star": 0.0})
        if not self.guided(step):
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(pos, trace={"s_star": 1.0})
        pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
        v_pos, v_neg = (x - pos) / t, (x - neg) / t
        product = (v_pos * v_neg).flatten(1).sum(1)
        s_star = product / v_neg.flatten(1).square().sum(1).clamp(min=1e-8)
        fitted = s_star.view(-1, *(1,) * (x.dim() - 1)) * v_neg
        v = fitted + self.scale * (v_pos - fitted)
        return Prediction(x - t * v, trace={"s_star": s_star})

    def requires(self) -> Needs:
        return Needs(negative=self.scale != 1)

    def nfe(self, steps: Sequence[Step]) -> int:
        evaluated = [step for step in steps if step.index >= self.zero_steps]
        return super().nfe(evaluated)
