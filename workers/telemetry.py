"""What is seen of a job's runs while they run: steps done, the method's scalars, previews.

The engine's thread writes, others read. Scalars stay where they were computed until somebody reads them, so
that the step loop never waits for the device.
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from samplers.loop import Observed
from samplers.trace import Scalar

TraceRow = dict[str, Any]
"""{"step", "sigma", and each of the method's scalars: a number, or None where it is not finite}."""


class Telemetry:
    """The runs of one job, one per seed, each of `steps` steps; those of an edit count on in its way back."""

    def __init__(self, seeds: Sequence[int], steps: int, preview_every: int = 0) -> None:
        self.total = len(seeds) * steps
        self._steps = steps
        self._seeds = seeds
        self._preview_every = preview_every
        self._done = [0] * len(seeds)
        self._rows: list[list[TraceRow]] = [[] for _ in seeds]
        self._raw: deque[tuple[int, int, float, dict[str, Scalar]]] = deque()
        self._previews: dict[int, tuple[int, Tensor]] = {}
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """Steps done, over all images."""
        return sum(self._done)

    def observer(self, index: int) -> Callable[[Observed], None]:
        """What run `index` calls after each row."""

        def observe(observed: Observed) -> None:
            step = observed.step
            self._done[index] += step.began is None  # not again at a step's second evaluation
            done = self._done[index]
            self._raw.append((index, done - 1, step.now.sigma_ve, observed.trace_row))
            if self._preview_every and done % self._preview_every == 0 and done < self._steps:
                self._previews[index] = (done - 1, observed.denoised)

        return observe

    def read(self) -> list[TraceRow]:
        """The rows since the last call, each with its image's `index`. May wait for the device."""
        with self._lock:
            new: list[TraceRow] = []
            while self._raw:
                index, step, sigma, scalars = self._raw.popleft()
                row = {"step": step, "sigma": _number(sigma)}
                row |= {name: _number(value) for name, value in scalars.items()}
                self._rows[index].append(row)
                new.append({"index": index, **row})
            return new

    def previews(self) -> dict[int, tuple[int, Tensor]]:
        """Per image the latest estimate that is due to be shown, with its step; each is given once."""
        return {index: self._previews.pop(index) for index in list(self._previews)}

    def trace(self) -> bytes:
        """All rows so far, as the JSON of `GET /v1/jobs/{id}/trace`."""
        self.read()
        images = [
            {"index": index, "seed": seed, "rows": self._rows[index]}
            for index, seed in enumerate(self._seeds)
        ]
        return json.dumps({"images": images}, allow_nan=False).encode()


def _number(value: Scalar) -> float | None:
    number = float(value.double().mean()) if isinstance(value, Tensor) else float(value)
    return number if math.isfinite(number) else None
