"""No guidance: the conditional prediction as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import Guidance
from guidance.sources import Compared, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


class NoGuidance(Guidance):
    """Conditional sampling, `denoised = D(x_t; c)`. One evaluation per step.

    Source: arXiv 2010.02502, eq. 9: the estimate of x0 as the network gives it.
    """

    title: ClassVar = "None"
    summary: ClassVar = "Plain conditional sampling: one network evaluation per step."
    paper: ClassVar = Paper("Denoising Diffusion Implicit Models", "2010.02502", "ICLR 2021")
    fidelity: ClassVar = Fidelity(
        (Compared("the network's own answer", "own", "one step at every level, three families", 0.0),)
    )

    method: Literal["none"] = "none"

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
        return Prediction(denoised=pos)

    def nfe(self, steps: Sequence[Step]) -> int:
        return len(steps)
