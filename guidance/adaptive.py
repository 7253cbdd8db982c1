"""Adaptive guidance (Castillo et al.): stop guiding once both predictions agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.base import Conditions, Denoise, Guidance, Guide, Needs, Prediction, Step, Trace
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Latch:
    """Per image: whether guidance goes on, and the cosine when it was last measured."""

    guided: Tensor | None = None
    cosine: Tensor | None = None


class Adaptive(Guidance):
    """Adaptive guidance: CFG, `denoised = neg + scale * (pos - neg)`, until `cos(pos, neg) >= threshold`.

    From the step after that on, `denoised = pos` at half the cost; a one-way latch, image by image. Only the
    images that are still guided ask for the negative condition. The cosine is that of the estimates of x0
    (`space="denoised"`) or of the noise (`"eps"`, the paper's); the right threshold depends on it and on the
    model. Knowing it, the host waits for the device once per guided step.

    Source: arXiv 2312.12487, eq. 7 and section 4.
    Deviates: the step that crosses the threshold is still guided, since both predictions are paid for (as
        the community's node does); `minimum_share` keeps a low threshold from ending guidance at once.
    """

    title: ClassVar = "Adaptive guidance"
    summary: ClassVar = "CFG that stops by itself when it no longer matters: about a quarter less work."
    paper: ClassVar = Paper(
        "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models",
        "2312.12487",
        "AAAI 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "the paper's formula in a loop of its own; there is no official code",
                "own",
                "4 images of 20 DDIM steps, thresholds 0.991 and 0.999; cosines, estimates",
                3e-14,
            ),
        ),
        deviates=(
            Deviation(
                "the step that crosses the threshold is guided",
                "both predictions are paid for by then; the paper's formula leaves it open",
            ),
            Deviation(
                "the cosine is taken in the space that `space` names, and a minimum share of guided steps "
                "can be asked for",
                "the paper's thresholds hold for its own models: elsewhere the first step may cross them",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {
        "cosine": Trace("cosine of both predictions, as last measured"),
        "guided": Trace("share of images still guided"),
    }

    method: Literal["adaptive"] = "adaptive"
    scale: float = Field(7.5, ge=0, le=100, description="w of CFG while it lasts")
    threshold: float = Field(
        0.99, ge=-1, le=2, description="guidance ends at this cosine; above 1 it never ends, which is CFG"
    )
    space: Literal["denoised", "eps"] = Field(
        "denoised", description="what is compared: estimates of the clean sample, or of the noise"
    )
    minimum_share: float = Field(
        0.0, ge=0, le=1, description="share of the steps that are guided in any case"
    )

    def start(self) -> Latch:
        return Latch()

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Latch) -> Guide:
        if state.guided is None or state.cosine is None:
            state.guided = x_t.new_ones(len(x_t)).bool()
            state.cosine = x_t.new_zeros(len(x_t))
        rows = state.guided.nonzero().flatten()
        if len(rows) == len(x_t):
            pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
            denoised = neg + self.scale * (pos - neg)
        else:
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            denoised, neg = pos, pos[rows]
            if len(rows):
                (neg,) = yield Denoise(x_t[rows], step.now, (cond.negative,))
                denoised = pos.index_copy(0, rows, neg + self.scale * (pos[rows] - neg))
        guided = state.guided
        if len(rows):
            cosine = self._cosine(x_t[rows], step, pos[rows], neg)
            state.cosine = state.cosine.index_copy(0, rows, cosine.to(x_t.dtype))
            if (step.index + 1) / step.total >= self.minimum_share:
                state.guided = guided.index_copy(0, rows, cosine < self.threshold)
        return Prediction(denoised, trace={"cosine": state.cosine, "guided": guided.to(x_t.dtype)})

    def nfe(self, steps: Sequence[Step]) -> int:
        """Both conditions at each step: the bound that holds where guidance never ends."""
        return 2 * len(steps)

    def _cosine(self, x_t: Tensor, step: Step, pos: Tensor, neg: Tensor) -> Tensor:
        a, b = pos.double(), neg.double()
        if self.space == "eps":  # up to the factor sigma_t, which a cosine does not see
            a, b = x_t.double() - step.now.alpha * a, x_t.double() - step.now.alpha * b
        a, b = a.flatten(1), b.flatten(1)
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-300)
