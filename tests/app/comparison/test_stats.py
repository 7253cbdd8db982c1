import numpy as np
import pytest

from app.comparison.stats import paired_difference


def test_equal_differences_have_no_spread() -> None:
    found = paired_difference([[0.5, 0.5], [0.5], []])
    assert (found.mean, found.low, found.high, found.n, found.over) == (0.5, 0.5, 0.5, 2, "prompts")
    assert found.clear


def test_one_prompt_is_about_its_seeds_and_one_pair_has_no_interval() -> None:
    found = paired_difference([[1.0, -1.0, 0.5]])
    assert (found.n, found.over, found.clear) == (3, "seeds", False)
    alone = paired_difference([[2.0]])
    assert (alone.mean, alone.low, alone.high, alone.clear) == (2.0, None, None, False)
    with pytest.raises(ValueError, match="no pair"):
        paired_difference([[], []])


def test_more_seeds_of_the_same_prompts_do_not_narrow_the_interval() -> None:
    prompts = np.random.default_rng(1).normal(size=12)
    one = paired_difference([[float(value)] for value in prompts])
    many = paired_difference([[float(value)] * 50 for value in prompts])
    assert (many.mean, many.low, many.high) == pytest.approx((one.mean, one.low, one.high))
    assert many.n == 12


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """400 samples of 30: 0.95 +- 0.033 (three standard errors); a bootstrap of 30 covers a bit less."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        found = paired_difference([[float(value)] for value in rng.normal(1.0, 2.0, 30)], resamples=500)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert 0.89 <= covered / 400 <= 0.985
