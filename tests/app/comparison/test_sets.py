"""Sets of pictures: against their definitions, and the interval against a simulation in miniature."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from app.comparison.sets import frechet, kernel_distance, spread


def rows(count: int, dimensions: int = 4, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dimensions))
    found[:, 0] += shift
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_spread_is_the_mean_squared_distance_of_two_pictures() -> None:
    some = rows(7)
    far = [np.square(a - b).sum() for a, b in combinations(some, 2)]
    assert spread(some) == pytest.approx(np.mean(far))
    assert spread(np.repeat(some[:1], 3, 0)) == pytest.approx(0, abs=1e-12)
    assert spread(some) / 2 == pytest.approx(np.mean([1 - a @ b for a, b in combinations(some, 2)]))


def test_frechet_of_two_gaussians_is_known() -> None:
    a = np.random.default_rng(0).normal(size=(4000, 2)) * [1, 2]
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + np.array([3, 4])) == pytest.approx(25)
    assert frechet(a, a * 2) == pytest.approx(np.cov(a.T).trace() + np.square(a.mean(0)).sum())


def test_the_kernel_distance_is_the_mean_over_pairs_of_pairs() -> None:
    a, b = rows(6, seed=1), rows(6, shift=1, seed=2)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 4 + 1) ** 3

    terms = [
        k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in combinations(range(6), 2)
    ]
    told = kernel_distance(a, b, np.array([0, 0, 1, 1, 2, 2]))
    assert told.value == pytest.approx(np.mean(terms))
    assert told.low < told.value < told.high
    same = kernel_distance(a, a, np.arange(6))
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_its_interval_holds_the_truth_though_pictures_of_a_prompt_resemble_each_other(shift: float) -> None:
    """Twenty prompts, each with a place of its own, and four seeds; arms share the noise in part."""

    def draw(prompts: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chance = np.random.default_rng(seed)
        place = np.repeat(chance.normal(size=(prompts, 3)), 4, 0)
        noise = chance.normal(size=(3, prompts * 4, 3))
        arms = [place + 0.7 * noise[0] + 0.7 * noise[arm] for arm in (1, 2)]
        arms[1][:, 0] += shift
        a, b = (arm / np.linalg.norm(arm, axis=1, keepdims=True) for arm in arms)
        return a, b, np.repeat(np.arange(prompts), 4)

    truth = kernel_distance(*draw(500, 999)).value if shift else 0.0
    told = [kernel_distance(*draw(20, seed)) for seed in range(200)]
    assert np.mean([one.value for one in told]) == pytest.approx(truth, abs=0.01)
    assert np.mean([one.low <= truth <= one.high for one in told]) > 0.9
    found = np.mean([one.low > 0 for one in told])
    assert found > 0.6 if shift else found < 0.1
