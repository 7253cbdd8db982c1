"""What a comparison's cells become where an arm's scale is the network's own."""

from __future__ import annotations

from pathlib import Path

from app.catalogue import load_catalogue
from app.comparison.spec import ComparisonSpec, cell_job, plan
from app.settings import Settings


def test_each_arm_tells_the_network_its_own_scale() -> None:
    catalogue, settings = load_catalogue(Path("models/hub.toml")), Settings()
    arms = [{"guidance": {"method": "cfg", "scale": scale}} for scale in (2, 6)]
    asked = ComparisonSpec.model_validate(
        {"model": "flux-dev", "prompts": ["an apple"], "seeds": [1], "arms": arms}
    )
    found = plan(asked, catalogue, settings, 0)
    jobs = [cell_job(found, place, catalogue, settings).resolved for place in found.places]
    assert [(job.guidance.method, job.embedded_scale) for job in jobs] == [("none", 2), ("none", 6)]
