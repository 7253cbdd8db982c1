"""CFG++ (Chung et al.): guide the estimate, renoise with the unconditional one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import ADVANCED, Guidance, Needs, Trace
from guidance.sources import Compared, Deviation, Fidelity, Paper

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
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "CFGpp-diffusion/CFGpp @ 80353525, latent_diffusion.py ddim_cfg++",
                "official code",
                "latents and estimates of 10 DDIM steps, lambda 0, 0.6 and 1",
                2e-14,
            ),
            Compared(
                "CFGpp-diffusion/CFGpp @ 80353525, latent_diffusion.py euler_cfg++",
                "official code",
                "latents and estimates of 10 Euler steps, lambda 0.6",
                3e-14,
            ),
            Compared(
                "CFGpp-diffusion/CFGpp @ 80353525, latent_diffusion.py ddim_inversion_cfg++",
                "official code",
                "latents of 10 steps of inversion and 10 of sampling, lambda 0.6",
                2e-14,
            ),
            Compared(
                "the formulas of the paper's appendix A",
                "paper",
                "12 steps of Euler, Euler ancestral, Heun, DPM++ 2M and DPM++ 2S ancestral, lambda 0.6 and 1",
                1e-14,
            ),
        ),
        deviates=(
            Deviation(
                "DPM++ 2M keeps the history of the unconditional estimate, as the paper's appendix does; the "
                "repository's SD 1.5 code mixes in the guided one",
                "the paper and the repository's SDXL code agree",
            ),
            Deviation(
                "rectified flow takes the bridge form, not the paper's velocity form",
                "the authors recommend it since; its strength is spread more evenly over the steps",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {
        "guidance_norm": Trace("norm of the guidance term"),
        "effective_scale": Trace("scale of plain CFG that moves as far along the guidance term"),
    }

    method: Literal["cfgpp"] = "cfgpp"
    scale: float = Field(
        0.6,
        ge=0,
        le=5,
        description="lambda; 0 is unconditional, up to 1 it interpolates; above 1 it extrapolates, which the "
        "theory does not cover and only few steps (about 20 or less) bear",
    )

    cfg_scale: float | None = Field(
        None,
        ge=0,
        le=100,
        description="a CFG scale instead of lambda: lambda is then what is as strong on the average over the "
        "schedule's steps",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.cfg_scale is not None and self.scale != type(self).model_fields["scale"].default:
            raise ValueError("give scale (lambda) or cfg_scale (w), not both")
        return self

    def planned(self, steps: Sequence[Step]) -> Self:
        if self.cfg_scale is None:
            return self
        scale = self.matching(self.cfg_scale, steps).scale
        return self.model_copy(update={"scale": scale, "cfg_scale": None})

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
        delta = pos - neg
        norm = delta.flatten(1).norm(dim=1)
        trace = {"guidance_norm": norm, "effective_scale": equivalent_cfg_scale(self.scale, step)}
        return Prediction(neg + self.scale * delta, renoise=neg, trace=trace)

    @classmethod
    def matching(cls, cfg_scale: float, steps: Sequence[Step]) -> Self:
        """CFG++ as strong, on the average over `steps`, as CFG at `cfg_scale`.

        A first-order step of CFG++ from sigma to sigma' (in units of alpha) is a step of CFG at the scale
        `lambda * sigma / (sigma - sigma')`, so the factor depends on the schedule and is no constant.
        ValueError where no step lowers sigma.
        """
        moving = [step for step in steps if step.next.sigma_ve < step.now.sigma_ve]
        gains = [equivalent_cfg_scale(1.0, step) for step in moving]
        if not gains:
            raise ValueError("lambda follows from a CFG scale only where the steps lower the noise")
        return cls.model_validate({}).model_copy(update={"scale": cfg_scale * len(gains) / sum(gains)})


def equivalent_cfg_scale(scale: float, step: Step) -> float:
    """The CFG scale whose first-order step equals the step of CFG++ at `scale`.

    Along `pos - neg`, CFG at w moves `x_s / alpha_s` by `(1 - sigma'/sigma) * w`, CFG++ by `scale`.
    """
    sigma_t, sigma_s = step.now.sigma_ve, step.next.sigma_ve
    if sigma_t == float("inf") or sigma_s >= sigma_t:  # rectified flow at t = 1; steps that do not descend
        return scale
    return scale * sigma_t / (sigma_t - sigma_s)
