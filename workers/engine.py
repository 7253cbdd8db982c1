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
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from samplers.answer import Packed, answer_one, pack, unpack
from samplers.loop import Final
from samplers.models.base import Model
from workers.knee import knee_of
from workers.ticket import Ticket

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Row counts that a forward is padded to on an accelerator, so that kernels and graphs can be reused."""

NOT_FINITE = (
    "the network's answer for this image is not finite (NaN or infinite). Lower the guidance scale, or run "
    "the model in float32 or bfloat16."
)

Policy = Literal["fifo", "srpt"]
Determinism = Literal["free", "bucket"]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stats:
    """What the engine has done so far."""

    forwards: int = 0
    rows: int = 0
    padding: int = 0


class Engine:
    """Drives runs of `models`, at most `max_rows` rows a forward; in a thread (`start`) or by `step`.

    `policy`: "fifo" serves the oldest runs first; "srpt" those with the least work left, where `ageing` rows
    for each second since they came keep long ones from starving. A run that is passed over waits at its ask.
    `determinism="bucket"` pads each forward to `max_rows`: then a seed gives the same bits at any load. Else,
    with `calibrate`, each network and latent shape is measured when first met, and forwards have no more rows
    than its knee.
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
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, not {max_rows}")
        self.stats = Stats()
        self._models = models
        self.max_rows = max_rows
        self._policy = policy
        self.determinism = determinism
        self._ageing = ageing
        self._calibrates = calibrate and determinism == "free"
        self._caps: dict[Hashable, int] = {}
        self._served: dict[Hashable, int] = {}
        self._live: list[Ticket] = []
        self._inbox: deque[Ticket] = deque()
        self._unchecked: tuple[Sequence[Ticket], list[int], Tensor] | None = None
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
        turn, filled, cap = [], 0, self._cap(key, groups[key][0])
        for ticket in groups[key]:
            if not turn or (ticket.shared and filled + ticket.rows <= cap):
                turn.append(ticket)
                filled += ticket.rows
        return turn

    def _in_order(self) -> list[Ticket]:
        if self._policy == "fifo":
            return sorted(self._live, key=lambda t: t.since_s)
        now = time.monotonic()
        return sorted(self._live, key=lambda t: t.remaining() - self._ageing * (now - t.since_s))

    def _cap(self, key: Hashable, first: Ticket) -> int:
        """How many rows a forward of this group has at most; measured on its first ask."""
        if key not in self._caps:
            ask, self._caps[key] = first.shared, self.max_rows
            if self._calibrates and ask is not None:
                self._caps[key] = knee_of(self._models[first.model], ask, self.max_rows)
        return self._caps[key]

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
        per_row_s = (time.monotonic() - began) / sum(ticket.rows for ticket in turn)
        for ticket in turn:
            ticket.busy_s += per_row_s * ticket.rows
        return answers

    def _answer_together(self, turn: Sequence[Ticket]) -> list[Any]:
        model = self._models[turn[0].model]
        asks = [ticket.ask for ticket in turn if ticket.ask is not None]
        if shared := [ask for ticket in turn if (ask := ticket.shared)]:
            out = self._denoise(model, pack(shared), shared[0].network, turn[0].group)
            self._check(turn, out)
            answers = unpack(out, shared)
        else:
            self.stats.forwards += 1
            answers = [answer_one(model, asks[0])]
        for ticket, ask in zip(turn, asks, strict=True):
            ticket.nfe.count(ask)
        return answers

    def _denoise(self, model: Model, packed: Packed, network: Any, key: Hashable) -> Tensor:
        """One forward, or several where the rows exceed the cap; out of memory halves the cap for good."""
        parts: list[Tensor] = []
        begin, total = 0, len(packed.levels)
        while begin < total:
            cap = self._caps.get(key, self.max_rows)
            size = min(cap, total - begin)
            padding = self._padding(size, cap, model.device)
            chosen = [*range(begin, begin + size), *[begin] * padding]
            whole = len(chosen) == total
            x = packed.x if whole else packed.x[chosen]
            levels = [packed.levels[i] for i in chosen]
            conds = [packed.conds[i] for i in chosen]
            try:
                with torch.no_grad():
                    out = model.denoise(x, levels, conds, network)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                self._caps[key] = max(1, size // 2)
                log.warning("out of memory with %d rows; from now on at most %d", size, self._caps[key])
                torch.accelerator.empty_cache()
                continue
            parts.append(out[:size])
            begin += size
            self.stats.forwards += 1
            self.stats.rows += size
            self.stats.padding += padding
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _padding(self, size: int, cap: int, device: torch.device) -> int:
        if self.determinism == "bucket":
            return cap - size
        if device.type == "cpu":  # eager kernels take any row count; padding would only cost
            return 0
        return min((bucket for bucket in BUCKETS if size <= bucket <= cap), default=size) - size

    def _check(self, turn: Sequence[Ticket], out: Tensor) -> None:
        """Fail the runs whose previous answer was not finite, and remember to look at this one.

        Read one forward late: by now the device has work to do while we wait for the flags. A run's last
        answer is looked at by the run itself.
        """
        sizes = [ticket.rows for ticket in turn]
        previous, self._unchecked = self._unchecked, (turn, sizes, out.flatten(1).isfinite().all(1))
        if previous is None or bool(previous[2].all()):
            return
        for ticket, finite in zip(previous[0], previous[2].split(previous[1]), strict=True):
            if not bool(finite.all()):
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
