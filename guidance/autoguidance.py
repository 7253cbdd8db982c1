"""Autoguidance (Karras et al.): guide away from a bad version of the same model."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import Needs, Trace
from guidance.limited import Scaled
from guidance.sources import Compared, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


class Autoguidance(Scaled):
    """Autoguidance, `denoised = weak + scale * (pos - weak)`.

    `weak` is the estimate of a smaller or less trained model for the same condition. At scale 1 and outside
    the interval the weak model is not evaluated.

    Source: arXiv 2406.02507, eq. 6; NVlabs/edm2 @ 4bf8162f `generate_images.py: edm_sampler`. Interval:
        2404.07724; kynkaat/guidance-interval @ be70a233.
    """

    title: ClassVar = "Autoguidance"
    summary: ClassVar = "Guides away from a weaker version of the model: better pictures at full variety."
    paper: ClassVar = Paper(
        "Guiding a Diffusion Model with a Bad Version of Itself",
        "2406.02507",
        "NeurIPS 2024",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "NVlabs/edm2 @ 4bf8162f, generate_images.py edm_sampler",
                "official code",
                "3 images of Heun's method in 2, 8 and 32 steps from sigma 80, scales 1, 1.4, 2.1 and 2.45",
                1e-11,
            ),
        ),
    )
    needs: ClassVar = Needs(weak=True)
    traces: ClassVar = {"guidance_norm": Trace("norm of the difference to the weak model")}
    presets: ClassVar = {
        "edm2-s": {"scale": 2.1},
        "edm2-xxl": {"scale": 2.05},
        "edm2-xxl-interval": {"scale": 2.0, "sigma_low": 0.19, "sigma_high": 1.61},
    }

    method: Literal["autoguidance"] = "autoguidance"
    scale: float = Field(2.0, ge=0, le=100, description="w; 1 is the good model alone, 0 the weak one alone")

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
        if not self.guided(step):
            return Prediction(pos, trace={"guidance_norm": 0.0})
        (weak,) = yield Denoise(x_t, step.now, (cond.positive,), network="weak")
        delta = pos - weak
        norm = delta.flatten(1).norm(dim=1)
        return Prediction(weak + self.scale * delta, trace={"guidance_norm": norm})

    def requires(self) -> Needs:
        return Needs(weak=self.scale != 1)
