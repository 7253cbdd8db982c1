"""What a job's runs are given, on a tiny model with a guidance scale built in."""

from __future__ import annotations

from app.jobs import Resolved
from guidance.none import NoGuidance
from samplers.driver import drive
from samplers.models import adapter
from tests.pipelines import build
from workers.course import chart


def test_jobs_with_different_built_in_scales_share_forwards_and_differ() -> None:
    model = adapter("FluxPipeline")("flux", build("flux dev"))

    def job(scale: float) -> Resolved:
        return Resolved(
            model="flux", prompt="an apple", negative_prompt="", seeds=[1], width=16, height=16, steps=2,
            sampler="flow_euler", guidance=NoGuidance(), embedded_scale=scale, metrics=[], preview_every=0,
            priority="normal",
        )  # fmt: skip

    courses = [chart(model, job(scale), None) for scale in (1.0, 9.0, 9.0)]
    assert [course.cond.positive.scale for course in courses] == [1.0, 9.0, 9.0]
    (low, high, again), _ = drive(model, [course.run(1, lambda _: None) for course in courses])
    assert float((high.latents - again.latents).abs().max()) < 1e-5
    assert float((high.latents - low.latents).abs().max()) > 1e-4
