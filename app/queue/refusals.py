"""Why the queue does not do what it is asked to."""

from __future__ import annotations

from typing import Literal

Bound = Literal["queue", "model", "client"]


class QueueFull(Exception):
    """No room in the queue, for the model or for the client: come back in `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int = 5, of: Bound = "queue") -> None:
        super().__init__(f"the {of} has as many open jobs as it may have")
        self.retry_after_s = retry_after_s
        self.of: Bound = of


class LimitReached(QueueFull):
    """No room for this API key: it has used up `what` it may."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.what = what


class IdempotencyConflict(Exception):
    """The idempotency key, or the client's own job id, was used with another payload."""


class JobRunning(Exception):
    """The job is in a worker's hands: cancel it and wait for its end first."""
