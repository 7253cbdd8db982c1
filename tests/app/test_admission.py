"""What a request becomes before it is queued; the API's own tests are in tests/app/api."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.admission import Refused, resolve
from app.catalogue import Catalogue, load_catalogue
from app.jobs import JobSpec
from app.settings import Settings


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(Path("models/hub.toml"))


@pytest.mark.parametrize(("asked", "told"), [(None, 3.5), (7.0, 7.0), (0.0, 0.0)])
def test_a_built_in_scale_is_resolved(catalogue: Catalogue, asked: float | None, told: float) -> None:
    spec = JobSpec(model="flux-dev", prompt="an apple", embedded_scale=asked)
    resolved = resolve(spec, catalogue, Settings())
    assert resolved.embedded_scale == told
    assert (resolved.guidance.method, resolved.sampler, resolved.steps) == ("none", "flow_euler", 28)


def test_a_built_in_scale_is_refused_where_there_is_none(catalogue: Catalogue) -> None:
    with pytest.raises(Refused) as caught:
        resolve(JobSpec(model="flux-schnell", prompt="an apple", embedded_scale=3), catalogue, Settings())
    (refusal,) = caught.value.refusals
    assert refusal.pointer == "/embedded_scale"
    assert "a guidance scale built in, which this one has not" in refusal.detail
    assert resolve(JobSpec(model="sdxl", prompt="an apple"), catalogue, Settings()).embedded_scale is None
