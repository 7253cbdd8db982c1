"""What a comparison says of one score."""

from dataclasses import replace

import pytest

from app.comparison.results import metric_result
from tests.app.comparison.made import comparison, made


def test_an_arms_mean_has_an_interval_over_prompts_that_count_alike() -> None:
    found = comparison(["a", "b", "c"], [1, 2])
    cells = made(found)  # saturation is the prompt's number
    told = metric_result(found, cells, "saturation").arms[0]
    assert (told.mean, told.n) == (1.0, 6)
    assert told.low is not None
    assert told.high is not None
    assert 0 <= told.low < 1 < told.high <= 2
    lost = [replace(cell, record=None) if cell.place.index == 8 else cell for cell in cells]
    fewer = metric_result(found, lost, "saturation").arms[0]
    assert (fewer.mean, fewer.n) == (pytest.approx(told.mean), 5)
    nothing = metric_result(found, [replace(cell, record=None) for cell in cells], "saturation").arms[0]
    assert (nothing.mean, nothing.low, nothing.deviation, nothing.n) == (None, None, None, 0)
