"""Where a run's random numbers come from: one CPU generator per image, made from its seed.

Numbers are drawn on the CPU in float32, in the run's own order (initial noise, then one draw for each row
that adds noise), and moved to the run's device. So a seed means the same noise on every device and next to
any neighbours, and the initial noise is that of diffusers' `randn_tensor` with a CPU generator of that seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class NoiseSource(Protocol):
    """What a run draws from. The tests replay recorded draws through it."""

    def draw(self) -> Tensor:
        """The next standard normal sample, (B, C, h, w) on the run's device."""
        ...

    def uniform(self) -> float:
        """The next uniform number in [0, 1), for resampling particles."""
        ...


class Noise:
    """The draws of one image, or of `count` particles of it.

    A particle's draws belong to its place, not to its ancestry: two copies that resampling made of one
    particle get different noise and part. Resampling draws from a generator of its own, so that whether it
    happened changes no later noise.
    """

    def __init__(
        self,
        seed: int,
        shape: Sequence[int],
        count: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._normal = torch.Generator().manual_seed(seed)
        self._uniform = torch.Generator().manual_seed(seed ^ 0x5DEECE66D)
        self._shape = (count, *shape)
        self._device = device
        self._dtype = dtype

    def draw(self) -> Tensor:
        """The next standard normal sample."""
        noise = torch.randn(self._shape, generator=self._normal, dtype=torch.float32)
        return noise.to(self._device, self._dtype)

    def uniform(self) -> float:
        """The next uniform number."""
        return float(torch.rand((), generator=self._uniform, dtype=torch.float64))
