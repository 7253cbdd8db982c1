"""The model adapter: whatever a network predicts, turned into `denoised`, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from guidance.asks import Cond, Level, Network
from samplers.cards import Family

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """The conditions for a list of prompts, and a warning for each prompt that was cut."""

    conds: list[Cond]
    warnings: list[str] = field(default_factory=list[str])
    read: dict[str, Any] = field(default_factory=dict[str, Any])
    """What there is to tell of how they were read: "prompt_pieces" of long ones, "clip_skip"."""


class Model(Protocol):
    """One loaded network with its encoder and decoder. Rows are independent: batch as you like."""

    name: str
    family: Family
    device: torch.device
    dtype: torch.dtype
    """What the network computes in; estimates and samples stay in float32."""
    scheduler_config: dict[str, Any]
    """The diffusers scheduler's config (betas, prediction_type, spacing, shift, ...)."""
    extras: frozenset[str]
    """What it has beyond the denoiser, for `cards.problems`: "weak", "classifier", "controlnet", "grad",
    "embedded" (a guidance scale built in), "clip" (layers of CLIP that can be skipped)."""

    @property
    def factor(self) -> int:
        """Pixels per latent cell; width and height must be multiples of it (times the network's own)."""
        ...

    @property
    def weights_bytes(self) -> int:
        """What its weights take in memory."""
        ...

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of a latent for a picture of width x height pixels; ValueError says what would fit."""
        ...

    def schedule_config(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """`scheduler_config` for latents of this shape, for where the noise schedule depends on the size."""
        ...

    def encode(self, prompts: Sequence[str], clip_skip: int | None = None) -> Encoded:
        """A condition per prompt. `clip_skip`: CLIP's last layers to leave out, for models with "clip"."""
        ...

    def denoise(
        self,
        x_t: Tensor,
        levels: Sequence[Level],
        conds: Sequence[Cond],
        network: Network = "main",
        grad: bool = False,
    ) -> Tensor:
        """`denoised` for N rows: x_t (N, C, h, w) float32, one level and one condition per row."""
        ...

    def decode(self, latents: Tensor, grad: bool = False) -> Tensor:
        """Latents (N, C, h, w) -> pictures (N, 3, H, W) in [-1, 1], float32."""
        ...

    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] -> latents (N, C, h, w), float32; `decode` the other way round."""
        ...

    def classify(
        self,
        images: Tensor,
        labels: Sequence[Cond] = (),
        level: Level | None = None,
        grad: bool = False,
        softplus: float | None = None,
    ) -> Tensor:
        """Pictures (N, 3, H, W) in [-1, 1] -> logits (N, K), float32, over `labels` or all classes.

        Only for models with the extra "classifier"; others raise ValueError.
        """
        ...

    def perceive(self, images: Tensor, grad: bool = False) -> list[Tensor]:
        """Pictures (N, 3, H, W) in [-1, 1] -> maps (N, C, h, w), float32, by which they look alike.

        Empty for a model without a perceptual network.
        """
        ...
