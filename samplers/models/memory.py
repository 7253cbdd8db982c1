"""What a gradient through a network keeps in memory: its activations, or, of large pictures, almost none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

CHECKPOINT_FROM_PX = 256 * 256
"""Pixels from which on activations are computed again on the way back, for about one forward more."""


def checkpoint(networks: Iterable[Any], pixels: int) -> None:
    """Have diffusers' networks keep only what each of their blocks is given, where the picture is large."""
    large = pixels >= CHECKPOINT_FROM_PX
    for network in networks:
        if getattr(network, "_supports_gradient_checkpointing", False):
            if large and not network.is_gradient_checkpointing:
                network.enable_gradient_checkpointing()
            elif not large and network.is_gradient_checkpointing:
                network.disable_gradient_checkpointing()
