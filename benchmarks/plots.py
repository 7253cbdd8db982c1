"""Draw what the benchmarks found: the latest JSON line of each in benchmarks/results/ -> docs/results/*.png.

python -m benchmarks.plots
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOUND, DRAWN = ROOT / "benchmarks" / "results", ROOT / "docs" / "results"
Result = dict[str, Any]


def results(folder: Path) -> Iterator[Result]:
    """The JSON lines of all result files, the oldest file first."""
    for file in sorted(folder.glob("*.txt")):
        for line in file.read_text().splitlines():
            if line.startswith('{"benchmark"'):
                yield json.loads(line)


def engine(axes: Any, found: Result) -> None:
    """How many times as fast as the pipeline one by one, with the quartiles of the rounds."""
    rows = dict(reversed(found["variants"].items()))
    speed = [1 / row["ratio"] for row in rows.values()]
    spread = [
        [fast - 1 / row["ratio_q3"] for fast, row in zip(speed, rows.values(), strict=True)],
        [1 / row["ratio_q1"] - fast for fast, row in zip(speed, rows.values(), strict=True)],
    ]
    colours = ["#2563eb" if name.startswith("engine") else "#9ca3af" for name in rows]
    axes.barh(list(rows), speed, xerr=spread, color=colours, ecolor="#374151", capsize=3)
    axes.axvline(1, color="grey", linestyle=":")
    axes.set(xlabel="pictures per second, as a multiple of the pipeline one by one")


def serving(axes: Any, found: Result) -> None:
    """p95 slowdown over the rate."""
    for name, points in found["curves"].items():
        axes.plot([p["rate"] for p in points], [p["p95"] for p in points], marker="o", label=name)
    axes.axhline(3, color="grey", linestyle=":")
    axes.set(xlabel="rate, in multiples of the bare server's capacity", ylabel="p95 slowdown", yscale="log")
    axes.legend()


PLOTS: dict[str, Callable[[Any, Result], None]] = {"engine": engine, "serving": serving}


def draw(found: Path = FOUND, drawn: Path = DRAWN) -> list[Path]:
    """One picture per benchmark and traffic; the latest result counts."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    latest = {
        "-".join(filter(None, (one["benchmark"], one.get("traffic")))): one
        for one in results(found)
        if one["benchmark"] in PLOTS and ("variants" in one or "curves" in one)
    }
    paths = list[Path]()
    drawn.mkdir(parents=True, exist_ok=True)
    for name, result in latest.items():
        figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        PLOTS[result["benchmark"]](axes, result)
        machine = result["machine"]
        axes.set_title(f"{name}, {machine['date'][:10]}, {machine['device']}", fontsize=10)
        paths.append(drawn / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
        pyplot.close(figure)
    return paths


if __name__ == "__main__":
    for path in draw():
        print(path.relative_to(ROOT))
