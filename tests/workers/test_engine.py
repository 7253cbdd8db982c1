import threading
from collections.abc import Callable
from itertools import count

import pytest
import torch
from torch import Tensor

from guidance.apg import APG
from guidance.asks import Cond, Conditions, Decode, Denoise, Guide, Level, Prediction, Step
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.none import NoGuidance
from samplers.driver import drive
from samplers.loop import Run
from tests.workers.tiny import Tiny, image
from workers.engine import Engine
from workers.forwards import Determinism
from workers.ticket import Outcome, Ticket

LEVEL = Level(0.8, 0.6, 300.0)
MIXED = [
    (CFG(scale=3), "ddim", 7),
    (APG(scale=5), "euler_a", 5),
    (CFGPP(scale=0.6), "dpmpp_2m", 9),
    (NoGuidance(), "unipc", 6),
    (CFG(scale=2, guide_to=0.5), "euler", 8),
    (APG(scale=2), "heun", 4),
]
"""Methods, samplers and step counts that share forwards in these tests."""


class Graded(NoGuidance):
    """Follows the gradient of its own estimate and looks at a picture."""

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        x_t = x_t.detach().requires_grad_()
        (pos,) = yield Denoise(x_t, step.now, (cond.positive,), grad=True)
        (slope,) = torch.autograd.grad(pos.square().sum(), x_t)
        yield Decode(pos.detach())
        return Prediction(pos.detach() - 0.01 * slope)


class Broken(NoGuidance):
    """Raises at its third step."""

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
        if step.index == 2:
            raise ValueError("no third step")
        return Prediction(pos)


class Spoiled(NoGuidance):
    """Predicts infinities from its third step on."""

    def guide(self, x_t: Tensor, step: Step, cond: Conditions, state: None) -> Guide:
        (pos,) = yield Denoise(x_t, step.now, (cond.positive,))
        return Prediction(pos * float("inf") if step.index == 2 else pos)


@pytest.fixture
def model() -> Tiny:
    return Tiny()


def mixed(model: Tiny) -> list[Run]:
    return [image(model, guidance, seed, sampler, n) for seed, (guidance, sampler, n) in enumerate(MIXED)]


def submit(engine: Engine, run: Run, work: int = 0) -> tuple[Ticket, list[Outcome]]:
    outcomes: list[Outcome] = []
    return engine.submit(Ticket("tiny", run, outcomes.append, work)), outcomes


def finish(engine: Engine, runs: list[Run]) -> list[Outcome]:
    """Submit all at once, run to the end, answer the one outcome of each."""
    submitted = [submit(engine, run) for run in runs]
    while engine.step():
        pass
    assert all(len(outcomes) == 1 for _, outcomes in submitted)
    return [outcomes[0] for _, outcomes in submitted]


def latents(outcome: Outcome) -> Tensor:
    assert outcome.error is None
    assert outcome.final is not None
    return outcome.final.latents


def close(got: Tensor, wanted: Tensor) -> bool:
    return float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize("policy", ["fifo", "srpt"])
@pytest.mark.parametrize("max_rows", [1, 3, 8, 32])
def test_runs_that_share_forwards_give_what_each_gives_alone(model: Tiny, max_rows: int, policy: str) -> None:
    alone, nfe = zip(*(drive(model, [run]) for run in mixed(model)), strict=True)
    outcomes = finish(Engine({"tiny": model}, max_rows, policy=policy), mixed(model))
    for (single,), (cost,), outcome in zip(alone, nfe, outcomes, strict=True):
        assert close(latents(outcome), single.latents)
        assert outcome.nfe == cost
        assert outcome.final is not None
        assert outcome.final.trace.keys() == single.trace.keys()


def test_rows_of_different_methods_and_samplers_share_a_forward(model: Tiny) -> None:
    engine = Engine({"tiny": model}, 32)
    finish(engine, mixed(model))
    assert model.calls[0] == sum(1 if isinstance(guidance, NoGuidance) else 2 for guidance, _, _ in MIXED)
    assert len(model.calls) == max(9, 8, 7, 7) == engine.stats.forwards
    assert sum(model.calls) == engine.stats.rows


