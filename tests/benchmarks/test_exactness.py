from __future__ import annotations

import math

import pytest
import torch

from benchmarks import exactness
from guidance.asks import Level
from tests.golden.arrays import load


def test_the_forty_modes_are_those_of_the_official_notebook() -> None:
    golden, ours = load("fkc_anneal"), exactness.Forty()
    assert torch.allclose(ours.locs * 50, golden["gmm40|locs"], atol=1e-4)
    assert ours.std * 50 == torch.nn.functional.softplus(torch.tensor(2.0).double()).item()
    assert math.isclose(ours.masses(3.0).sum().item(), 1.0, abs_tol=1e-12)


def test_methods_that_must_be_cfg_are_and_gradients_are_right() -> None:
    claims = exactness.identity_claims() + exactness.finite_difference_claims()
    assert len(claims) == 4
    assert all(claim.holds for claim in claims), claims


def test_the_corrected_sampler_is_held_against_the_drift() -> None:
    (low, _, high, missed, *_) = exactness.line_claims(particles=400, steps=60, seeds=1)
    assert high.holds
    assert missed.holds
    assert "without weights" in low.detail


def test_the_round_trip_is_held_at_ten_steps_and_reported_elsewhere() -> None:
    claims = exactness.round_trip_claims(exactness.round_trips(seeds=1, counts=(10, 20)))
    assert [claim.limit for claim in claims] == [1.0, None, None, None]
    assert claims[0].holds
    assert not exactness.Claim("x", 2.0, 1.0).holds


@pytest.mark.parametrize("time", ["1.0", "0.6", "0.3", "0.05"])
def test_the_forty_modes_have_the_exact_score(time: str) -> None:
    golden, ours = load("fkc_anneal"), exactness.Forty()
    x = golden["gmm40|pts_normalized"].double()
    variance = (0.01 * 1000 ** float(time)) ** 2 - 0.01**2
    level = Level(1.0, variance**0.5, 0.0)
    denoised = ours.denoise(x.view(-1, 1, 1, 2), [level] * len(x)).view(-1, 2)
    assert torch.allclose((denoised - x) / variance, golden[f"gmm40|t{time}|score_normalized"], rtol=1e-6)
