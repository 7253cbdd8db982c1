"""What the network was asked and said: kept where runs begin alike, so that it is asked once for all.

Arms of a comparison start from the same noise. Until their guidance first differs, they ask the same of the
network; so their asks form a tree that branches where they part. What decides is the sample itself, compared
bit by bit with those that came from the same place: nothing is shared that is not the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from weakref import WeakSet, WeakValueDictionary

import torch
from torch import Tensor

from guidance.asks import Cond, Denoise, Level, Network


@dataclass(slots=True, eq=False, weakref_slot=True)
class Question:
    """A sample at a level, put to a network, and the answers so far, by condition.

    It lives as long as a run that came this way: a run holds its latest question, and that those `before`.
    """

    x_t: Tensor
    level: Level
    network: Network
    before: Question | Root | None = None
    """What its run asked first; None where no other run may come to it."""
    answers: dict[Cond, Tensor] = field(default_factory=dict[Cond, Tensor])
    after: WeakSet[Question] = field(default_factory=lambda: WeakSet[Question]())

    def open(self, conds: Sequence[Cond]) -> list[tuple[Question, Cond]]:
        """Those of its rows that have no answer yet, each once."""
        return [(self, cond) for cond in dict.fromkeys(conds) if cond not in self.answers]

    def row(self, cond: Cond) -> Denoise:
        """What is asked of the network for this condition."""
        return Denoise(self.x_t, self.level, (cond,), self.network)

    def take(self, cond: Cond, answer: Tensor) -> None:
        """Keep an answer, and not the whole forward with it."""
        self.answers[cond] = answer if self.before is None else answer.clone()

    def same(self, ask: Denoise) -> bool:
        """Whether `ask` puts the very same sample. Waits for the device."""
        return (
            self.level == ask.level
            and self.network == ask.network
            and self.x_t.shape == ask.x_t.shape
            and torch.equal(self.x_t, ask.x_t)
        )


@dataclass(slots=True, eq=False, weakref_slot=True)
class Root:
    """Where the runs of a family begin."""

    after: WeakSet[Question] = field(default_factory=lambda: WeakSet[Question]())


class Prefixes:
    """The trees of those runs that have a family; a run without one has each question for itself."""

    def __init__(self) -> None:
        self._roots = WeakValueDictionary[Hashable, Root]()

    def ask(self, ask: Denoise, family: Hashable | None, latest: Question | None) -> Question:
        """The question of `ask`; in a family the one that another run put, where both came to the same."""
        if family is None:
            return Question(ask.x_t, ask.level, ask.network)
        before = latest or self._roots.setdefault(family, Root())
        for question in before.after:
            if question.same(ask):
                return question
        question = Question(ask.x_t, ask.level, ask.network, before)
        before.after.add(question)
        return question
