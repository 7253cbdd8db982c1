"""The scale of plain CFG that moves as far along the difference of the predictions, as methods trace it."""

from __future__ import annotations

import pytest
import torch

from guidance.apg import APG
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from tests.analytic import CONDITIONS, steps_of, vp_levels

POS, NEG = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
STEP = steps_of(vp_levels())[2]


def traced(guidance: Guidance) -> torch.Tensor:
    guide = guidance.guide(POS, STEP, CONDITIONS, guidance.start())
    next(guide)
    with pytest.raises(StopIteration) as stop:
        guide.send([POS, NEG])
    return torch.as_tensor(stop.value.value.trace["effective_scale"], dtype=torch.float64)


def test_plain_cfg_is_as_strong_as_it_says() -> None:
    assert traced(CFG(scale=7)) == 7
    plain = APG(scale=7, eta=1, momentum=0, norm_threshold=0)
    assert torch.allclose(traced(plain), torch.tensor(7.0, dtype=torch.float64))


def test_a_cap_and_a_projection_weaken_apg() -> None:
    capped = traced(APG(scale=7, eta=0, momentum=0, norm_threshold=1))
    assert ((capped > 1) & (capped < 7)).all()


def test_a_step_of_cfgpp_is_one_of_cfg_at_this_scale() -> None:
    scale = float(traced(CFGPP(scale=0.6)))
    delta, (now, next_) = POS - NEG, (STEP.now, STEP.next)
    moved = 0.6 * delta  # along the difference, in units of alpha
    assert torch.allclose((1 - next_.sigma_ve / now.sigma_ve) * scale * delta, moved)
