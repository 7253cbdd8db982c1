"""Scanning-robust perceptual guidance: a picture that is a working QR code (DiffQRCoder)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from guidance.asks import Conditions, Decode, Denoise, Guide, Perceive, Prediction, Step
from guidance.base import ADVANCED, Guidance, Needs, Trace
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.none import NoGuidance
from guidance.sources import Compared, Deviation, Fidelity, Paper

if TYPE_CHECKING:
    from torch import Tensor

    from guidance.qr.scanning import Read, Target

LOSS_SCALE = 100.0
"""Losses are multiplied by it before and divided after differentiation: half precision underflows."""

CONTRAST_STEP = 0.05
MOST_CONTRAST = 0.9


class Refinement(BaseModel):
    """SR-MPGD: gradient steps on the finished latents, `z <- z - lr * grad(L_SR + perceptual * L_P)`.

    L_SR = 0 is not enough for a reader that sees the picture through a camera. So the dark modules shall lie
    `contrast / 2` below the threshold and the light ones as much above, and that contrast grows by
    `CONTRAST_STEP` while the modules read right and the picture is not read surely enough.

    Source: arXiv 2409.06355, equation 15. The growing contrast is ours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    iterations: int = Field(40, ge=0, le=500, description="at most so many steps; 0 is off")
    lr: float = Field(3000.0, gt=0, le=1e6, description="gamma, step size")
    perceptual: float = Field(0.01, ge=0, le=100, description="lambda, weight of the perceptual loss")
    contrast: float = Field(
        0.05, ge=0, le=MOST_CONTRAST, description="luminance between dark and light modules, to begin with"
    )
    stop: float = Field(
        0.3,
        ge=0,
        le=1,
        description="stop when the picture, also blurred, pale, smaller and larger, is read with so "
        "much error correction unused",
    )


class SRPG(Guidance):
    """Scanning-robust perceptual guidance, `denoised = base - (sigma_t^2 / alpha_t) * g`.

        g = gradient at x_t of [ scanning_scale * L_SR + perceptual_scale * L_P ]

    through the decoder and the network, L_SR the scanning-robust loss against the QR symbol and L_P the
    distance in perceptual features from the picture that was made without it. It is DiffQRCoder's
    `eps + sigma_t * g`. `variant`: "paper" guides while the wrong modules use up more of the error
    correction than `tolerance`; "code" at every step, with the code's thresholds, kernel and, as its
    perceptual loss is detached, without L_P.

    Source: arXiv 2409.06355 (WACV 2025), equations 10 to 14; jwliao1209/DiffQRCoder @ e24ea73e.
    """

    title: ClassVar = "SRPG (QR code)"
    summary: ClassVar = "Makes the picture a QR code that scans: moves only the modules that read wrong."
    paper: ClassVar = Paper(
        "DiffQRCoder: Diffusion-based Aesthetic QR Code Generation with Scanning Robustness Guided "
        "Iterative Refinement",
        "2409.06355",
        "WACV 2025",
    )
    fidelity: ClassVar = Fidelity(
        compared=(
            Compared(
                "jwliao1209/DiffQRCoder @ e24ea73e, GaussianFilter and RegionMeanFilter",
                "official code",
                "kernels of 6 module sizes",
                1e-6,
                "float32",
            ),
            Compared(
                "jwliao1209/DiffQRCoder @ e24ea73e, ScanningRobustLoss",
                "official code",
                "module errors, loss and its gradient on the picture, 3 cases",
                5e-6,
                "float32",
            ),
            Compared(
                "jwliao1209/DiffQRCoder @ e24ea73e, PerceptualLoss",
                "official code",
                "4 layers of a tiny VGG",
                5e-8,
                "float32",
            ),
        ),
        deviates=(
            Deviation(
                "the paper stops at a rate of wrong modules, we at the share of the error correction that "
                "their codewords use up",
                "damage to a symbol is counted in codewords; a few scattered modules can exceed it",
            ),
            Deviation(
                "the perceptual features are the model's own scorer's, where the paper has LPIPS and the "
                "code VGG",
                "no further network; the code's term has no gradient at all",
            ),
            Deviation(
                "a module is held against the thresholds around it, where the paper has a half; `threshold` "
                "half is the paper's",
                "that is what readers do, and the picture keeps more of its light and shade",
            ),
            Deviation(
                "finder, timing and alignment patterns are tinted in the finished picture",
                "a picture whose data modules are all right still is not found without them",
            ),
        ),
    )
    needs: ClassVar = Needs(qr=True, grad=True, negative=True, first_order=True)
    traces: ClassVar = {
        "module_error": Trace("share of modules that read wrong"),
        "damage": Trace("share of the error correction used up"),
        "scanning_loss": Trace("scanning-robust loss", log=True),
        "perceptual_loss": Trace("perceptual distance from the first picture"),
        "gradient_norm": Trace("norm of the gradient", log=True),
    }
    presets: ClassVar = {
        "diffqrcoder-paper": {
            "scanning_scale": 500,
            "perceptual_scale": 3,
            "strength": 1,
            "threshold": "half",
        },
        "diffqrcoder-code": {"variant": "code", "scanning_scale": 500, "strength": 1, "fresh_noise": True},
    }

    method: Literal["srpg"] = "srpg"
    scanning_scale: float = Field(500.0, ge=0, le=1e6, description="lambda_1, weight of the scanning loss")
    perceptual_scale: float = Field(3.0, ge=0, le=1e5, description="lambda_2, weight of the perceptual loss")
    variant: Literal["paper", "code"] = Field(
        "paper", description="the paper's rule, or that of the authors' code"
    )
    threshold: Literal["local", "half"] = Field(
        "local",
        description="paper variant: what a dark module is darker than; local: what readers take around it",
    )
    base: Annotated[NoGuidance | CFG | CFGPP, Field(discriminator="method")] = Field(
        CFG.model_validate({"scale": 7.5}), description="what guides towards the prompt, in both stages"
    )
    strength: float = Field(
        0.15,
        gt=0,
        le=1,
        description="share of the steps that the second stage runs, from the first's picture",
    )
    fresh_noise: bool = Field(
        False,
        description="start the second stage from noise alone, as the code does",
        json_schema_extra=ADVANCED,
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="paper variant: guide while more of the error correction than this is used up",
    )
    refine: Refinement = Field(Refinement.model_validate({}), description="SR-MPGD after the last step")

    @classmethod
    def based_on(cls, guidance: Guidance) -> Self:
        """With its defaults, and this method as the base where it can be one."""
        usable = isinstance(guidance, NoGuidance | CFG | CFGPP)
        return cls.model_validate({"base": guidance.model_dump()} if usable else {})

    def start(self) -> Any:
        return self.base.start()

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Any) -> Guide:
        if cond.target is None:
            raise ValueError("guidance 'srpg' needs a QR symbol; give `qr` in the request")
        x = x_t.detach().requires_grad_()
        base = yield from with_gradient(self.base.guide(x, step, cond, state))
        seen, far, _ = yield from look(base.denoised, cond.target, self)
        trace = {
            "module_error": seen.share_wrong,
            "damage": damage(seen, cond.target),
            "scanning_loss": seen.loss.detach(),
            "perceptual_loss": far.detach(),
        }
        active = trace["damage"] > (self.tolerance if self.variant == "paper" else -1)
        loss = self.scanning_scale * seen.loss
        if self.variant == "paper":
            loss = loss + self.perceptual_scale * far
        g = gradient((active * loss).sum(), x)
        trace["gradient_norm"] = g.flatten(1).norm(dim=1)
        shift = step.now.sigma**2 / max(step.now.alpha, 1e-6) * g
        renoise = None if base.renoise is None else (base.renoise - shift).detach()
        return Prediction((base.denoised - shift).detach(), renoise, trace=trace)

    def requires(self) -> Needs:
        return replace(self.needs, negative=self.base.requires().negative)

    def nfe(self, steps: Sequence[Step]) -> int:
        """Both stages at most: the base's evaluations along all steps, and again along the last ones."""
        return self.base.nfe(steps) + self.base.nfe(steps[self.begins(len(steps)) :])

    def begins(self, steps: int) -> int:
        """The step with which the second stage begins."""
        return 0 if self.fresh_noise else steps - max(1, round(self.strength * steps))


