"""Paired differences, with bootstrap intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences, and where 95 % of the bootstrap's means lie (None below two units)."""

    mean: float
    low: float | None
    high: float | None
    n: int
    over: Literal["prompts", "seeds"]

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def paired_difference(pairs: Sequence[Sequence[float]], resamples: int = RESAMPLES) -> Difference:
    """The differences of one metric: `pairs` holds, prompt by prompt, arm minus baseline for each seed.

    Pictures of one prompt resemble each other, so whole prompts are drawn, not pictures; with one prompt, its
    seeds are, and the interval says nothing of other prompts. The draws are the same each time.
    """
    means = [float(np.mean(prompt)) for prompt in pairs if prompt]
    if not means:
        raise ValueError("there is no pair to compare")
    over: Literal["prompts", "seeds"] = "prompts"
    if len(means) == 1:
        over, means = "seeds", [float(value) for prompt in pairs for value in prompt]
    units = np.asarray(means)
    if len(units) < 2:
        return Difference(float(units.mean()), None, None, len(units), over)
    drawn = np.random.default_rng(0).integers(0, len(units), (resamples, len(units)))
    low, high = np.percentile(units[drawn].mean(axis=1), (2.5, 97.5))
    return Difference(float(units.mean()), float(low), float(high), len(units), over)
