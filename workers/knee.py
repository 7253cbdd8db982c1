"""How many rows a forward is worth: its time over the row count, measured, and where that curve bends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import torch

from guidance.asks import Denoise
from samplers.models.base import Model

SIZES = (1, 2, 4, 8, 12, 16, 24, 32)
"""Row counts that are tried, up to the allowed ones."""
WITHIN = 0.95
"""Share of the best throughput that is good enough: more rows only make everybody wait longer."""
CALLS = 3
BUDGET_S = 1.5
"""No further size is tried that would take the measurement beyond this."""


log = logging.getLogger(__name__)


def knee_of(model: Model, ask: Denoise, max_rows: int) -> int:
    """The knee of this network at the latent shape of `ask`, at most `max_rows`."""

    def forward(rows: int) -> None:
        x = ask.x_t[:1].repeat(rows, 1, 1, 1)
        with torch.no_grad():
            out = model.denoise(x, [ask.level] * rows, [ask.conds[0]] * rows, ask.network)
        bool(out.isfinite().all())  # waits for the device

    try:
        # On a CPU, what other programs take of it must not count.
        clock = time.process_time if model.device.type == "cpu" else time.perf_counter
        seconds = measure(forward, max_rows, clock)
    except Exception:
        log.exception("could not measure model %r", model.name)  # the ask itself will say what is wrong
        return max_rows
    rows = knee(seconds, max_rows)
    curve = ", ".join(f"{size}: {taken * 1e3:.0f}" for size, taken in seconds.items())
    shape = "x".join(map(str, ask.x_t.shape[1:]))
    log.info("model %r %s: at most %d rows a forward; ms by rows: %s", model.name, shape, rows, curve)
    return rows


def measure(
    forward: Callable[[int], object],
    max_rows: int,
    clock: Callable[[], float],
    budget_s: float = BUDGET_S,
) -> dict[int, float]:
    """Seconds that `forward(rows)` takes, the best of three calls. It must wait for the device.

    Ends where memory or the budget does; one row is always measured. What only the first calls do (compiling,
    recording a graph) counts for nothing.
    """
    found: dict[int, float] = {}
    spent_s = 0.0
    for rows in (size for size in SIZES if size <= max_rows):
        try:
            calls_s = [_seconds(forward, rows, clock) for _ in range(CALLS)]
        except torch.OutOfMemoryError:
            break
        found[rows] = min(calls_s)
        spent_s += CALLS * found[rows]
        if spent_s + 2 * CALLS * found[rows] > budget_s:  # the next size is about twice as large
            break
    return found


def knee(seconds: Mapping[int, float], max_rows: int) -> int:
    """The smallest row count with nearly the best throughput; at least 2, one guided image's rows.

    `max_rows` where fewer than two larger counts confirm it: the curve still rose when the measurement ended,
    or a busy machine has made one point look bad.
    """
    if len(seconds) == 1 and max_rows > 1:  # one row alone took all the time there was: it fills the device
        return 2
    best = max(rows / taken for rows, taken in seconds.items())
    bend = min(rows for rows, taken in seconds.items() if rows / taken >= WITHIN * best)
    confirmed = sum(rows > bend for rows in seconds) >= 2
    return min(max_rows, max(2, bend)) if confirmed else max_rows


def _seconds(forward: Callable[[int], object], rows: int, clock: Callable[[], float]) -> float:
    began = clock()
    forward(rows)
    return clock() - began
