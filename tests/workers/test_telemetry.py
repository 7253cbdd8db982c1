import json
from dataclasses import replace

import torch

from guidance.asks import Level, Step
from samplers.loop import Observed
from workers.telemetry import Telemetry

STEPS = [Step(i, 4, Level(0.6, 0.8, 9.0), Level(0.8, 0.6, 5.0)) for i in range(4)]


def observed(step: Step, **scalars: object) -> Observed:
    return Observed(step, torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), float(step.index)), scalars)  # type: ignore[arg-type]


def test_rows_are_given_once_and_kept_for_the_trace() -> None:
    telemetry = Telemetry([7, 8], 4)
    first, second = telemetry.observer(0), telemetry.observer(1)
    first(observed(STEPS[0], norm=torch.tensor([1.0, 3.0])))
    second(observed(STEPS[0], norm=0.5))
    sigma = 0.8 / 0.6
    assert telemetry.read() == [
        {"index": 0, "step": 0, "sigma": sigma, "norm": 2.0},
        {"index": 1, "step": 0, "sigma": sigma, "norm": 0.5},
    ]
    assert telemetry.read() == []
    first(observed(STEPS[1], norm=float("nan")))
    trace = json.loads(telemetry.trace())
    assert [image["seed"] for image in trace["images"]] == [7, 8]
    assert [row["norm"] for row in trace["images"][0]["rows"]] == [2.0, None]
    assert telemetry.read() == []


def test_progress_counts_the_steps_of_all_images() -> None:
    telemetry = Telemetry([1, 2], 4)
    first, second = telemetry.observer(0), telemetry.observer(1)
    for step in STEPS[:3]:
        first(observed(step))
    second(observed(STEPS[0]))
    second(observed(replace(STEPS[0], began=STEPS[0].now)))  # the second evaluation of the same step
    assert (telemetry.done, telemetry.total) == (4, 8)


def test_only_the_latest_due_preview_is_given_and_none_of_the_last_step() -> None:
    telemetry = Telemetry([1], 4, preview_every=2)
    observe = telemetry.observer(0)
    observe(observed(STEPS[0]))
    assert telemetry.previews() == {}
    observe(observed(STEPS[1]))
    ((step, denoised),) = telemetry.previews().values()
    assert (step, float(denoised.mean())) == (1, 1.0)
    assert telemetry.previews() == {}
    for step in STEPS[2:]:
        observe(observed(step))
    assert telemetry.previews() == {}


def test_the_way_back_of_an_edit_counts_on() -> None:
    telemetry = Telemetry([1], 8)
    observe = telemetry.observer(0)
    for step in [*reversed(STEPS), *STEPS]:
        observe(observed(step))
    assert [row["step"] for row in telemetry.read()] == list(range(8))
    assert telemetry.done == telemetry.total == 8
