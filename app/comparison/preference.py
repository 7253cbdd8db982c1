"""Blind votes as numbers: Bradley-Terry strengths with honest intervals for few votes, and Wilson shares.

Votes are few and come in clusters (several voters on one prompt, many votes of one voter). So every pair gets
half a pseudo-win each way, which keeps strengths finite; intervals are Wald's on contrasts, and each takes
the widest of the model's variance and the two that allow for clusters.
Source: Bradley and Terry 1952; Firth 1993 (why a prior); Liang and Zeger 1986 (clustered variance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""Two-sided 95 % of a normal distribution."""
PRIOR_WINS = 0.5
NEWTON_STEPS = 100

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Duel:
    """One vote between arms `a` and `b`: `score` is 1 where a won, 0 where b did, 0.5 for a tie."""

    a: int
    b: int
    score: float
    prompt: int
    voter: str


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n` with its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    n: int


def wilson(wins: float, n: int) -> Share:
    """The score interval of a binomial share; `wins` may hold halves. Raises ValueError at n = 0."""
    if n <= 0:
        raise ValueError("a share needs at least one trial")
    p, z2 = wins / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Share(p, max(0.0, centre - half), min(1.0, centre + half), n)


@dataclass(frozen=True, slots=True)
class Strengths:
    """Log-strengths (mean 0) of k arms, and the (k, k) standard errors of their differences."""

    logits: Array
    errors: Array

    def interval(self, a: int, b: int) -> tuple[float, float]:
        """95 % interval of logit(a beats b)."""
        gap, half = float(self.logits[a] - self.logits[b]), Z * float(self.errors[a, b])
        return gap - half, gap + half

    def ranks(self, arm: int) -> tuple[int, int]:
        """The ranks that are not ruled out: (best, worst), 1 is first."""
        others = [other for other in range(len(self.logits)) if other != arm]
        above = sum(self.interval(other, arm)[0] > 0 for other in others)
        below = sum(self.interval(arm, other)[0] > 0 for other in others)
        return 1 + above, len(self.logits) - below


def bradley_terry(duels: Sequence[Duel], arms: int) -> Strengths:
    """Fit `P(a beats b) = 1 / (1 + exp(s_b - s_a))`, ties as half a win each. `arms` is at least 2."""
    pairs = [(a, b) for a in range(arms) for b in range(a)]
    first = np.array([duel.a for duel in duels] + [a for a, _ in pairs] * 2)
    second = np.array([duel.b for duel in duels] + [b for _, b in pairs] * 2)
    score = np.array([duel.score for duel in duels] + [1.0] * len(pairs) + [0.0] * len(pairs))
    weight = np.array([1.0] * len(duels) + [PRIOR_WINS] * 2 * len(pairs))
    design = np.zeros((len(first), arms))
    design[np.arange(len(first)), first] = 1.0
    design[np.arange(len(first)), second] = -1.0
    logits = np.zeros(arms)
    for _ in range(NEWTON_STEPS):
        won = 1 / (1 + np.exp(-design @ logits))
        step = np.linalg.pinv(_information(design, won, weight)) @ (design.T @ (weight * (score - won)))
        logits = logits + step / max(1.0, float(np.abs(step).max()))  # never more than one logit at once
        if np.abs(step).max() < 1e-10:
            break
    won = 1 / (1 + np.exp(-design @ logits))
    bread = np.linalg.pinv(_information(design, won, weight))
    errors = _errors(bread)
    surprise = design[: len(duels)] * (score - won)[: len(duels), None]
    for clusters in ([duel.prompt for duel in duels], [duel.voter for duel in duels]):
        names = sorted(set(clusters), key=str)
        if len(names) < 2:
            continue
        sums = np.stack([surprise[[c == name for c in clusters]].sum(axis=0) for name in names])
        meat = sums.T @ sums * len(names) / (len(names) - 1)
        errors = np.maximum(errors, _errors(bread @ meat @ bread))
    return Strengths(logits - logits.mean(), errors)


def _information(design: Array, won: Array, weight: Array) -> Array:
    return (design * (weight * won * (1 - won))[:, None]).T @ design


def _errors(covariance: Array) -> Array:
    """Standard errors of all differences."""
    variance = np.diag(covariance)
    return np.sqrt(np.maximum(0.0, variance[:, None] + variance[None, :] - 2 * covariance))
