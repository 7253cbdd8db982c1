"""Classifier-free guidance (Ho & Salimans), with Lin's rescale and Kynkäänniemi's limited interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.base import Conditions, Denoise, Guidance, Guide, Needs, Paper, Prediction, Step, Trace

if TYPE_CHECKING:
    from torch import Tensor


class CFG(Guidance):
    """Classifier-free guidance, `denoised = neg + scale * (pos - neg)`.

    Source: arXiv 2207.12598, eq. 6 with scale = w + 1.
    """

    title: ClassVar = "CFG"
    summary: ClassVar = "Extrapolates from the unconditional to the conditional prediction by a fixed scale."
    paper: ClassVar = Paper("Classifier-Free Diffusion Guidance", "2207.12598", "NeurIPS 2021 workshop")
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {"guidance_norm": Trace("norm of the guidance term")}

    method: Literal["cfg"] = "cfg"
    scale: float = Field(4.0, ge=0, le=100, description="w; 1 is the conditional prediction alone")

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        if self.scale == 1:
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(denoised=pos, trace={"guidance_norm": 0.0})
        pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
        delta = pos - neg
        return Prediction(neg + self.scale * delta, trace={"guidance_norm": delta.flatten(1).norm(dim=1)})

    def nfe(self, steps: Sequence[Step]) -> int:
        return len(steps) * (1 if self.scale == 1 else 2)
