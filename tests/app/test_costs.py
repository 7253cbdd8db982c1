from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.costs import Cost, cost_of, evaluations_of, image_bytes, run_ms, work_ms
from app.jobs import Resolved
from guidance import Guidance
from guidance.adaptive import Adaptive
from guidance.apg import APG
from guidance.cfg import CFG
from guidance.none import NoGuidance

CFG_64 = Cost("emoji", 64, 64, "cfg", evaluations=2, busy_ms=10, step_ms=30, image_ms=5)


def job(guidance: Guidance, size_px: int = 64, **changes: Any) -> Resolved:
    values: dict[str, Any] = {
        "model": "emoji", "prompt": "", "negative_prompt": "", "seeds": [1], "width": size_px,
        "height": size_px, "steps": 10, "sampler": "ddim", "guidance": guidance, "metrics": [],
        "preview_every": 0, "priority": "normal",
    }  # fmt: skip
    return Resolved(**values | changes)


@pytest.mark.parametrize(
    ("guidance", "sampler", "evaluations"),
    [
        (CFG(), "ddim", 20),
        (CFG(scale=1), "ddim", 10),
        (CFG(guide_to=0.5), "ddim", 15),
        (CFG(sigma_low=2.0), "ddim", 20),
        (NoGuidance(), "heun", 19),
        (Adaptive(), "ddim", 20),
    ],
)
def test_evaluations_are_bounded_from_above(guidance: Guidance, sampler: str, evaluations: int) -> None:
    assert evaluations_of(job(guidance, sampler=sampler)) == evaluations


def test_what_was_measured_is_taken_and_what_was_not_is_scaled_from_the_nearest() -> None:
    costs = [CFG_64, replace(CFG_64, method="apg", busy_ms=12), replace(CFG_64, model="toy", busy_ms=1)]
    assert cost_of(job(CFG()), costs) == CFG_64
    assert cost_of(job(APG()), costs) == costs[1]
    unguided, larger = cost_of(job(NoGuidance()), costs), cost_of(job(CFG(), 128), costs)
    assert unguided is not None
    assert larger is not None
    assert unguided.busy_ms == CFG_64.busy_ms / 2
    assert (larger.busy_ms, larger.step_ms) == (40, 120)
    assert cost_of(job(CFG(), model="other"), costs) is None


def test_what_is_kept_is_measured_at_the_nearest_size_and_grows_with_the_pixels() -> None:
    small, large = (
        replace(CFG_64, image_bytes=7_000),
        replace(CFG_64, width=256, height=256, image_bytes=64_000),
    )
    assert image_bytes(job(APG()), [large, small]) == 7_000
    assert image_bytes(job(CFG(), 128), [small]) == 4 * 7_000
    assert image_bytes(job(CFG(), 512), [small, large]) == 4 * 64_000
    assert image_bytes(job(CFG()), [CFG_64, replace(small, model="toy")]) is None


def test_images_of_a_job_share_its_steps_for_the_one_who_waits_not_for_the_worker() -> None:
    one, four = job(CFG()), job(CFG(), seeds=[1, 2, 3, 4])
    assert work_ms(one, CFG_64) == 10 * 10 + 5
    assert work_ms(four, CFG_64) == 4 * work_ms(one, CFG_64)
    assert run_ms(four, CFG_64) == 10 * 30 + 4 * 5


def test_an_average_follows_what_lasts_and_bears_what_does_not() -> None:
    cost, slower = CFG_64, replace(CFG_64, busy_ms=20)
    assert cost.moved(slower).busy_ms == pytest.approx(10.5)
    for _ in range(100):
        cost = cost.moved(slower)
    assert cost.busy_ms == pytest.approx(20, rel=0.01)
