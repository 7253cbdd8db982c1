"""The run: the update, the order of the draws, particles, and what a method must not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor

from guidance.asks import Conditions, Denoise, Guide, Level, Prediction, Step
from guidance.base import Guidance, Population, Trace
from samplers.loop import Final, Observed, advance, run
from samplers.models.toy import Toy
from samplers.steps import Plan, Row, compile_plan

SHAPE = (1, 1, 2)
CONDITIONS = Conditions(Toy().cond("high"), Toy().cond(""))
LEVELS = [Level(0.6, 0.8, 700.0), Level(0.8, 0.6, 400.0), Level(0.96, 0.28, 100.0), Level(1.0, 0.0, 0.0)]

Rule = Callable[[Tensor, Step], Prediction]


class Scripted(Guidance):
    """A method that asks once a row and predicts what the test says."""

    method: str = "scripted"
    rule: Any = None
    particles: Population | None = None
    state: Any = None
    traces: ClassVar = {"number": Trace("n"), "ess": Trace("effective sample size")}

    def start(self) -> Any:
        return self.state

    def population(self) -> Population | None:
        return self.particles

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: Any) -> Guide:
        yield Denoise(x_t, step.now, (cond.positive,))
        return cast("Rule", self.rule)(x_t, step)


class Drawn:
    """Counts what is drawn; the i-th draw is i everywhere."""

    def __init__(self, batch: int = 1, uniform: float = 0.5) -> None:
        self.draws, self.uniforms = 0, 0
        self._shape, self._uniform = (batch, *SHAPE), uniform

    def draw(self) -> Tensor:
        self.draws += 1
        return torch.full(self._shape, float(self.draws))

    def uniform(self) -> float:
        self.uniforms += 1
        return self._uniform


def plan_of(*numbers: dict[str, float], init_scale: float = 1.0) -> Plan:
    rows = [
        Row(now, then, **({"a": 1.0, "b": 0.0} | given))
        for now, then, given in zip(LEVELS, LEVELS[1:], numbers, strict=False)
    ]
    return Plan(tuple(rows), init_scale)


def finish(plan: Plan, guidance: Guidance, noise: Any, observe: Any = None) -> Final:
    sampling = run(plan, guidance, CONDITIONS, noise, observe)
    reply: Any = None
    while True:
        try:
            ask = sampling.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = [torch.zeros_like(cast("Denoise", ask).x_t)]


def estimates(*values: float | tuple[float, float], **rest: Any) -> Rule:
    """Row i predicts the i-th value: `denoised`, or (`denoised`, `renoise`)."""

    def rule(x: Tensor, step: Step) -> Prediction:
        value = values[step.index]
        if isinstance(value, tuple):
            return Prediction(torch.full_like(x, value[0]), torch.full_like(x, value[1]), **rest)
        return Prediction(torch.full_like(x, value), **rest)

    return rule


def test_the_update_is_the_stated_sum() -> None:
    row = Row(LEVELS[0], LEVELS[1], a=2, b=3, c=5, d=7, shift=11, noise=13)
    x, denoised, renoise, old, older, noise = (
        torch.full((1, 1), float(v)) for v in (1, 10, 4, 100, 1000, 0.1)
    )
    x_s = advance(row, x, denoised, renoise, [old, older], noise)
    assert float(x_s) == pytest.approx(2 * 1 + 3 * 4 + 5 * 100 + 7 * 1000 + 11 * (10 - 4) + 13 * 0.1)
    assert float(x) == 1
    assert float(advance(row, x, renoise, renoise, [old, older], None)) == pytest.approx(2 + 12 + 500 + 7000)


def test_the_history_holds_what_was_renoised_with() -> None:
    plan = plan_of({"a": 0, "b": 1}, {"a": 0, "c": 1}, {"a": 0, "c": 10, "d": 1})
    seen: list[Observed] = []
    guidance = Scripted(rule=estimates((9.0, 1.0), (9.0, 2.0), (9.0, 3.0)))
    final = finish(plan, guidance, Drawn(), seen.append)
    assert [float(row.x_t.mean()) for row in seen] == [1, 1, 1]
    assert final.latents.tolist() == torch.full((1, *SHAPE), 10 * 2 + 1.0).tolist()
    assert [float(row.denoised.mean()) for row in seen] == [9, 9, 9]
    assert [row.step for row in seen] == list(plan.steps)


def test_only_rows_with_noise_draw_after_the_start() -> None:
    noise = Drawn()
    plan = plan_of({"noise": 10.0}, {}, {"noise": 100.0}, init_scale=0.5)
    final = finish(plan, Scripted(rule=estimates(0.0, 0.0, 0.0)), noise)
    assert noise.draws == 3
    assert noise.uniforms == 0
    assert float(final.latents.mean()) == 0.5 * 1 + 10 * 2 + 100 * 3


def test_a_closed_run_asks_nothing_more() -> None:
    seen: list[Observed] = []
    sampling = run(plan_of({}, {}), Scripted(rule=estimates(0.0, 0.0)), CONDITIONS, Drawn(), seen.append)
    next(sampling)
    sampling.send([torch.zeros(1, *SHAPE)])
    sampling.close()
    assert len(seen) == 1
    with pytest.raises(StopIteration):
        next(sampling)


def test_traces_have_one_number_a_row() -> None:
    def rule(x: Tensor, step: Step) -> Prediction:
        return Prediction(x, trace={"number": step.index * 2.0})

    assert finish(plan_of({}, {}, {}), Scripted(rule=rule), Drawn()).trace["number"] == [0, 2, 4]


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (
            lambda x, step: Prediction(x[..., :1]),
            ValueError,
            r"predicted shape \(1, 1, 1, 1\) for \(1, 1, 1, 2\)",
        ),
        (lambda x, step: Prediction(x, x[..., :1]), ValueError, "'scripted' predicted shape"),
        (lambda x, step: Prediction(x, log_weight=x[:, 0, 0, 0]), ValueError, r"without a population\(\)"),
        (lambda x, step: Prediction(x, trace={"nonsense": 1.0}), ValueError, "declare it in its `traces`"),
        (lambda x, step: Prediction(x / 0), FloatingPointError, "Lower its scale or use more steps"),
    ],
)
def test_a_broken_promise_is_told(rule: Rule, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        finish(plan_of({"b": 1.0}), Scripted(rule=rule), Drawn())


def test_what_a_method_returns_is_cut_from_its_graph() -> None:
    def rule(x: Tensor, step: Step) -> Prediction:
        return Prediction(x.clone().requires_grad_(True) * 2)

    assert not finish(plan_of({"b": 1.0}), Scripted(rule=rule), Drawn()).latents.requires_grad


class Places:
    """Per-particle state that follows its particles."""

    def __init__(self, count: int) -> None:
        self.origin = torch.arange(count)

    def select(self, indices: Tensor) -> None:
        self.origin = self.origin[indices]


def named(x: Tensor) -> Tensor:
    """Each particle's own number: 0, 1, 2, ..."""
    return torch.arange(float(len(x))).view(-1, 1, 1, 1).expand_as(x)


