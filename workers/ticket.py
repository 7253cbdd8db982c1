"""A run in the engine's hands, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from guidance.asks import Ask, Cond, Denoise
from samplers.answer import Nfe, kind, rows
from samplers.loop import Final, Run
from workers.prefix import Question


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How a run ended: with `final`, with `error`, or, with neither, canceled."""

    final: Final | None
    error: Exception | None
    nfe: Nfe
    denoise_ms: float
    """From the run's first forward to its end."""
    busy_ms: float
    """Its share of the time of the forwards it took part in."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One run. For the order of service, `work` is its expected cost in rows and `handicap_s` how much later
    it counts as come. Runs of one `family` begin alike and share what they ask until they part.

    `on_end` is called exactly once, in the engine's thread; it must be quick and must not raise.
    """

    model: str
    run: Run
    on_end: Callable[[Outcome], None]
    work: int = 0
    handicap_s: float = 0.0
    family: Hashable | None = None
    nfe: Nfe = field(default_factory=Nfe)
    ask: Ask | None = None
    question: Question | None = None
    """What its latest ask that may share a forward puts to the network."""
    arrived_s: float = field(default_factory=time.monotonic)
    began_s: float | None = None
    busy_s: float = 0.0
    canceled: bool = False
    ended: bool = False

    @property
    def shared(self) -> Denoise | None:
        """The ask that it waits for, if that may share a forward with others."""
        return self.ask if isinstance(self.ask, Denoise) and not self.ask.grad else None

    @property
    def rows(self) -> int:
        """Rows of the forward that it waits for."""
        return rows(self.ask) if isinstance(self.ask, Denoise) else 1

    @property
    def open(self) -> list[tuple[Question, Cond]]:
        """Rows that the network has yet to answer for it."""
        return self.question.open(ask.conds) if self.question and (ask := self.shared) else []

    @property
    def group(self) -> Hashable:
        """What runs must have in common to share a forward; asks that cannot share wait in one line."""
        if ask := self.shared:
            return (self.model, kind(ask))
        return (self.model, "alone")

    @property
    def since_s(self) -> float:
        """When it counts as come."""
        return self.arrived_s + self.handicap_s

    def remaining(self) -> int:
        """Rows that it still expects to ask for."""
        return max(0, self.work - self.nfe.model - self.nfe.weak)

    def end(self, final: Final | None = None, error: Exception | None = None) -> None:
        """Close the run and report; once."""
        if self.ended:
            return
        self.ended = True
        self.run.close()
        now = time.monotonic()
        self.on_end(Outcome(final, error, self.nfe, (now - (self.began_s or now)) * 1e3, self.busy_s * 1e3))
