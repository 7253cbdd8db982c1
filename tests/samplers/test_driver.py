"""The library's front door."""

from __future__ import annotations

import pytest
import torch

from guidance import REGISTRY
from guidance.apg import APG
from guidance.cfg import CFG
from guidance.fkc import FKC
from samplers import sample
from samplers.models.toy import Toy


def test_one_image_a_seed_with_trace_and_cost() -> None:
    done = sample(Toy(), "high", guidance=APG(scale=5), steps=6, seeds=[4, 5])
    assert [image.size for image in done.images] == [(64, 64)] * 2
    assert done.latents.shape == (2, 3, 8, 8)
    assert [nfe.model for nfe in done.nfe] == [12, 12]
    for trace in done.trace:
        assert set(trace) == set(APG.traces)
        assert all(len(column) == 6 for column in trace.values())


def test_cfg_is_the_default_and_the_sampler_fits() -> None:
    chosen = sample(Toy(), "high", steps=4)
    assert torch.equal(chosen.latents, sample(Toy(), "high", guidance=CFG(), sampler="ddim", steps=4).latents)
    assert bool(sample(Toy(), "high", guidance=FKC(), steps=4).latents.isfinite().all())
    assert bool(sample(Toy(family="flow"), "high", steps=4).latents.isfinite().all())


def test_particles_are_kept_where_asked() -> None:
    guidance = REGISTRY["fkc"].model_validate({"method": "fkc", "particles": 3, "keep": "all"})
    assert sample(Toy(), "high", guidance=guidance, steps=4, seeds=[1, 2]).latents.shape[0] == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"sampler": "plms"}, "there is no sampler 'plms'"),
        ({"sampler": "flow_euler"}, "does not fit a vp model"),
        ({"width": 60}, "multiples of 8, not 60x64"),
        ({"width": 0}, "multiples of 8, not 0x64"),
        ({"seeds": ()}, "give at least one seed"),
        ({"steps": 1001}, "1001 cannot be larger than"),
        ({"guidance": FKC(), "sampler": "ddim"}, "needs a sampler that adds noise"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(Toy(), "high", **{"steps": 4} | changes)  # type: ignore[arg-type]
