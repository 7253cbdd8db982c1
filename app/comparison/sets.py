"""Sets of pictures, by their features: how varied one is, and how far apart two are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
"""(N, D), a row per picture."""


@dataclass(frozen=True, slots=True)
class Apart:
    """An estimate with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def spread(features: Features) -> float:
    """The mean squared distance of two different pictures of a set of two or more."""
    return float(2 * features.astype(np.float64).var(axis=0, ddof=1).sum())


def frechet(a: Features, b: Features) -> float:
    """Frechet distance of the Gaussians fitted to two sets, in squared units of the features.

    Source: M. Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, eq. 6.
    """
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    first, second = np.cov(a.T), np.cov(b.T)
    roots = np.linalg.eigvals(first @ second)
    return float(mean + np.trace(first + second) - 2 * np.sqrt(roots.real.clip(0)).sum())


def kernel_distance(a: Features, b: Features, groups: NDArray[np.intp]) -> Apart:
    """KID of two sets whose rows belong together, row by row (same prompt, same noise); unbiased.

    `groups` (N,) tells the rows that resemble each other, as those of one prompt: the interval is that of a
    jackknife over them, or over rows where all are one group. Rows that belong together are not compared
    across the sets, as they are not independent.
    Sources: M. Bińkowski et al., "Demystifying MMD GANs", ICLR 2018 (the cubic kernel); A. Gretton et al.,
    "A kernel two-sample test", JMLR 13, 2012, lemma 6 (pairs as units).
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    cross = _cubic(a, b)
    h = _cubic(a, a) + _cubic(b, b) - cross - cross.T
    np.fill_diagonal(h, 0)
    names, units = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        units = np.arange(len(a))
    count = int(units.max()) + 1
    member = np.zeros((count, len(a)))
    member[units, np.arange(len(a))] = 1
    sums, sizes = member @ h @ member.T, member.sum(1)

    rest = len(a) - sizes
    without = (sums.sum() - 2 * sums.sum(1) + sums.diagonal()) / (rest * (rest - 1))
    value = float(sums.sum() / (len(a) * (len(a) - 1)))
    half = 1.96 * float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    return Apart(value, value - half, value + half)


def _cubic(a: Features, b: Features) -> Features:
    return (a @ b.T / a.shape[1] + 1) ** 3
