"""CFG++ (Chung et al.): guide the estimate, renoise with the unconditional one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from guidance.base import Conditions, Denoise, Guidance, Guide, Needs, Paper, Prediction, Step, Trace

if TYPE_CHECKING:
    from torch import Tensor


class CFGPP(Guidance):
    """CFG++, `x_s = alpha_s * (neg + scale * (pos - neg)) + sigma_s * eps(neg)`.

    The solver runs on the unconditional estimate (its derivative, its history) and the guided shift
    `alpha_s * scale * (pos - neg)` is added; that is one rule for every solver. For rectified flow it is the
    bridge form that the authors recommend. The negative condition is evaluated at every step.

    Source: arXiv 2406.08070, algorithm 2 and appendix A; CFGpp-diffusion/CFGpp @ 80353525.
    Deviates: DPM++ 2M keeps the unconditional history of the paper's appendix, where the repository's SD 1.5
        code mixes in the guided estimate.
    """

    title: ClassVar = "CFG++"
    summary: ClassVar = "Guides on the data manifold: strong prompts without CFG's saturation; invertible."
    paper: ClassVar = Paper(
        "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models",
        "2406.08070",
        "ICLR 2025",
        compared_with="CFGpp-diffusion/CFGpp @ 80353525, latent_diffusion.py",
        largest_difference="4.2e-15 (fp64, DDIM, 10 steps)",
        deviates="DPM++ 2M as in the paper's appendix; the repository's SD 1.5 code differs",
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {"guidance_norm": Trace("norm of the guidance term")}

    method: Literal["cfgpp"] = "cfgpp"
    scale: float = Field(
        0.6,
        ge=0,
        le=5,
        description="lambda; 0 is unconditional, up to 1 it interpolates; above 1 it extrapolates, which the "
        "theory does not cover and only few steps (about 20 or less) bear",
    )

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
        delta = pos - neg
        norm = delta.flatten(1).norm(dim=1)
        return Prediction(neg + self.scale * delta, renoise=neg, trace={"guidance_norm": norm})

    @classmethod
    def matching(cls, cfg_scale: float, steps: Sequence[Step]) -> Self:
        """CFG++ as strong, on the average over `steps`, as CFG at `cfg_scale`.

        A first-order step of CFG++ from sigma to sigma' (in units of alpha) is a step of CFG at the scale
        `lambda * sigma / (sigma - sigma')`, so the factor depends on the schedule and is no constant.
        """
        moving = [step for step in steps if step.next.sigma_ve < step.now.sigma_ve]
        gains = [equivalent_cfg_scale(1.0, step) for step in moving]
        return cls(scale=cfg_scale * len(gains) / sum(gains))


def equivalent_cfg_scale(scale: float, step: Step) -> float:
    """The CFG scale whose first-order step equals the step of CFG++ at `scale`.

    Along `pos - neg`, CFG at w moves `x_s / alpha_s` by `(1 - sigma'/sigma) * w`, CFG++ by `scale`.
    """
    sigma_t, sigma_s = step.now.sigma_ve, step.next.sigma_ve
    if sigma_t == float("inf"):  # rectified flow at t = 1: alpha_t = 0
        return scale
    return scale * sigma_t / (sigma_t - sigma_s)
