"""Paired timing: every round runs every variant once, in alternating order, so noise hits all alike."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import diffusers
import torch


def measure(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per round of each variant; the first is the baseline.

    `clock=time.process_time` leaves out what other programs took of the processor, where one thread computes.
    """
    for _ in range(warm):
        for call in variants.values():
            call()
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        for name in list(variants)[:: 1 if turn % 2 == 0 else -1]:
            began = clock()
            variants[name]()
            spent[name].append(clock() - began)
    return spent


def summary(spent: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Per variant the median time and the quartiles of its per-round ratio to the first variant."""
    base = next(iter(spent.values()))
    out: dict[str, dict[str, float]] = {}
    for name, times in spent.items():
        ratios = [own / first for own, first in zip(times, base, strict=True)]
        q1, middle, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
        out[name] = {
            "median_ms": round(statistics.median(times) * 1e3, 3),
            "ratio": round(middle, 4),
            "ratio_q1": round(q1, 4),
            "ratio_q3": round(q3, 4),
        }
    return out


def show(title: str, results: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n{title}  (load average {os.getloadavg()[0]:.2f})")
    for name, row in results.items():
        print(
            f"  {name:44s} {row['median_ms']:10.2f} ms   ratio {row['ratio']:.3f} "
            f"[{row['ratio_q1']:.3f}, {row['ratio_q3']:.3f}]",
            flush=True,
        )


def machine() -> dict[str, Any]:
    """Where and when a figure was taken."""
    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def finish(name: str, passed: bool, **results: Any) -> None:
    """Print the result as one JSON line, and fail where the goal was missed."""
    print(json.dumps({"benchmark": name, "passed": passed, **results, "machine": machine()}))
    if not passed:
        raise SystemExit(1)
