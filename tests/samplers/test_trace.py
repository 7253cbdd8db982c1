"""A run's rows become columns of plain numbers."""

from __future__ import annotations

import pytest
import torch

from samplers.trace import TraceLog


def test_a_row_is_the_mean_over_particles_and_a_gap_is_none() -> None:
    log = TraceLog(["norm", "scale"], "cfg")
    log.append({"norm": torch.tensor([1.0, 3.0]), "scale": 2.0})
    log.append({})
    log.append({"scale": torch.tensor(4.0), "norm": float("inf")})
    log.append({"norm": torch.tensor([1.0, float("nan")]), "scale": 1})
    assert log.columns() == {"norm": [2.0, None, None, None], "scale": [2.0, None, 4.0, 1.0]}


def test_every_declared_key_has_a_column() -> None:
    assert TraceLog({"norm": None}, "cfg").columns() == {"norm": []}


def test_it_keeps_no_graph() -> None:
    log = TraceLog(["norm"], "cfg")
    log.append({"norm": torch.ones(2, requires_grad=True) * 2})
    assert log.columns() == {"norm": [2.0]}
    assert not any(value.requires_grad for row in log._rows for value in row.values())  # type: ignore[union-attr]


def test_what_is_not_declared_is_refused() -> None:
    log = TraceLog(["norm"], "cfg")
    with pytest.raises(ValueError, match="guidance 'cfg' traced cosine, ratio; declare it in its `traces`"):
        log.append({"ratio": 1.0, "norm": 1.0, "cosine": 0.5})
