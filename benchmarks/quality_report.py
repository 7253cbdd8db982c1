"""What `guidance_quality` says of its images: distances to real ones, the papers' orderings, a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluate import frechet

NEIGHBOURS = 3
RESAMPLES = 400
LEVEL = 0.05
"""Share of the resamples on each side that an interval leaves out."""

Array = NDArray[np.float64]
Verdict = Literal["reproduced", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Made:
    """The images of one cell, one row each."""

    features: Array
    clip: Array
    right: Array
    nfe: Array
    seconds: Array
    saturation: Array
    contrast: Array

    @property
    def count(self) -> int:
        return len(self.clip)

    def first(self, count: int) -> Made:
        return Made(**{name: rows[:count] for name, rows in asdict(self).items()})

    def with_more(self, more: Made) -> Made:
        rows = asdict(more)
        return Made(**{name: np.concatenate([own, rows[name]]) for name, own in asdict(self).items()})


class Against:
    """One cell against the real pictures. KID and the rest may be resampled by `chosen` images."""

    def __init__(self, fake: Array, real: Array) -> None:
        self._fake = _cubic(fake, fake)
        self._cross = _cubic(fake, real).mean(1)
        own = _cubic(real, real)
        self._real = (own.sum() - np.trace(own)) / (len(own) * (len(own) - 1))
        far, near = _distances(fake, real), min(NEIGHBOURS, len(fake) - 1)
        self.precision = (far <= _radii(real, NEIGHBOURS)[None]).any(1).astype(float)
        """Per image: whether it lies among the real ones."""
        self.recall = (far <= _radii(fake, near)[:, None]).any(0).astype(float)
        """Per real picture: whether it lies among the images."""
        self.fd = frechet(real, fake)

    def kid(self, chosen: NDArray[np.int64] | None = None) -> float:
        """Unbiased; pairs of one image with itself, as resampling makes them, are left out."""
        chosen = np.arange(len(self._fake)) if chosen is None else chosen
        among = self._fake[np.ix_(chosen, chosen)]
        apart = chosen[:, None] != chosen[None]
        return float(among[apart].mean() + self._real - 2 * self._cross[chosen].mean())


def _cubic(a: Array, b: Array) -> Array:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _distances(a: Array, b: Array) -> Array:
    return np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0))


def _radii(rows: Array, k: int) -> Array:
    """Distance of each row to its k-th neighbour (Kynkäänniemi et al., arXiv 1904.06991)."""
    return np.partition(_distances(rows, rows), k, axis=1)[:, k]


@dataclass(frozen=True)
class Ordering:
    """A paper's claim: `metric` of `first` is below (or above) that of `second`."""

    claim: str
    paper: str
    metric: str
    first: str
    second: str
    below: bool = True


ORDERINGS = (
    Ordering("CFG raises class precision", "2207.12598", "class precision", "none", "cfg 4"),
    Ordering("CFG raises the CLIP score", "2207.12598", "CLIP score", "none", "cfg 4"),
    Ordering("more CFG costs variety (recall)", "2207.12598", "recall", "cfg 8", "cfg 2"),
    Ordering("much CFG saturates", "2410.02416", "saturation", "cfg 2", "cfg 8"),
    Ordering("APG saturates less than CFG at 8", "2410.02416", "saturation", "apg 8", "cfg 8"),
    Ordering("APG is nearer to real pictures than CFG at 8", "2410.02416", "KID", "apg 8", "cfg 8"),
    Ordering("APG keeps more variety than CFG at 8", "2410.02416", "recall", "apg 8", "cfg 8", False),
    Ordering("rescale lowers CFG's contrast", "2305.08891", "contrast", "cfg 8, rescale 0.7", "cfg 8"),
    Ordering("an interval is nearer to real pictures", "2404.07724", "KID", "cfg 4, interval", "cfg 4"),
    Ordering("an interval keeps more variety", "2404.07724", "recall", "cfg 4, interval", "cfg 4", False),
    Ordering("CFG++ is nearer to real pictures than CFG", "2406.08070", "KID", "cfgpp as cfg 4", "cfg 4"),
    Ordering("CFG++ has the higher CLIP score", "2406.08070", "CLIP score", "cfgpp as cfg 4", "cfg 4", False),
    Ordering("autoguidance is nearer to real pictures", "2406.02507", "KID", "autoguidance 2", "none"),
    Ordering("autoguidance keeps more variety", "2406.02507", "recall", "autoguidance 2", "cfg 2", False),
    Ordering("adaptive guidance takes fewer evaluations", "2312.12487", "evaluations", "adaptive 4", "cfg 4"),
    Ordering("tangential damping is nearer to real pictures", "2503.18137", "KID", "tangential 4", "cfg 4"),
    Ordering("GFCG raises class precision", "2411.15393", "class precision", "none", "gfcg 2"),
    Ordering("GFCG is nearer to real pictures than none", "2411.15393", "KID", "gfcg 2", "none"),
)  # fmt: skip