def test_a_run_may_join_at_every_step_and_leave_while_others_go_on(model: Tiny) -> None:
    (wanted,), _ = drive(model, [image(model, CFG(), 5, steps=6)])
    for delay in range(6):
        engine = Engine({"tiny": model})
        others = [submit(engine, image(model, APG(), seed, steps=3 + seed)) for seed in range(4)]
        for _ in range(delay):
            engine.step()
        _, outcomes = submit(engine, image(model, CFG(), 5, steps=6))
        while engine.step():
            pass
        assert close(latents(outcomes[0]), wanted.latents)
        assert all(outcome.final for _, (outcome,) in others)


def test_bucket_gives_the_same_bits_at_any_load(model: Tiny) -> None:
    (alone,) = finish(Engine({"tiny": model}, 8, determinism="bucket"), [mixed(model)[0]])
    crowded = finish(Engine({"tiny": model}, 8, determinism="bucket"), mixed(model))
    reverse = finish(Engine({"tiny": model}, 8, determinism="bucket", policy="srpt"), mixed(model)[::-1])
    assert set(model.calls) == {8}
    assert torch.equal(latents(crowded[0]), latents(alone))
    for one, other in zip(crowded, reverse[::-1], strict=True):
        assert torch.equal(latents(one), latents(other))


def test_no_forward_has_more_rows_than_allowed_and_one_ask_may_need_several(model: Tiny) -> None:
    outcomes = finish(Engine({"tiny": model}, 3), mixed(model))
    assert max(model.calls) == 3
    assert all(outcome.final for outcome in outcomes)
    model.calls.clear()
    finish(Engine({"tiny": model}, 1), [image(model, CFG(), 1, steps=2)])
    assert model.calls == [1, 1, 1, 1]


def test_cancel_takes_effect_before_the_next_forward(model: Tiny) -> None:
    engine = Engine({"tiny": model})
    canceled, outcomes = submit(engine, image(model, CFG(), steps=50))
    _, others = submit(engine, image(model, CFG(), 1, steps=5))
    engine.step()
    engine.step()
    engine.cancel(canceled)
    engine.step()
    assert model.calls == [4, 4, 2]
    assert (outcomes[0].final, outcomes[0].error, outcomes[0].nfe.model) == (None, None, 4)
    engine.cancel(canceled)
    while engine.step():
        pass
    assert len(outcomes) == 1
    assert others[0].final is not None


def test_a_run_canceled_before_it_began_asks_nothing(model: Tiny) -> None:
    engine = Engine({"tiny": model})
    ticket, outcomes = submit(engine, image(model, CFG()))
    engine.cancel(ticket)
    assert not engine.step()
    assert (outcomes[0].final, outcomes[0].nfe.model, model.calls) == (None, 0, [])


@pytest.mark.parametrize(
    ("guidance", "error", "message"),
    [(Broken(), ValueError, "no third step"), (Spoiled(), FloatingPointError, "not finite")],
)
def test_a_failing_run_fails_alone(
    model: Tiny, guidance: Guidance, error: type[Exception], message: str
) -> None:
    (wanted,), _ = drive(model, [image(model, CFG(), 3, steps=10)])
    engine = Engine({"tiny": model})
    _, failing = submit(engine, image(model, guidance, steps=10))
    _, sound = submit(engine, image(model, CFG(), 3, steps=10))
    while engine.step():
        pass
    assert close(latents(sound[0]), wanted.latents)
    assert failing[0].final is None
    assert failing[0].nfe.model < 10
    with pytest.raises(error, match=message):
        raise failing[0].error or AssertionError("it did not fail")


