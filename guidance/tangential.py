"""Tangential damping (Kwon et al.): keep of the unconditional score what both scores share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.apg import dot
from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import Needs, Trace
from guidance.limited import Scaled
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


class Tangential(Scaled):
    """Tangential damping CFG, `eps = u + scale * (eps_pos - u)`, `denoised = (x_t - sigma_t eps) / alpha_t`.

    `u = (eps_neg . v) v`, with v the first right singular vector of the two rows (eps_pos, eps_neg). For two
    rows that is closed form: with the Gram matrix [[cc, cu], [cu, uu]] and `r^2 = (cc - uu)^2 + 4 cu^2`,
    `u = (cu / r) eps_pos + (1 - (cc - uu) / r) / 2 eps_neg`.

    Source: arXiv 2503.18137, algorithm 1; diffusers 0.42.1 `tangential_classifier_free_guidance.py`.
    Deviates: always on noise, where diffusers takes what the network predicts (velocities for flow models);
        no singular value decomposition, and float64 where diffusers uses float32.
    """

    title: ClassVar = "TCFG"
    summary: ClassVar = "CFG with the unconditional prediction projected on what both predictions share."
    paper: ClassVar = Paper(
        "TCFG: Tangential Damping Classifier-free Guidance",
        "2503.18137",
        "CVPR 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "diffusers 0.42.1, tangential_classifier_free_guidance.normalized_guidance",
                "library",
                "two predictions, scales 2 and 7.5",
                1e-4,
                "float32",
            ),
            Compared("a singular value decomposition", "own", "two predictions, scale 3", 5e-14),
        ),
        deviates=(
            Deviation(
                "noise predictions are projected for every kind of network, diffusers projects whatever the "
                "network says",
                "one rule for every kind of network",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {"kept": Trace("norm of the projected over that of the unconditional noise")}

    usual: ClassVar = {"flow": {"scale": 4.0}, "StableDiffusionXLPipeline": {"scale": 5.0}}

    method: Literal["tangential"] = "tangential"
    scale: float = Field(7.5, ge=0, le=100, description="w; 1 is the conditional prediction alone")

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        if not self.guided(step):
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(pos, trace={"kept": 1.0})
        pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
        alpha = max(step.now.alpha, 1e-6)  # rectified flow at t = 1: the limit
        # sigma_t * eps = x_t - alpha_t * denoised; the common factor drops out of the projection.
        x = x_t.double()
        c, u = x - alpha * pos.double(), x - alpha * neg.double()
        cc, cu, uu = dot(c, c), dot(c, u), dot(u, u)
        r = ((cc - uu).square() + 4 * cu.square()).sqrt()
        tie = r == 0  # no direction stands out: nothing is damped
        r = r.masked_fill(tie, 1.0)
        along_c = (cu / r).masked_fill(tie, 0.0)
        along_u = ((1 - (cc - uu) / r) / 2).masked_fill(tie, 1.0)
        shared = along_c * c + along_u * u
        kept = dot(shared, shared).sqrt() / uu.sqrt().clamp(min=1e-300)
        # scale * c + (1 - scale) * shared, as a sum of estimates: nothing cancels where alpha_t is small
        rest = (1 - along_c - along_u) / alpha * x
        shared = along_c * pos + along_u * neg + rest
        denoised = self.scale * pos + (1 - self.scale) * shared
        return Prediction(denoised.to(x_t.dtype), trace={"kept": kept.flatten()})

    def requires(self) -> Needs:
        return Needs(negative=self.scale != 1)
