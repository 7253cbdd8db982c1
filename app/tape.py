"""The events of a job as its stream tells them, across broken connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from app.calls import PAUSES_S, LenientProgress, NoAnswer

SILENCE_S = 45.0
"""A stream that is silent for so long, comments included, is taken for dead."""
LAST = {"completed", "failed", "canceled", "expired"}
"""Events after which no other comes."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; reading one twice changes nothing."""

    type: str
    data: dict[str, Any]
    id: str | None = None

    @property
    def progress(self) -> LenientProgress | None:
        """How far the job is, in the events that say so: those of progress and those with the whole job."""
        told = self.data.get("progress", self.data if self.type == "progress" else None)
        return LenientProgress.model_validate(told) if told else None


class Tape:
    """Reads server-sent events from chunks of bytes, over as many connections as it takes."""

    def __init__(self) -> None:
        self.ended = False
        self._last_id: str | None = None
        self._pause_s = 2.0
        self._breaks = 0
        self._begin()

    def _begin(self) -> None:
        self._rest, self._type, self._data = b"", "", list[str]()

    def connect(self) -> dict[str, str]:
        """Headers of the next connection."""
        self._begin()
        resume = {"Last-Event-ID": self._last_id} if self._last_id is not None else {}
        return {"Accept": "text/event-stream", **resume}

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. Lines end at line feeds only, as JSON may hold U+2028."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if (event := self._line(line.rstrip(b"\r").decode())) is not None:
                self._breaks = 0
                self.ended = event.type in LAST
                yield event

    def _line(self, line: str) -> Event | None:
        if not line:
            kind, data = self._type or "message", "\n".join(self._data)
            self._type, self._data = "", []
            return Event(kind, json.loads(data), self._last_id) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id":
                self._last_id = value
            case "retry" if value.isdecimal():
                self._pause_s = int(value) / 1e3
            case _:  # a comment, or a field we do not know: the format says to ignore both
                pass
        return None

    def broke(self, error: httpx.TransportError | None) -> float:
        """The connection ended early: how long to wait before the next. Raises NoAnswer after too many."""
        self._breaks += 1
        if self._breaks > len(PAUSES_S):
            raise NoAnswer(f"the stream of events broke off ({error or 'closed by the server'})") from error
        return min(self._pause_s, PAUSES_S[self._breaks - 1])
