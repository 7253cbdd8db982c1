"""Systematic resampling and the effective sample size."""

from __future__ import annotations

import pytest
import torch

from samplers.resample import ess, systematic
from tests.golden.arrays import load


def test_ess_counts_the_particles_that_matter() -> None:
    assert ess(torch.zeros(8)) == pytest.approx(8)
    assert ess(torch.tensor([0.0, -1000.0, -1000.0])) == pytest.approx(1)
    assert ess(torch.tensor([2.0, 2.0, -1000.0, -1000.0])) == pytest.approx(2)
    assert ess(torch.tensor([1e4, 1e4])) == pytest.approx(2)  # in log space nothing overflows


def test_equal_weights_keep_every_particle() -> None:
    assert sorted(systematic(torch.zeros(5), 0.37).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("u", [0.01, 0.23, 0.61, 0.999])
def test_each_gets_its_share_rounded_up_or_down(u: float) -> None:
    weights = torch.tensor([0.5, 0.05, 0.3, 0.15], dtype=torch.float64)
    counts = torch.bincount(systematic(weights.log(), u), minlength=4)
    assert int(counts.sum()) == 4
    assert bool(((counts - 4 * weights).abs() < 1).all())


def test_it_is_unbiased_over_u() -> None:
    weights = torch.tensor([0.6, 0.1, 0.25, 0.05], dtype=torch.float64)
    grid = [(i + 0.5) / 400 for i in range(400)]
    survivors = torch.cat([systematic(weights.log(), u) for u in grid])
    assert torch.allclose(
        torch.bincount(survivors, minlength=4) / 400, (4 * weights).float(), atol=0.02, rtol=0
    )


def test_a_particle_without_weight_never_survives() -> None:
    log_weights = torch.tensor([0.0, 1.0, 0.0, 1.0]).log()
    for u in (0.0, 0.25, 0.5, 0.75, 0.999):
        assert set(systematic(log_weights, u).tolist()) == {1, 3}


@pytest.mark.parametrize("weights", [[float("nan"), 0.0], [float("inf"), 0.0], [-float("inf")] * 2])
def test_weights_without_a_finite_sum_are_refused(weights: list[float]) -> None:
    with pytest.raises(FloatingPointError, match="weights are not finite; lower the scale"):
        systematic(torch.tensor(weights), 0.3)


@pytest.mark.parametrize("case", ["cat4_0", "cat8_1", "cat8_6", "cat16_20"])
def test_the_survivors_are_the_official_ones(case: str) -> None:
    """As far as the official floor of 1e-6 under the weights does not decide."""
    z = load("fkc_edm2")
    chosen = systematic(z[f"{case}|logits"].double(), z[f"{case}|u"].item())
    assert chosen.tolist() == z[f"{case}|ids"].tolist()
