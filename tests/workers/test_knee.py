from itertools import pairwise

import pytest
import torch

from workers import knee as module
from workers.knee import knee, measure


def curve(idle_ms: float, row_ms: float, most: int = 32) -> dict[int, float]:
    """A device on which nothing is faster than `idle_ms` and each row takes `row_ms`."""
    return {rows: max(idle_ms, rows * row_ms) for rows in module.SIZES if rows <= most}


@pytest.mark.parametrize(
    ("idle_ms", "row_ms", "rows"),
    [(0, 10, 2), (40, 10, 4), (78, 10, 8), (90, 10, 12), (220, 10, 32), (1000, 10, 32)],
)
def test_the_knee_is_where_more_rows_bring_no_more_images(idle_ms: float, row_ms: float, rows: int) -> None:
    assert knee(curve(idle_ms, row_ms), 32) == rows


def test_a_bend_counts_when_two_larger_sizes_confirm_it() -> None:
    assert knee(curve(1000, 10, most=4), 24) == 24
    assert knee({1: 0.15, 2: 0.37}, 16) == 16
    assert knee({1: 0.15, 2: 0.2, 4: 0.4, 8: 0.8}, 16) == 2


def test_one_row_that_takes_all_the_time_fills_the_device() -> None:
    assert knee({1: 9.0}, 16) == 2
    assert knee({1: 9.0}, 1) == 1


def test_the_measurement_ends_with_its_budget_and_with_memory() -> None:
    now_s, asked = 0.0, list[int]()

    def clock() -> float:
        return now_s

    def forward(rows: int) -> None:
        nonlocal now_s
        if rows > 8:
            raise torch.OutOfMemoryError
        asked.append(rows)
        now_s += 0.1 * rows

    assert measure(forward, 32, clock, budget_s=100) == pytest.approx({1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8})
    asked.clear()
    assert list(measure(forward, 32, clock, budget_s=1.0)) == [1, 2]
    assert all(later >= earlier for earlier, later in pairwise(asked))
    assert list(measure(forward, 1, clock)) == [1]
