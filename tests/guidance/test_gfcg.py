from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from guidance.asks import Ask, Classify, Conditions, Denoise
from guidance.autoguidance import Autoguidance
from guidance.cfg import CFG
from guidance.gfcg import GFCG
from guidance.none import NoGuidance
from tests import analytic
from tests.analytic import (
    CONDITIONS,
    MIDDLE,
    NEGATIVE,
    POSITIVE,
    TARGET,
    Answerer,
    run,
    start,
    steps_of,
    vp_levels,
)

LEVELS = vp_levels()
STEP = steps_of(LEVELS)[4]
X = start([STEP.now])
LOGITS = torch.tensor([2.0, 1.0, 3.5, -0.5, 0.0])
FIVE = Conditions(POSITIVE, NEGATIVE, tuple(analytic.TOY.cond(f"class {k}") for k in range(1, 5)))


class Says(Answerer):
    """A classifier that is a look-up: the same logits for every picture, or a row for each."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self._logits = logits

    def answer(self, ask: Ask) -> Any:
        if isinstance(ask, Classify):
            self.asks.append(ask)
            assert not ask.grad
            return self._logits.expand(len(ask.images), -1)
        return super().answer(ask)


def denoises(answerer: Answerer) -> list[Denoise]:
    return [ask for ask in answerer.asks if isinstance(ask, Denoise)]


def guided(guidance: GFCG, logits: torch.Tensor, cond: Conditions = FIVE, x: torch.Tensor = X):
    answerer = Says(logits)
    return answerer.finish(guidance.guide(x, STEP, cond, guidance.start())), answerer


@pytest.mark.parametrize(
    ("logits", "reference", "confusion", "expected"),
    [
        # The target is the first column; p = (.164826, .060636, .738701, .013530, .022307).
        (LOGITS, 2, "one_minus_p", 0.835174),
        (LOGITS, 2, "margin", 0.817574),
        (LOGITS, 2, "hard", 1.0),
        # The same with the winner as target.
        (LOGITS[[2, 0, 1, 3, 4]], 1, "one_minus_p", 0.261299),
        (LOGITS[[2, 0, 1, 3, 4]], 1, "margin", 0.182426),
        (LOGITS[[2, 0, 1, 3, 4]], 1, "hard", 0.0),
    ],
)
def test_the_worked_example(logits: torch.Tensor, reference: int, confusion: Any, expected: float) -> None:
    prediction, answerer = guided(GFCG(confusion=confusion), logits)
    assert prediction.trace["confusion"].tolist() == pytest.approx([expected] * 3, abs=1e-6)
    assert prediction.trace["w"].tolist() == pytest.approx([1 + expected] * 3, abs=1e-6)
    pos = analytic.denoised(X, STEP.now, POSITIVE)
    ref = analytic.denoised(X, STEP.now, FIVE.classes[reference - 1])
    w = prediction.trace["w"].view(-1, 1, 1, 1)
    assert torch.allclose(prediction.denoised, pos + (w - 1) * (pos - ref), atol=1e-12)
    assert answerer.evaluations == (6 if expected else 3)


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    one, _ = guided(GFCG(), LOGITS.double())
    other, _ = guided(GFCG(), LOGITS.double() + 7)
    assert torch.allclose(one.denoised, other.denoised, atol=1e-12)


def test_a_certain_classifier_leaves_the_prediction_alone_bit_for_bit() -> None:
    prediction, answerer = guided(GFCG(confusion="hard"), torch.tensor([9.0, 0, 0, 0, 0]))
    assert torch.equal(prediction.denoised, analytic.denoised(X, STEP.now, POSITIVE))
    assert answerer.evaluations == 3


def test_the_target_is_never_its_own_reference() -> None:
    for logits in (torch.zeros(5), torch.tensor([5.0, 0, 0, 0, 0])):
        _, answerer = guided(GFCG(), logits)
        assert denoises(answerer)[-1].conds[0].key.startswith("class ")
    twice = Conditions(POSITIVE, NEGATIVE, (POSITIVE, TARGET))
    _, answerer = guided(GFCG(), torch.zeros(2), twice)
    assert denoises(answerer)[-1].conds[0].key == TARGET.key


def test_without_another_class_it_says_so() -> None:
    for classes in ((), (POSITIVE,)):
        with pytest.raises(ValueError, match="classes"):
            guided(GFCG(), torch.zeros(1), Conditions(POSITIVE, NEGATIVE, classes))


def test_the_scale_falls_as_the_target_grows_likelier() -> None:
    scales = [
        guided(GFCG(strength=4, max_scale=100), torch.tensor([a, 0.0, 1.0, 0.0, 0.0]))[0].trace["w"][0].item()
        for a in (-2.0, 0.0, 2.0, 4.0)
    ]
    assert scales == sorted(scales, reverse=True)
    assert scales[0] > scales[-1] > 1


def test_the_scale_has_a_ceiling() -> None:
    prediction, _ = guided(GFCG(strength=10, max_scale=3), LOGITS)
    assert prediction.trace["w"].tolist() == [3.0] * 3


def test_relabelling_the_classes_changes_nothing() -> None:
    order = [3, 1, 0, 2]
    shuffled = Conditions(POSITIVE, NEGATIVE, tuple(FIVE.classes[k] for k in order))
    one, _ = guided(GFCG(), LOGITS)
    other, _ = guided(GFCG(), LOGITS[[0, *(k + 1 for k in order)]], shuffled)
    assert torch.equal(one.denoised, other.denoised)


def test_every_image_has_its_own_class_and_scale() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 1.0, 3.0], [9.0, -9.0, -9.0]])
    for guidance in (
        GFCG(),
        GFCG(confusion="hard"),
        GFCG(mode="add"),
        GFCG(mode="mix"),
        GFCG(mode="autoguidance"),
    ):
        together, _ = guided(guidance, logits, CONDITIONS)
        for k in range(3):
            alone, _ = guided(guidance, logits[k : k + 1], CONDITIONS, X[k : k + 1])
            assert torch.allclose(together.denoised[k : k + 1], alone.denoised, atol=1e-12)
    assert {ask.conds[0].key for ask in denoises(guided(GFCG(), logits, CONDITIONS)[1])} == {
        POSITIVE.key,
        TARGET.key,
        MIDDLE.key,
    }


def test_equal_classes_do_nothing() -> None:
    same = Conditions(POSITIVE, NEGATIVE, (analytic.Cond("the same by another name", POSITIVE.data),))
    prediction, _ = guided(GFCG(strength=4), torch.zeros(2), same)
    assert torch.allclose(prediction.denoised, analytic.denoised(X, STEP.now, POSITIVE), atol=1e-14)


def test_a_constant_scale_from_the_null_label_is_cfg() -> None:
    null = Conditions(POSITIVE, NEGATIVE, (NEGATIVE,))
    prediction, _ = guided(GFCG(confusion="hard", strength=3), torch.tensor([0.0, 1.0]), null)
    cfg = Answerer().finish(CFG(scale=4).guide(X, STEP, null, None))
    assert torch.allclose(prediction.denoised, cfg.denoised, atol=1e-12)


def test_added_to_cfg() -> None:
    prediction, answerer = guided(GFCG(mode="add", scale=3, confusion="margin"), LOGITS)
    pos, neg, ref = (analytic.denoised(X, STEP.now, c) for c in (POSITIVE, NEGATIVE, FIVE.classes[1]))
    k = prediction.trace["confusion"].view(-1, 1, 1, 1)
    assert torch.allclose(prediction.denoised, pos + 2 * (pos - neg) + k * (pos - ref), atol=1e-12)
    assert answerer.evaluations == 9
    assert [len(ask.conds) for ask in denoises(answerer)] == [2, 1]


def test_mixed_into_cfgs_reference() -> None:
    prediction, _ = guided(GFCG(mode="mix", scale=3), LOGITS)
    pos, neg, ref = (analytic.denoised(X, STEP.now, c) for c in (POSITIVE, NEGATIVE, FIVE.classes[1]))
    k = prediction.trace["confusion"].view(-1, 1, 1, 1)
    expected = pos + 2 * (pos - ((1 - k) * neg + k * ref))
    assert torch.allclose(prediction.denoised, expected, atol=1e-12)
    certain, answerer = guided(GFCG(mode="mix", scale=3, confusion="hard"), torch.tensor([9.0, 0, 0, 0, 0]))
    cfg = Answerer().finish(CFG(scale=3).guide(X, STEP, FIVE, None))
    assert torch.allclose(certain.denoised, cfg.denoised, atol=1e-12)
    assert answerer.evaluations == 6


def test_with_autoguidance_the_weak_model_takes_the_wrong_class() -> None:
    """One evaluation of each model, as the paper says of the combination."""
    prediction, answerer = guided(GFCG(mode="autoguidance", confusion="margin", scale=2.3), LOGITS)
    pos = analytic.denoised(X, STEP.now, POSITIVE)
    weak = analytic.denoised(X, STEP.now, FIVE.classes[1], "weak")
    assert torch.allclose(prediction.denoised, pos + 1.3 * (pos - weak), atol=1e-12)
    assert [(ask.network, len(ask.conds)) for ask in denoises(answerer)] == [("main", 1), ("weak", 1)]
    never, _ = guided(GFCG(mode="autoguidance", switch_above=1, scale=2.3), LOGITS)
    plain = Answerer().finish(Autoguidance(scale=2.3).guide(X, STEP, FIVE, None))
    assert torch.allclose(never.denoised, plain.denoised, atol=1e-12)


@pytest.mark.parametrize("mode", ["alone", "add", "mix"])
def test_lagging_uses_the_verdict_of_the_step_before(mode: Any) -> None:
    guidance, answerer = GFCG(lag=True, mode=mode, scale=3), Says(LOGITS)
    state = guidance.start()
    first = answerer.finish(guidance.guide(X, STEP, FIVE, state))
    unguided = CFG(scale=3 if mode in ("add", "mix") else 1)
    expected = Answerer().finish(unguided.guide(X, STEP, FIVE, None)).denoised
    assert torch.allclose(first.denoised, expected, atol=1e-12)
    before = len(denoises(answerer))
    second = answerer.finish(guidance.guide(X, STEP, FIVE, state))
    assert len(denoises(answerer)) == before + 1, "pos and ref come from one forward"
    now, _ = guided(GFCG(mode=mode, scale=3), LOGITS)
    assert torch.allclose(second.denoised, now.denoised, atol=1e-12)


def test_on_the_toy_it_raises_the_probability_of_the_target() -> None:
    """With the toy's exact classifier in the loop."""
    levels = vp_levels(20)
    x = start(levels, 32, shape=(4, 1, 1))

    def accuracy(guidance: Any) -> float:
        latents = run(guidance, x, levels).x
        logits = analytic.TOY.classify(analytic.TOY.decode(latents), (POSITIVE, TARGET, MIDDLE))
        return logits.double().softmax(1)[:, 0].mean().item()

    plain, guided_ = accuracy(NoGuidance()), accuracy(GFCG(strength=4))
    assert guided_ > plain + 0.05


def test_declared_needs_follow_the_mode() -> None:
    assert not GFCG().requires().negative
    assert GFCG(mode="add").requires().negative
    assert GFCG(mode="mix").requires().negative
    assert GFCG(mode="autoguidance").requires().weak
    assert [GFCG(mode=m).nfe(steps_of(LEVELS)) for m in ("alone", "add", "mix", "autoguidance")] == [
        16,
        24,
        24,
        16,
    ]


def test_outside_the_interval_nothing_is_judged() -> None:
    answerer = Says(LOGITS)
    prediction = answerer.finish(GFCG(sigma_high=0.001).guide(X, STEP, FIVE, GFCG().start()))
    assert torch.equal(prediction.denoised, analytic.denoised(X, STEP.now, POSITIVE))
    assert len(answerer.asks) == 1


def test_lag_with_autoguidance_is_refused() -> None:
    with pytest.raises(ValidationError, match="lag"):
        GFCG(lag=True, mode="autoguidance")
