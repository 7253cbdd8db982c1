"""What every registered guidance method promises, whatever it does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from guidance import REGISTRY, AnyGuidance
from guidance.base import Guidance, Needs
from guidance.sources import Paper
from samplers.architectures import ARCHITECTURES
from samplers.cards import Family
from samplers.driver import Sampled, fitting_sampler, sample
from samplers.models.toy import Toy
from samplers.steps import compile_plan
from tests import analytic
from tests.analytic import FAMILIES, SAME, Answerer, run, start, steps_of

METHODS = sorted(REGISTRY)
ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyGuidance)

# Methods that take their direction from a classifier or from another model, or that change the target, move
# the prediction even where both conditions are equal.
MOVED_BY_MORE_THAN_CONDITIONS: dict[str, str] = {
    "autoguidance": "its direction comes from a weak model",
    "classifier": "its direction comes from a classifier",
    "gfcg": "its direction comes from another class",
    "srpg": "its direction comes from a QR symbol",
}

COST_DEPENDS_ON_DATA = {"adaptive", "gfcg", "srpg"}
"""For these the declared cost is a bound."""


@pytest.fixture(params=METHODS)
def guidance(request: pytest.FixtureRequest) -> Guidance:
    return REGISTRY[request.param]()


@pytest.fixture(params=sorted(FAMILIES))
def levels(request: pytest.FixtureRequest) -> list[Any]:
    return FAMILIES[request.param]()


def test_equal_conditions_leave_the_prediction_alone(guidance: Guidance, levels: list[Any]) -> None:
    if guidance.method in MOVED_BY_MORE_THAN_CONDITIONS:
        pytest.skip(MOVED_BY_MORE_THAN_CONDITIONS[guidance.method])
    x, state = start(levels), guidance.start()
    for step in steps_of(levels):
        if guidance.method == "zerostar" and step.index == 0:
            continue  # its first step stands still, whatever the conditions
        plain = analytic.denoised(x, step.now, analytic.POSITIVE)
        prediction = Answerer().finish(guidance.guide(x, step, SAME, state))
        assert torch.allclose(prediction.denoised, plain, atol=1e-12, rtol=0)
        assert prediction.renoise is None or torch.equal(prediction.renoise, plain)
        x = analytic.first_order(x, step, prediction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(guidance: Guidance, levels: list[Any], dtype: torch.dtype) -> None:
    ran = run(guidance, start(levels).to(dtype), levels)
    for prediction in ran.predictions:
        assert prediction.denoised.shape == (3, 4, 4, 4)
        assert prediction.denoised.dtype == dtype
        if prediction.renoise is not None:
            assert prediction.renoise.shape == prediction.denoised.shape
            assert prediction.renoise.dtype == dtype
        if prediction.log_weight is not None:
            assert prediction.log_weight.shape == (3,)
            assert prediction.log_weight.dtype in (torch.float32, torch.float64)


def test_no_graph_is_left_behind(guidance: Guidance, levels: list[Any]) -> None:
    for prediction in run(guidance, start(levels), levels).predictions:
        assert not prediction.denoised.requires_grad


def test_finite_from_the_first_step_to_the_last(guidance: Guidance, levels: list[Any]) -> None:
    ran = run(guidance, start(levels).float(), levels)
    for prediction in ran.predictions:
        assert prediction.denoised.isfinite().all()
        for name, value in prediction.trace.items():
            assert torch.as_tensor(value).isfinite().all(), name
    assert ran.x.isfinite().all()


def test_an_image_does_not_depend_on_its_neighbours(guidance: Guidance, levels: list[Any]) -> None:
    x = start(levels, batch=4)
    together = run(guidance, x, levels)
    order = torch.tensor([2, 0, 3, 1])
    permuted = run(guidance, x[order], levels)
    assert torch.allclose(permuted.x, together.x[order], atol=1e-10, rtol=1e-10)
    alone = run(guidance, x[1:2], levels)
    assert torch.allclose(alone.x, together.x[1:2], atol=1e-10, rtol=1e-10)


def test_declared_traces_are_the_returned_ones(guidance: Guidance, levels: list[Any]) -> None:
    for prediction in run(guidance, start(levels), levels).predictions:
        assert set(prediction.trace) == set(guidance.traces)
        for value in prediction.trace.values():
            assert torch.as_tensor(value).shape in ((), (3,))


def test_declared_cost_is_the_counted_one(guidance: Guidance, levels: list[Any]) -> None:
    population = guidance.population()
    x = start(levels, batch=population.particles if population else 3)
    declared = guidance.nfe(steps_of(levels)) * (1 if population else len(x))
    counted = run(guidance, x, levels).answerer.evaluations
    assert counted <= declared if guidance.method in COST_DEPENDS_ON_DATA else counted == declared


def test_state_is_per_run(guidance: Guidance, levels: list[Any]) -> None:
    x = start(levels)
    assert torch.equal(run(guidance, x, levels).x, run(guidance, x, levels).x)


def test_what_is_not_needed_is_not_asked_for(guidance: Guidance, levels: list[Any]) -> None:
    needs = guidance.requires()
    asks = run(guidance, start(levels), levels).answerer.asks
    denoise = [ask for ask in asks if hasattr(ask, "conds")]
    keys = {cond.key for ask in denoise for cond in ask.conds}
    assert ("" in keys) == needs.negative
    assert any(ask.network == "weak" for ask in denoise) == needs.weak
    assert any(hasattr(ask, "labels") for ask in asks) == needs.classifier
    assert any(ask.grad for ask in asks) == needs.grad
    assert (guidance.population() is not None) == needs.particles


def test_runs_on_the_toy_model_end_to_end(guidance: Guidance) -> None:
    """Through the plain driver: the cost is the declared one, a seed gives one picture, traces are whole."""
    if guidance.needs.qr:
        pytest.skip("its run has stages of its own: tests/samplers/test_qr.py")
    toy = Toy(size_px=16)
    steps = 6

    def once() -> Sampled:
        return sample(toy, "high", classes=("low", "middle"), guidance=guidance, steps=steps, seeds=(4,))

    first, again = once(), once()
    assert torch.equal(first.latents, again.latents)
    assert set(first.trace[0]) == set(guidance.traces)
    plan = compile_plan(fitting_sampler(toy, guidance), steps, "vp", toy.scheduler_config)
    assert all(len(column) == len(plan.rows) for column in first.trace[0].values())
    counted, declared = first.nfe[0].model + first.nfe[0].weak, guidance.nfe(plan.steps)
    assert counted <= declared if guidance.method in COST_DEPENDS_ON_DATA else counted == declared


def test_survives_json(guidance: Guidance) -> None:
    read = ADAPTER.validate_json(guidance.model_dump_json())
    assert read == guidance
    assert type(read) is type(guidance)
    assert json.loads(guidance.model_dump_json())["method"] == guidance.method


def test_says_what_it_is(guidance: Guidance) -> None:
    assert guidance.title
    assert guidance.summary.endswith(".")
    assert isinstance(guidance.paper, Paper)
    assert guidance.paper.title
    assert guidance.paper.arxiv
    assert isinstance(guidance.needs, Needs)
    doc = type(guidance).__doc__ or ""
    assert "denoised" in doc or "x_s" in doc, "the docstring states the equation"
    assert "Source:" in doc


def test_every_field_is_described(guidance: Guidance) -> None:
    schema = type(guidance).model_json_schema()
    for name, value in schema["properties"].items():
        if name != "method":
            assert value.get("description"), name
            assert value["description"].strip() == value["description"]


def test_presets_are_valid(guidance: Guidance) -> None:
    for name, values in type(guidance).presets.items():
        assert type(guidance)(**values), name
    for kind, values in guidance.usual.items():
        assert kind in ARCHITECTURES or kind in get_args(Family)
        usual = type(guidance)(**values)
        assert guidance.suited(kind) == usual
        assert usual.suited(kind) == usual, "what is given stays"


def test_unknown_fields_and_methods_are_refused() -> None:
    with pytest.raises(ValidationError, match="scael"):
        ADAPTER.validate_python({"method": "cfg", "scael": 3})
    with pytest.raises(ValidationError, match="method"):
        ADAPTER.validate_python({"method": "magic"})


def test_instances_are_frozen(guidance: Guidance) -> None:
    with pytest.raises(ValidationError):
        guidance.method = "other"


def test_importing_the_methods_does_not_import_torch() -> None:
    code = "import guidance, sys; guidance.REGISTRY; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
