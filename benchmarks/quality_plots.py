"""The plots of `guidance_quality`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

Table = Mapping[str, Mapping[str, float]]
"""Cell -> metric -> value."""

METHODS = {"cfg": "CFG", "cfgpp as cfg": "CFG++", "apg": "APG"}
"""Cells over the scale: what comes before it, and the curve's name."""
START = {"apg": "cfg 1"}
"""Where a curve begins that has no cell at 1 of its own."""


def curves(table: Table) -> dict[str, dict[float, str]]:
    """Method -> scale -> the cell that has it."""
    found: dict[str, dict[float, str]] = {}
    for start, name in METHODS.items():
        matches = {label: re.fullmatch(rf"{start} (\d+)", label) for label in table}
        by_scale = {float(match[1]): label for label, match in matches.items() if match}
        if start in START:
            by_scale[1.0] = START[start]
        found[name] = dict(sorted(by_scale.items()))
    return found


def plot_scales(path: Path, table: Table, real: Mapping[str, Any]) -> None:
    """Distance to real pictures, saturation and variety over the scale; dashed: the real pictures."""
    names = ("FD", "KID x 1000", "saturation", "recall", "diversity")
    figure, axes = pyplot.subplots(1, len(names), figsize=(18, 3.8))
    for axis, name in zip(axes, names, strict=True):
        for method, cells in curves(table).items():
            axis.plot(list(cells), [table[label][name] for label in cells.values()], "o-", label=method)
        if name in real:
            axis.axhline(real[name], color="k", ls="--", lw=1)
        scales = sorted({scale for cells in curves(table).values() for scale in cells})
        axis.set(title=name, xlabel="CFG scale", xscale="log")
        axis.set_xticks(scales, [f"{scale:g}" for scale in scales])
        axis.minorticks_off()
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_methods(path: Path, table: Table) -> None:
    """KID against what guidance is for: scales of one method are a curve, the other cells points."""
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.4))
    for axis, name in zip(axes, ("class precision", "recall", "saturation"), strict=True):
        shown = set[str]()
        for method, cells in curves(table).items():
            rows = [table[label] for label in cells.values()]
            axis.plot([row[name] for row in rows], [row["KID x 1000"] for row in rows], "o-", label=method)
            shown.update(cells.values())
        for number, label in enumerate(label for label in table if label not in shown):
            row, colour = table[label], f"C{number % 10}"
            axis.plot(row[name], row["KID x 1000"], "sD^v"[number % 4], color=colour, label=label)
        axis.set(xlabel=name, ylabel="KID x 1000", yscale="symlog")
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
