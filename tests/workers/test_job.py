"""What a job tells of itself before its first step; the rest of its life is in test_worker.py."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from app.admission import resolve
from app.catalogue import Catalogue, ModelCard
from app.jobs import JobSpec, Progress
from app.settings import Settings
from workers.job import HeldJob


async def test_the_parts_of_a_model_that_is_being_loaded_are_progress() -> None:
    catalogue = Catalogue(models={"toy": ModelCard(id="toy", source="toy")})
    resolved = resolve(JobSpec(prompt="high", seeds=[1, 2], steps=4), catalogue, Settings())
    claim: Any = SimpleNamespace(id="it", resolved=resolved, created_at_ms=0, claimed_at_ms=0)
    bench: Any = SimpleNamespace(families=Counter())
    job = HeldJob(claim, bench, lambda: None)
    assert (await job.report(last=True)).progress == Progress(step=0, total=8, stage="loading")
    job._on_part("unet", 3, 5)  # pyright: ignore[reportPrivateUsage]
    assert (await job.report(last=True)).progress == Progress(step=3, total=5, stage="loading")
