"""What the cards say: of the modules they stand for, and of what goes with what."""

from __future__ import annotations

import pkgutil
from typing import ClassVar

import pytest

from guidance.base import Guidance, Needs
from samplers import steps
from samplers.cards import CARDS, Family, SamplerCard, problems


class Needy(Guidance):
    """A method that needs what it is told to need."""

    method: str = "needy"
    needed: ClassVar[Needs]

    def requires(self) -> Needs:
        return self.needed


def needing(**needs: bool) -> Guidance:
    return type("Told", (Needy,), {"needed": Needs(**needs)})()


def test_every_step_rule_has_a_card_and_every_card_a_step_rule() -> None:
    modules = {module.name for module in pkgutil.iter_modules(steps.__path__)} - {"row"}
    assert modules == set(CARDS)
    assert all(name == card.name for name, card in CARDS.items())


def test_a_card_says_who_to_thank() -> None:
    for card in CARDS.values():
        assert card.title
        assert card.paper.replace(".", "").isdigit()
        assert card.families


@pytest.mark.parametrize(("per_step", "steps", "rows"), [(1, 25, 25), (2, 25, 49), (2, 1, 1)])
def test_the_last_step_takes_one_evaluation(per_step: int, steps: int, rows: int) -> None:
    assert SamplerCard("x", "X", ("vp",), evaluations_per_step=per_step).rows(steps) == rows


def test_what_fits_has_no_problems() -> None:
    everything = {"weak", "classifier", "noisy_classifier", "controlnet", "grad", "pixels"}
    greedy = needing(weak=True, classifier=True, qr=True, grad=True, pixels=True, stochastic=True)
    assert problems(greedy, CARDS["euler_a"], "vp", everything) == []
    assert problems(needing(first_order=True), CARDS["ddim"], "vp", ()) == []
    assert problems(needing(), CARDS["unipc"], "vp", ()) == []


@pytest.mark.parametrize(
    ("need", "sampler", "family", "message"),
    [
        (
            "stochastic",
            "ddim",
            "vp",
            "needs a sampler that adds noise at each step: euler_a, dpmpp_2s_a, sde",
        ),
        ("first_order", "heun", "ve", "needs a first-order sampler: euler, euler_a, sde"),
        ("weak", "ddim", "vp", "needs a weak model, which this model does not have"),
        ("classifier", "ddim", "vp", "needs a classifier, which this model does not have"),
        ("grad", "ddim", "vp", "needs gradients, which this model does not give"),
        ("pixels", "ddim", "vp", "is defined on pixels only, and this model works on latents"),
        ("negative", "ddim", "flow", "sampler 'ddim' does not fit a flow model; use one of: flow_euler"),
    ],
)
def test_each_misfit_is_told_with_what_would_fit(
    need: str, sampler: str, family: Family, message: str
) -> None:
    (found,) = problems(needing(**{need: True}), CARDS[sampler], family, ())
    assert message in found


def test_all_misfits_are_told_at_once() -> None:
    found = problems(needing(stochastic=True, weak=True, grad=True), CARDS["unipc"], "ve", ())
    assert len(found) == 4
