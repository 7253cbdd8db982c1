"""Classifier-free guidance (Ho & Salimans), with the remedies for its colours that became common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import ADVANCED, Needs, Trace
from guidance.limited import Scaled
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


def spread_like(guided: Tensor, pos: Tensor) -> Tensor:
    """`guided` with the standard deviation of `pos`, per image (arXiv 2305.08891, eq. 15)."""
    shape = (-1, *(1,) * (guided.dim() - 1))
    ratio = pos.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return guided * ratio.nan_to_num(1.0).view(shape)


def clip_dynamically(denoised: Tensor, percentile: float, ceiling: float) -> Tensor:
    """Clip each image to its own percentile of |x0| and divide by it (arXiv 2205.11487, section 2.3)."""
    limit = denoised.flatten(1).abs().quantile(percentile, dim=1).clamp(1.0, ceiling)
    limit = limit.view(-1, *(1,) * (denoised.dim() - 1))
    return denoised.clamp(-limit, limit) / limit


class CFG(Scaled):
    """Classifier-free guidance, `denoised = neg + scale * (pos - neg)`.

    Then, if asked for: `rescale` mixes in the guided prediction brought back to the spread of `pos`, and
    `threshold_percentile` clips dynamically (models on pixels only). Outside the interval, and at scale 1,
    the negative condition is not evaluated.

    Source: arXiv 2207.12598, eq. 6 with scale = w + 1; 2305.08891, eqs. 14-16 (rescale); 2404.07724
        (interval); 2205.11487, section 2.3 (dynamic thresholding).
    Deviates: rescale works on `denoised`, as all rules here do, where the paper and diffusers use the
        network's own output.
    """

    title: ClassVar = "CFG"
    summary: ClassVar = "Extrapolates from the unconditional to the conditional prediction by a fixed scale."
    paper: ClassVar = Paper(
        "Classifier-Free Diffusion Guidance",
        "2207.12598",
        "NeurIPS 2021 workshop",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared("diffusers 0.42.1, CFG", "library", "two predictions, scale 7.5", 0.0),
            Compared(
                "CFGpp-diffusion/CFGpp @ 80353525, latent_diffusion.py ddim",
                "official code",
                "latents of 10 DDIM steps, scales 1 and 7.5",
                1e-13,
            ),
            Compared("diffusers 0.42.1, rescale_noise_cfg", "library", "two predictions, phi 0.7 and 1", 0.0),
            Compared(
                "diffusers 0.42.1, DDIMScheduler._threshold_sample",
                "library",
                "one estimate, limits 1, 1.5 and 100",
                1e-13,
            ),
        ),
        deviates=(
            Deviation(
                "rescale works on the estimate of the clean sample; the paper and diffusers rescale the "
                "network's own output",
                "one rule for every kind of network",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {
        "guidance_norm": Trace("norm of the guidance term"),
        "effective_scale": Trace("scale of plain CFG that moves as far along the guidance term"),
    }

    usual: ClassVar = {"StableDiffusionXLPipeline": {"scale": 5.0}}

    method: Literal["cfg"] = "cfg"
    scale: float = Field(4.0, ge=0, le=100, description="w; 1 is the conditional prediction alone")
    rescale: float = Field(
        0.0, ge=0, le=1, description="phi, share of the rescaled prediction; 0.7 in the paper, 0 is off"
    )
    threshold_percentile: float = Field(
        0.0,
        ge=0,
        le=1,
        description="dynamic thresholding, 0.995 in the paper; 0: off",
        json_schema_extra=ADVANCED,
    )
    threshold_max: float = Field(
        1.5, ge=1, description="largest clipping limit; 1 is static clipping", json_schema_extra=ADVANCED
    )

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        if self.guided(step):
            pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
            delta = pos - neg
            denoised, norm = neg + self.scale * delta, delta.flatten(1).norm(dim=1)
            scale: float | Tensor = self.scale
        else:
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            denoised, norm, scale = pos, 0.0, 1.0
        if self.rescale:
            denoised = self.rescale * spread_like(denoised, pos) + (1 - self.rescale) * denoised
        if self.threshold_percentile:
            denoised = clip_dynamically(denoised, self.threshold_percentile, self.threshold_max)
        return Prediction(denoised, trace={"guidance_norm": norm, "effective_scale": scale})

    def requires(self) -> Needs:
        return Needs(negative=self.scale != 1, pixels=self.threshold_percentile > 0)