MEANS: dict[str, Callable[[Made, Against], Array]] = {
    "class precision": lambda made, _: made.right,
    "CLIP score": lambda made, _: made.clip,
    "precision": lambda _, against: against.precision,
    "recall": lambda _, against: against.recall,
    "saturation": lambda made, _: made.saturation,
    "contrast": lambda made, _: made.contrast,
    "evaluations": lambda made, _: made.nfe,
}
"""Metrics that are means over images (recall: over real pictures)."""


def report(cells: Mapping[str, Made], real: Array, setting: Any, out: Path) -> dict[str, Any]:
    """Write guidance_quality.md and .png below `out`; everything as one object."""
    count = min(made.count for made in cells.values())
    made = {label: cell.first(count) for label, cell in cells.items()}
    against = {label: Against(cell.features, real) for label, cell in made.items()}
    table = {
        label: {"FD": against[label].fd, "KID x 1000": 1000 * against[label].kid()}
        | {name: float(rows(made[label], against[label]).mean()) for name, rows in MEANS.items()}
        | {"seconds": float(made[label].seconds.mean())}
        for label in made
    }
    verdicts = [_verdict(one, made, against) for one in ORDERINGS]
    out.mkdir(parents=True, exist_ok=True)
    _plot(out / "guidance_quality.png", table)
    (out / "guidance_quality.md").write_text(_page(count, len(real), setting, table, verdicts))
    return {"images_per_cell": count, "real": len(real), **setting, "table": table, "orderings": verdicts}


def _verdict(one: Ordering, made: Mapping[str, Made], against: Mapping[str, Against]) -> dict[str, Any]:
    """The difference first - second with a paired bootstrap interval, and what follows."""
    draw = np.random.default_rng(0)
    a, b = (against[label] for label in (one.first, one.second))
    if one.metric == "KID":
        count = made[one.first].count
        value = a.kid() - b.kid()
        picks = (draw.integers(count, size=count) for _ in range(RESAMPLES))
        resampled = [a.kid(pick) - b.kid(pick) for pick in picks]
    else:
        rows = MEANS[one.metric]
        difference = rows(made[one.first], a) - rows(made[one.second], b)
        value = float(difference.mean())
        resampled = [draw.choice(difference, len(difference)).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [LEVEL, 1 - LEVEL])
    verdict: Verdict = "undecided"
    if high < 0 or low > 0:
        verdict = "reproduced" if (high < 0) == one.below else "not reproduced"
    return asdict(one) | {"difference": value, "low": float(low), "high": float(high), "verdict": verdict}


def _page(count: int, real: int, setting: Any, table: Any, verdicts: Any) -> str:
    columns = list(next(iter(table.values())))
    lines = [
        "# Guidance methods on the built-in model",
        "",
        f"`python -m benchmarks.guidance_quality`: {count} images a cell, {setting['steps']} steps of "
        f"{setting['sampler']}, the same prompts and seeds in every cell; distances to {real} real "
        "pictures in the features of the model's own scorer. FD of so few images is biased upwards, alike in "
        "all cells; KID is not. Seconds are of one core under the machine's load. Recall's interval is over "
        "the real pictures and leaves out the chance of the images. What a cell does "
        "not name has the method's default, made for larger latents. Nothing was tuned on the outcome.",
        "",
        "![KID against class precision, recall and saturation](guidance_quality.png)",
        "",
        _row(["cell", *columns]),
        "|---" * (len(columns) + 1) + "|",
        *(_row([label, *(f"{row[name]:.3g}" for name in columns)]) for label, row in table.items()),
        "",
        "## What the papers say, and what is seen here",
        "",
        "The difference is of the first cell to the second, with its 90 % bootstrap interval over paired "
        "images; *undecided* where that includes zero.",
        "",
        _row(["claim", "paper", "metric", "first", "second", "difference", "verdict"]),
        "|---" * 7 + "|",
        *(_row(_told(verdict)) for verdict in verdicts),
    ]
    return "\n".join(lines) + "\n"


def _told(one: Mapping[str, Any]) -> list[str]:
    paper = f"[{one['paper']}](https://arxiv.org/abs/{one['paper']})"
    difference = f"{one['difference']:.3g} [{one['low']:.3g}, {one['high']:.3g}]"
    return [one["claim"], paper, one["metric"], one["first"], one["second"], difference, one["verdict"]]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plot(path: Path, table: Mapping[str, Mapping[str, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.2))
    for axis, name in zip(axes, ("class precision", "recall", "saturation"), strict=True):
        for number, (label, row) in enumerate(table.items()):
            axis.plot(row[name], row["KID x 1000"], "osD^"[number % 4], color=f"C{number % 10}", label=label)
        axis.set(xlabel=name, ylabel="KID x 1000")
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
