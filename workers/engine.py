"""Step-level continuous batching: many runs, one forward.

A run is a generator of asks (`samplers.loop`). The engine collects what all its runs ask, packs the rows of
one model, network and latent shape into one forward, whatever their methods, samplers, seeds and step counts,
and sends each run its rows. Runs join and leave between two forwards; a run that is left out of a forward
waits at its ask, which costs nothing. Nothing here knows what a guidance method or a sampler is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from guidance.asks import Cond
from samplers.answer import answer_one, pack, unpack
from samplers.loop import Final
from samplers.models.base import Model
from workers import meters
from workers.forwards import Determinism, Forwards
from workers.prefix import Prefixes, Question
from workers.ticket import Ticket

NOT_FINITE = (
    "the network's answer for this image is not finite (NaN or infinite). Lower the guidance scale, or run "
    "the model in float32 or bfloat16."
)

Policy = Literal["fifo", "srpt"]
log = logging.getLogger(__name__)


class Engine:
    """Drives runs of `models`, at most `max_rows` rows a forward; in a thread (`start`) or by `step`.

    `policy`: "fifo" serves the oldest runs first; "srpt" those with the least work left, where `ageing` rows
    for each second since they came keep long ones from starving. A run that is passed over waits at its ask.
    `determinism` and `calibrate`: see `Forwards`; padded to one row count, a seed gives the same bits at any
    load.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        max_rows: int = 16,
        policy: Policy = "fifo",
        determinism: Determinism = "free",
        ageing: float = 8.0,
        calibrate: bool = False,
    ) -> None:
        self._forwards = Forwards(max_rows, determinism, calibrate)
        self.stats, self.max_rows, self.determinism = self._forwards.stats, max_rows, determinism
        self._models = models
        self._policy = policy
        self._ageing = ageing
        self._served: dict[Hashable, int] = {}
        self._live: list[Ticket] = []
        self._inbox: deque[Ticket] = deque()
        self._prefixes = Prefixes()
        self._unchecked: tuple[list[tuple[Ticket, Question | None]], list[Question], Tensor] | None = None
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, ticket: Ticket) -> Ticket:
        """Take in a run; it joins at the next forward. From any thread."""
        with self._wake:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._inbox.append(ticket)
            self._wake.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Have a run end before its next forward. From any thread, at any time, more than once."""
        ticket.canceled = True

    def start(self) -> None:
        """Drive the runs in a thread of its own until `close`."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cancel all runs and stop. Returns when the forward under way is over."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._end_all(None)

    def step(self) -> bool:
        """Make one forward for one group of runs; False when no run waits."""
        self._admit()
        turn = self._next_turn()
        if not turn:
            return False
        for ticket, answer in zip(turn, self._answer(turn), strict=True):
            self._advance(ticket, answer)
        return True

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._inbox or self._live)
                if self._closed:
                    return
            try:
                self.step()
            except Exception as error:
                log.exception("the engine failed; so do its %d runs", len(self._live))
                self._end_all(error)

    def _admit(self) -> None:
        """Start the runs that came in and drop those canceled."""
        while self._inbox:
            ticket = self._inbox.popleft()
            self._live.append(ticket)
            if not ticket.canceled:
                self._advance(ticket, None)
        for ticket in [ticket for ticket in self._live if ticket.canceled]:
            self._end(ticket)

    def _next_turn(self) -> list[Ticket]:
        """The runs of the next forward: of the group that waits longest, as many as the rows allow."""
        groups: dict[Hashable, list[Ticket]] = {}
        for ticket in self._in_order():
            groups.setdefault(ticket.group, []).append(ticket)
        if not groups:
            return []
        key = min(groups, key=lambda key: self._served.get(key, -1))
        self._served[key] = max(self._served.values(), default=-1) + 1
        first = groups[key][0]
        cap = self._forwards.cap(key, self._models[first.model], first.shared)
        turn, taken = list[Ticket](), dict[tuple[Question, Cond], None]()
        for ticket in groups[key]:
            more = taken | dict.fromkeys(ticket.open)
            if not turn or (ticket.shared and _rows(more) <= cap):
                turn.append(ticket)
                taken = more
        return turn

    def _in_order(self) -> list[Ticket]:
        if self._policy == "fifo":
            return sorted(self._live, key=lambda t: t.since_s)
        now = time.monotonic()
        return sorted(self._live, key=lambda t: t.remaining() - self._ageing * (now - t.since_s))

    def _answer(self, turn: Sequence[Ticket]) -> list[Any]:
        """The answers to the asks of `turn`; an exception in the place of an answer that failed."""
        began = time.monotonic()
        for ticket in turn:
            ticket.began_s = ticket.began_s or began
        try:
            answers = self._answer_together(turn)
        except Exception as error:
            if len(turn) == 1:
                return [error]
            # Which of them it was shows when each is asked alone.
            return [self._answer([ticket])[0] for ticket in turn]
        spent_s = time.monotonic() - began
        meters.STEP_SECONDS.labels(turn[0].model).observe(spent_s)
        per_row_s = spent_s / sum(ticket.rows for ticket in turn)
        for ticket in turn:
            ticket.busy_s += per_row_s * ticket.rows
        return answers

    def _answer_together(self, turn: Sequence[Ticket]) -> list[Any]:
        model = self._models[turn[0].model]
        if turn[0].shared is None:
            self.stats.forwards += 1
            answers = [answer_one(model, ask) for ticket in turn if (ask := ticket.ask) is not None]
        else:
            answers = self._answer_shared(turn, model)
        for ticket in turn:
            if ticket.ask is not None:
                ticket.nfe.count(ticket.ask)
        return answers

    def _answer_shared(self, turn: Sequence[Ticket], model: Model) -> list[list[Tensor]]:
        """Put the open rows of all to the network, each once."""
        asked: dict[tuple[Question, Cond], None] = {}
        shared: list[int] = []
        for ticket in turn:
            more = asked | dict.fromkeys(ticket.open)
            shared.append(ticket.rows - (_rows(more) - _rows(asked)))
            asked = more
        if asked:
            asks = [question.row(cond) for question, cond in asked]
            out = self._forwards.denoise(model, pack(asks), asks[0].network, turn[0].group)
            self._check(turn, [question for question, _ in asked], out)
            for (question, cond), (answer,) in zip(asked, unpack(out, asks), strict=True):
                question.take(cond, answer)
        for ticket, rows in zip(turn, shared, strict=True):
            ticket.nfe.shared += rows
        return [
            [ticket.question.answers[cond] for cond in ticket.shared.conds]
            for ticket in turn
            if ticket.question and ticket.shared
        ]

    def _check(self, turn: Sequence[Ticket], asked: list[Question], out: Tensor) -> None:
        """Fail the runs whose previous answer was not finite, and remember to look at this one.

        Read one forward late: by now the device has work to do while we wait for the flags. A run's last
        answer is looked at by the run itself.
        """
        now = [(ticket, ticket.question) for ticket in turn], asked, out.flatten(1).isfinite().all(1)
        previous, self._unchecked = self._unchecked, now
        if previous is None or bool(previous[2].all()):
            return
        flags = previous[2].split([len(question.x_t) for question in previous[1]])
        spoiled = {question for question, finite in zip(previous[1], flags, strict=True) if not finite.all()}
        for ticket, question in previous[0]:
            if question in spoiled:
                self._end(ticket, error=FloatingPointError(NOT_FINITE))

    def _advance(self, ticket: Ticket, answer: Any) -> None:
        """Send a run its answer (None starts it) and take its next ask."""
        if ticket.ended:
            return
        if isinstance(answer, Exception):
            self._end(ticket, error=answer)
            return
        try:
            ticket.ask = ticket.run.send(answer)
            if ask := ticket.shared:
                ticket.question = self._prefixes.ask(ask, ticket.family, ticket.question)
        except StopIteration as done:
            self._end(ticket, final=done.value)
        except Exception as error:
            self._end(ticket, error=error)

    def _end(self, ticket: Ticket, final: Final | None = None, error: Exception | None = None) -> None:
        if ticket in self._live:
            self._live.remove(ticket)
        ticket.end(final, error)

    def _end_all(self, error: Exception | None) -> None:
        self._live.extend(self._inbox)
        self._inbox.clear()
        for ticket in list(self._live):
            self._end(ticket, error=error)


def _rows(open_rows: Iterable[tuple[Question, Cond]]) -> int:
    return sum(len(question.x_t) for question, _ in open_rows)
