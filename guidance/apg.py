"""Adaptive projected guidance (Sadat et al.): drop the part of CFG that only saturates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from guidance.asks import Conditions, Denoise, Guide, Prediction, Step
from guidance.base import Needs, Trace
from guidance.limited import Scaled
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Momentum:
    """The running difference of one run, None before its first guided evaluation."""

    delta: Tensor | None = None


class APG(Scaled):
    """Adaptive projected guidance, `denoised = pos + (scale - 1) * (orth + eta * par)`.

    `par` and `orth` are the parts of the difference `pos - neg` along and across `pos`, after the reverse
    momentum and the cap on its norm. The order is that of the paper's listing: momentum, cap, projection (in
    float64). Norms and products run over all dimensions but the batch.

    Source: arXiv 2410.02416, appendix, algorithm 1 (PyTorch).
    """

    title: ClassVar = "APG"
    summary: ClassVar = "CFG without the oversaturation: high scales keep natural colours at the same cost."
    paper: ClassVar = Paper(
        "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models",
        "2410.02416",
        "ICLR 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "algorithm 1 of the paper's appendix",
                "paper",
                "5 predictions with momentum carried over, 3 settings",
                2e-14,
            ),
            Compared(
                "algorithm 1 of the paper's appendix", "paper", "10 DDIM steps at the neutral setting", 2e-13
            ),
            Compared(
                "diffusers 0.42.1, normalized_guidance",
                "library",
                "5 predictions with momentum, 3 settings, added as diffusers adds them",
                2e-14,
            ),
        ),
        deviates=(
            Deviation(
                "diffusers' default adds scale * update to the unconditional prediction, ours (scale - 1) * "
                "update to the conditional one",
                "the paper's listing does so, and scale 1 then is the conditional prediction",
            ),
        ),
    )
    needs: ClassVar = Needs(negative=True)
    traces: ClassVar = {
        "guidance_norm": Trace("norm of the difference, before the cap"),
        "effective_scale": Trace("scale of plain CFG that moves as far along the difference"),
        "parallel_share": Trace("share of the difference along the prediction"),
    }

    presets: ClassVar = {
        "sdxl": {"scale": 15, "norm_threshold": 15, "momentum": -0.5},
        "edm2-s": {"scale": 4, "norm_threshold": 2.5, "momentum": -0.75},
        "dit-xl-2": {"scale": 4, "norm_threshold": 5, "momentum": -0.5},
        "sd21": {"scale": 10, "norm_threshold": 7.5, "momentum": -0.75},
        "hunyuan-image": {"scale": 10, "norm_threshold": 10, "momentum": -0.5},
    }

    usual: ClassVar = {
        "StableDiffusionXLPipeline": presets["sdxl"],
        "DiTPipeline": presets["dit-xl-2"],
        "flow": {"scale": 4.0},
    }

    method: Literal["apg"] = "apg"
    scale: float = Field(10.0, ge=0, le=100, description="w; 1 is the conditional prediction alone")
    eta: float = Field(0.0, ge=0, le=1, description="weight of the parallel part; 1 keeps it, as CFG does")
    momentum: float = Field(
        -0.5,
        gt=-1,
        lt=1,
        description="beta of the running difference; below 0 it damps, 0 is off",
    )
    norm_threshold: float = Field(
        15.0, ge=0, description="r, cap on the norm of the difference (grows with latent size); 0 is off"
    )

    def start(self) -> Momentum:
        return Momentum()

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Momentum) -> Guide:
        if not self.guided(step):
            (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
            return Prediction(
                pos, trace={"guidance_norm": 0.0, "effective_scale": 1.0, "parallel_share": 0.0}
            )
        pos, neg = yield Denoise(x_t, step.now, (cond.positive, cond.negative))
        raw = delta = pos.double() - neg.double()
        if self.momentum and state.delta is not None:
            delta = delta + self.momentum * state.delta
        state.delta = delta  # before the cap, as in the listing
        norm = dot(delta, delta).sqrt()
        if self.norm_threshold:
            delta = delta * (self.norm_threshold / norm).clamp(max=1.0)  # r / 0 = inf -> 1
        along = pos.double()
        par = dot(delta, along) / dot(along, along).clamp(min=1e-300) * along
        update = delta - par + self.eta * par
        share = dot(par, par).sqrt() / dot(delta, delta).sqrt().clamp(min=1e-300)
        scale = 1 + (self.scale - 1) * dot(update, raw) / dot(raw, raw).clamp(min=1e-300)
        return Prediction(
            (along + (self.scale - 1) * update).to(pos.dtype),
            trace={
                "guidance_norm": norm.flatten(),
                "effective_scale": scale.flatten(),
                "parallel_share": share.flatten(),
            },
        )

    def requires(self) -> Needs:
        return Needs(negative=self.scale != 1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per image, shaped to broadcast over it."""
    return (a * b).flatten(1).sum(dim=1).view(-1, *(1,) * (a.dim() - 1))