def test_an_ask_that_the_network_refuses_fails_its_own_run_only(model: Tiny) -> None:
    def refused() -> Run:
        yield Denoise(torch.zeros(1, 4, 4, 4), LEVEL, (Cond("of another model", (1.0,)),))
        raise AssertionError("answered")

    engine = Engine({"tiny": model})
    _, failing = submit(engine, refused())
    _, sound = submit(engine, image(model, CFG()))
    while engine.step():
        pass
    assert failing[0].error is not None
    assert sound[0].final is not None


def test_asks_with_a_gradient_run_alone_and_do_not_hold_up_the_rest(model: Tiny) -> None:
    runs = [image(model, Graded(), 0), image(model, CFG(), 1), image(model, Graded(), 2)]
    wanted = [drive(model, [run])[0][0].latents for run in runs]
    model.calls.clear()
    runs = [image(model, Graded(), 0), image(model, CFG(), 1), image(model, Graded(), 2)]
    outcomes = finish(Engine({"tiny": model}), runs)
    assert all(close(latents(outcome), one) for outcome, one in zip(outcomes, wanted, strict=True))
    assert (outcomes[0].nfe.grad, outcomes[0].nfe.decode, outcomes[1].nfe.grad) == (6, 6, 0)
    assert set(model.calls[:12:2]) | set(model.calls[1:12:2]) == {1, 2}


def test_groups_of_different_sizes_take_turns(model: Tiny) -> None:
    model.net = torch.nn.Conv2d(8, 4, 1)
    engine = Engine({"tiny": model})
    runs = [image(model, CFG(), i, steps=4, size_px=32 if i % 2 else 64) for i in range(4)]
    ended: list[int] = []
    for i, run in enumerate(runs):
        engine.submit(Ticket("tiny", run, lambda _, i=i: ended.append(i)))
    for _ in range(6):
        engine.step()
    assert not ended
    engine.step()
    engine.step()
    assert sorted(ended) == [0, 1, 2, 3]


def test_srpt_serves_the_shortest_first_and_ageing_lets_nobody_starve(model: Tiny) -> None:
    def order(ageing: float, waited_s: float) -> list[str]:
        engine = Engine({"tiny": model}, 2, policy="srpt", ageing=ageing)
        ended: list[str] = []
        long = Ticket("tiny", image(model, CFG(), steps=9), lambda _: ended.append("long"), 18)
        long.arrived_s -= waited_s
        engine.submit(long)
        engine.submit(Ticket("tiny", image(model, CFG(), steps=3), lambda _: ended.append("short"), 6))
        while engine.step():
            pass
        return ended

    assert order(ageing=1.0, waited_s=0) == ["short", "long"]
    assert order(ageing=1.0, waited_s=60) == ["long", "short"]


def test_a_run_that_counts_as_come_later_yields_at_every_step_and_does_not_starve(model: Tiny) -> None:
    def order(handicap_s: float, waited_s: float) -> list[str]:
        engine, ended = Engine({"tiny": model}, 2), list[str]()
        late = Ticket("tiny", image(model, CFG(), steps=4), lambda _: ended.append("batch"))
        late.handicap_s = handicap_s
        late.arrived_s -= waited_s
        engine.submit(late)
        engine.step()
        engine.submit(Ticket("tiny", image(model, CFG(), steps=5), lambda _: ended.append("urgent")))
        while engine.step():
            pass
        return ended

    assert order(handicap_s=0, waited_s=0) == ["batch", "urgent"]
    assert order(handicap_s=30, waited_s=0) == ["urgent", "batch"]
    assert order(handicap_s=30, waited_s=31) == ["batch", "urgent"]


