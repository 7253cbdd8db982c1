"""A run's trace: one row of declared scalars per network evaluation, kept where they were computed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

Scalar = Tensor | float


class TraceLog:
    """Collects the rows; nothing waits for the device before `columns`."""

    def __init__(self, declared: Collection[str], method: str) -> None:
        self._declared = declared
        self._method = method
        self._rows: list[Mapping[str, Scalar]] = []

    def append(self, row: Mapping[str, Scalar]) -> None:
        """Add one row. ValueError where a key is not among the method's `traces`."""
        if undeclared := sorted(set(row) - set(self._declared)):
            raise ValueError(
                f"guidance {self._method!r} traced {', '.join(undeclared)}; declare it in its `traces`"
            )
        self._rows.append({key: v.detach() if isinstance(v, Tensor) else v for key, v in row.items()})

    def columns(self) -> dict[str, list[float | None]]:
        """Per key one number per row, the mean over particles; None where it was absent or not finite."""
        return {key: [_finite(v) for v in _column(self._rows, key)] for key in self._declared}


def _column(rows: list[Mapping[str, Scalar]], key: str) -> list[float]:
    values = [row.get(key, math.nan) for row in rows]
    tensors = [v.double().mean() for v in values if isinstance(v, Tensor)]
    numbers: list[Any] = torch.stack(tensors).tolist() if tensors else []
    from_device = iter(numbers)
    return [next(from_device) if isinstance(v, Tensor) else float(v) for v in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