def weighed(weights: list[float], at: int, population: Population, rows: int = 2) -> tuple[Final, Places]:
    """The particles are numbered at row 0 and weighed at row `at`."""

    def rule(x: Tensor, step: Step) -> Prediction:
        log_weight = torch.tensor(weights).log() if step.index == at else None
        return Prediction(named(x) if step.index == 0 else x, log_weight=log_weight)

    state = Places(len(weights))
    guidance = Scripted(rule=rule, particles=population, state=state)
    plan = plan_of(*[{"a": 0.0, "b": 1.0}] * rows)
    return finish(plan, guidance, Drawn(len(weights), uniform=0.1)), state


def test_resampling_takes_particles_and_their_state_along() -> None:
    final, state = weighed([0.0, 1.0, 0.0, 3.0], at=0, population=Population(4, keep="all"))
    assert final.latents[:, 0, 0, 0].tolist() == state.origin.tolist() == [1, 3, 3, 3]
    assert final.trace["ess"] == [pytest.approx(1.6), None]


def test_resampling_takes_the_history_along() -> None:
    def rule(x: Tensor, step: Step) -> Prediction:
        weights = torch.tensor([0.0, 1.0]).log() if step.index == 0 else None
        return Prediction(named(x) if step.index == 0 else 0 * x, log_weight=weights)

    plan = plan_of({"a": 0.0}, {"a": 0.0, "c": 1.0})
    guidance = Scripted(rule=rule, particles=Population(2, resample_below=1.0, keep="all"))
    assert finish(plan, guidance, Drawn(2)).latents[:, 0, 0, 0].tolist() == [1, 1]


def test_weights_wait_until_few_particles_matter() -> None:
    mild = [1.0, 2.0, 3.0, 3.0]  # effective: 3.5 of 4
    for limit, expected in ((0.5, 0), (0.9, 1)):
        population = Population(4, resample_below=limit, keep="all")
        noise = Drawn(4)

        def rule(x: Tensor, step: Step) -> Prediction:
            log_weight = torch.tensor(mild).log() if step.index == 0 else torch.zeros(4)
            return Prediction(x, log_weight=log_weight)

        sampling = run(plan_of({}, {}), Scripted(rule=rule, particles=population), CONDITIONS, noise)
        next(sampling)
        sampling.send([torch.zeros(4, *SHAPE)])
        assert noise.uniforms == expected


def test_weight_that_is_left_at_the_end_is_paid_out_and_one_particle_kept() -> None:
    population = Population(2, resample_below=0.0)
    final, _ = weighed([0.25, 0.75], at=1, population=population)
    assert final.latents.shape == (1, *SHAPE)
    assert float(final.latents.mean()) == 0  # u = 0.1 falls into the first particle's quarter
    final, _ = weighed([0.05, 0.95], at=1, population=population)
    assert float(final.latents.mean()) == 1


def test_equal_weights_resample_nothing() -> None:
    noise = Drawn(2)
    guidance = Scripted(rule=estimates(0.0, log_weight=torch.zeros(2)), particles=Population(2))
    finish(plan_of({}), guidance, noise)
    assert noise.uniforms == 0


def test_the_prior_scale_widens_the_start() -> None:
    guidance = Scripted(rule=estimates(0.0), particles=Population(2, prior_scale=3.0))
    assert float(finish(plan_of({}, init_scale=0.5), guidance, Drawn(2)).latents.mean()) == 1.5


def test_weights_without_a_finite_sum_are_an_error_not_a_choice() -> None:
    with pytest.raises(FloatingPointError, match="weights are not finite"):
        weighed([float("nan"), 1.0], at=0, population=Population(2))


def test_two_rows_of_a_step_share_its_index_and_say_where_it_began() -> None:
    plan = compile_plan("heun", 3, "vp", Toy().scheduler_config)
    assert [step.index for step in plan.steps] == [0, 0, 1, 1, 2]
    assert {step.total for step in plan.steps} == {3}
    assert [step.began for step in plan.steps] == [None, plan.rows[0].now, None, plan.rows[2].now, None]
    assert plan.levels == (*(row.now for row in plan.rows), plan.rows[-1].next)
