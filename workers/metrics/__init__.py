"""Metrics, one module each: a module's `score` is what `app.scores.METRIC_CARDS` has a card for.

Adding a metric is adding a module here, its card there and a test.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def measure(names: Iterable[str], pixels: Pixels, prompt: str) -> dict[str, float]:
    """All scores of the named metrics for one picture, (H, W, 3) in sRGB."""
    scores: dict[str, float] = {}
    for name in names:
        scores |= importlib.import_module(f"{__name__}.{name}").score(pixels, prompt)
    return scores