def test_forwards_have_no_more_rows_than_the_network_s_knee(
    model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(forward: Callable[[int], object], max_rows: int, clock: object) -> dict[int, float]:
        forward(3)
        measured.append(max_rows)
        return {1: 1.0, 2: 1.1, 4: 1.2, 8: 2.4, 12: 3.6}

    monkeypatch.setattr("workers.knee.measure", measure)
    outcomes = finish(Engine({"tiny": model}, 16, calibrate=True), mixed(model))
    assert all(outcome.final for outcome in outcomes)
    assert measured == [16]
    assert (model.calls[0], max(model.calls)) == (3, 4)
    model.calls.clear()
    finish(Engine({"tiny": model}, 16, determinism="bucket", calibrate=True), mixed(model))
    assert set(model.calls) == {16}


def test_out_of_memory_halves_the_rows_and_goes_on(model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise, room = Tiny.denoise, 3

    def cramped(self: Tiny, x_t: Tensor, *rest: object) -> Tensor:
        if len(x_t) > room:
            raise torch.OutOfMemoryError(f"{len(x_t)} rows")
        return denoise(self, x_t, *rest)  # type: ignore[arg-type]

    wanted = [drive(model, [run])[0][0].latents for run in mixed(model)]
    monkeypatch.setattr(Tiny, "denoise", cramped)
    model.calls.clear()
    outcomes = finish(Engine({"tiny": model}, 12), mixed(model))
    assert max(model.calls) <= room
    assert all(close(latents(outcome), one) for outcome, one in zip(outcomes, wanted, strict=True))


@pytest.mark.parametrize("determinism", ["free", "bucket"])
def test_one_image_that_does_not_fit_fails_alone_and_lower_rows_are_told(
    model: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, determinism: Determinism
) -> None:
    denoise = Tiny.denoise

    def cramped(self: Tiny, x_t: Tensor, *rest: object) -> Tensor:
        if len(x_t) * x_t.shape[2] > 8:  # two rows of 4 x 4, none of 16 x 16
            raise torch.OutOfMemoryError(f"{len(x_t)} rows")
        return denoise(self, x_t, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Tiny, "denoise", cramped)
    engine = Engine({"tiny": model}, 8, determinism=determinism)
    large, fits = finish(engine, [image(model, CFG(), size_px=128), image(model, CFG(), 1)])
    assert isinstance(large.error, torch.OutOfMemoryError)
    assert fits.final is not None
    assert max(model.calls) <= 2
    told = [line for line in caplog.messages if "from now on at most" in line]
    assert told
    assert all(("other bits" in line) == (determinism == "bucket") for line in told)


def test_a_row_that_the_network_spoils_fails_its_run_before_its_end(
    model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of a forward that others share; they end as if it had not been there."""
    (wanted,), _ = drive(model, [image(model, CFG(), 3, steps=10)])
    denoise, seen = Tiny.denoise, 0

    def spoiling(self: Tiny, x_t: Tensor, levels: object, conds: list[Cond], *rest: object) -> Tensor:
        nonlocal seen
        out = denoise(self, x_t, levels, conds, *rest)  # type: ignore[arg-type]
        for row, cond in enumerate(conds):
            if cond.key == "low":
                seen += 1
                out[row] = float("nan") if seen > 2 else out[row]
        return out

    monkeypatch.setattr(Tiny, "denoise", spoiling)
    failing, sound = finish(
        Engine({"tiny": model}),
        [image(model, CFG(), 1, steps=10, prompt="low"), image(model, CFG(), 3, steps=10)],
    )
    assert isinstance(failing.error, FloatingPointError)
    assert failing.nfe.model <= 2 * 4
    assert close(latents(sound), wanted.latents)


def test_the_thread_drives_what_is_submitted_and_closing_cancels_the_rest(model: Tiny) -> None:
    engine = Engine({"tiny": model})
    engine.start()
    done, ends = threading.Event(), []
    engine.submit(
        Ticket("tiny", image(model, CFG(), steps=3), lambda outcome: (ends.append(outcome), done.set()))
    )
    assert done.wait(30)
    assert ends[0].final is not None

    def endless() -> Run:
        for i in count():
            yield Denoise(torch.zeros(1, 4, 4, 4), LEVEL, (model.cond("high"),))
            if i == 2:
                begun.set()
        raise AssertionError

    begun, left = threading.Event(), []
    engine.submit(Ticket("tiny", endless(), left.append))
    assert begun.wait(30)
    engine.close()
    assert (left[0].final, left[0].error) == (None, None)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(Ticket("tiny", endless(), left.append))