def with_gradient(guide: Guide) -> Guide:
    """The same rule, its asks answered with the graph back to x_t."""
    reply = None
    while True:
        try:
            ask = guide.send(reply)
        except StopIteration as done:
            return done.value
        reply = yield (replace(ask, grad=True) if isinstance(ask, Denoise) else ask)


def look(
    latents: Tensor, target: Target, guidance: SRPG, contrast: float = 0.0
) -> Generator[Any, Any, tuple[Read, Tensor, Tensor]]:
    """Ask for pictures of `latents`: their modules, (B,) perceptual distances, and themselves, with graph."""
    from guidance.qr import scanning, thresholds

    decoded = yield Decode(latents, grad=True)
    images = (decoded / 2 + 0.5).clamp(0, 1)
    light = scanning.light_modules(target.symbol, images)
    shown, limits = images, None
    if guidance.variant == "paper" and guidance.threshold == "local":
        shown, limits = scanning.protect(images, target), thresholds.local(images, target)
    seen = scanning.read(shown, light, target.module_px, guidance.variant, contrast, limits)
    far = images.new_zeros(len(images))
    if target.reference is not None:
        reference = target.reference.to(images).expand_as(images)
        like = yield Perceive(reference * 2 - 1)
        if like:
            near = yield Perceive(images * 2 - 1, grad=True)
            far = scanning.perceptual_distance(near, like)
    return seen, far, images


def damage(seen: Read, target: Target) -> Tensor:
    """(B,) share of the error correction used up."""
    from guidance.qr import scanning

    return seen.error.new_tensor(scanning.damage(seen.misread, target.symbol))


def gradient(loss: Tensor, at: Tensor) -> Tensor:
    """The gradient of `loss`; zero where it does not depend on `at`."""
    import torch

    (g,) = torch.autograd.grad(LOSS_SCALE * loss, at)
    return g / LOSS_SCALE
