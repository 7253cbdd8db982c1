"""Particles of one image: log-weights, effective sample size, systematic resampling."""

from __future__ import annotations

import torch
from torch import Tensor


def ess(log_weights: Tensor) -> float:
    """Effective sample size `(sum w)^2 / sum w^2`, between 1 and K."""
    weights = torch.softmax(log_weights, 0)
    return float(1 / weights.square().sum())


def systematic(log_weights: Tensor, u: float) -> Tensor:
    """(K,) indices of the survivors: places `(u + i / K) mod 1` in the cumulated weights.

    Equal weights give a rotation, in which every particle survives. FloatingPointError where the weights
    have no finite sum. Source: arXiv 2503.02819, appendix;
    martaskrt/fkc-diffusion @ f6070aaf `sample_cat_sys`. Deviates: weights are not raised to 1e-6.
    """
    k = len(log_weights)
    edges = torch.softmax(log_weights.double(), 0).cumsum(0)
    if not bool(edges[-1].isfinite()):
        raise FloatingPointError("the particles' weights are not finite; lower the scale or use more steps")
    places = (u + torch.arange(k, dtype=torch.float64, device=edges.device) / k) % 1
    return torch.searchsorted(edges, places, right=True).clamp_(max=k - 1)
