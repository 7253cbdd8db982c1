"""Rows become forwards: no more rows at once than pay and fit, padded where the same shape is worth it."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from guidance.asks import Denoise, Network
from samplers.answer import Packed
from samplers.models.base import Model
from workers import meters
from workers.knee import knee_of

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Row counts that a forward is padded to on an accelerator, so that kernels and graphs can be reused."""

Determinism = Literal["free", "bucket"]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stats:
    """What the networks have done so far."""

    forwards: int = 0
    rows: int = 0
    padding: int = 0


class Forwards:
    """Calls networks, per group of like rows with its own cap.

    `determinism="bucket"` pads each forward to the cap. Else, with `calibrate`, each group is measured when
    first met, and has no more rows than its knee.
    """

    def __init__(self, max_rows: int, determinism: Determinism, calibrate: bool) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, not {max_rows}")
        self.stats = Stats()
        self.max_rows = max_rows
        self.determinism: Determinism = determinism
        self._calibrates = calibrate and determinism == "free"
        self._caps: dict[Hashable, int] = {}

    def cap(self, group: Hashable, model: Model, first: Denoise | None) -> int:
        """How many rows a forward of this group has at most; measured on its first ask."""
        if group not in self._caps:
            self._caps[group] = self.max_rows
            if self._calibrates and first is not None:
                self._caps[group] = knee_of(model, first, self.max_rows)
        return self._caps[group]

    def denoise(self, model: Model, packed: Packed, network: Network, group: Hashable) -> Tensor:
        """One forward, or several where the rows exceed the cap; out of memory halves the cap for good."""
        parts: list[Tensor] = []
        begin, total = 0, len(packed.levels)
        while begin < total:
            cap = self._caps.get(group, self.max_rows)
            size = min(cap, total - begin)
            padding = self._padding(size, cap, model.device)
            chosen = [*range(begin, begin + size), *[begin] * padding]
            whole = len(chosen) == total
            x = packed.x if whole else packed.x[chosen]
            levels = [packed.levels[i] for i in chosen]
            conds = [packed.conds[i] for i in chosen]
            try:
                with torch.no_grad():
                    out = model.denoise(x, levels, conds, network)
            except torch.OutOfMemoryError:
                if len(chosen) == 1:
                    raise
                self._lower(group, len(chosen))
                continue
            parts.append(out[:size])
            begin += size
            self.stats.forwards += 1
            self.stats.rows += size
            self.stats.padding += padding
            meters.forward(model.name, size, padding, cap)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _lower(self, group: Hashable, rows: int) -> None:
        self._caps[group] = rows // 2
        bits = "; seeds give other bits than before" if self.determinism == "bucket" else ""
        log.warning("out of memory with %d rows; from now on at most %d%s", rows, self._caps[group], bits)
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()

    def _padding(self, size: int, cap: int, device: torch.device) -> int:
        if self.determinism == "bucket":
            return cap - size
        if device.type == "cpu":  # eager kernels take any row count; padding would only cost
            return 0
        return min((bucket for bucket in BUCKETS if size <= bucket <= cap), default=size) - size
