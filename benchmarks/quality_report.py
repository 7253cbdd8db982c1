"""What `guidance_quality` says of its images: distances to real ones, the papers' orderings, a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.comparison.sets import frechet
from benchmarks.quality_plots import plot_methods, plot_scales

NEIGHBOURS = 3
RESAMPLES = 400
LEVEL = 0.05
"""Share of the resamples on each side that an interval leaves out."""

Array = NDArray[np.float64]
Verdict = Literal["reproduced", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Seen:
    """What is told of pictures without their prompts, one row each; `features` are of unit length."""

    features: Array
    saturation: Array
    contrast: Array


@dataclass(frozen=True)
class Made(Seen):
    """The images of one cell, one row each; rows 2j and 2j + 1 share a prompt."""

    clip: Array
    right: Array
    nfe: Array
    seconds: Array

    @property
    def count(self) -> int:
        return len(self.clip)

    @property
    def diversity(self) -> Array:
        """Per prompt: how far its two images lie apart, as one minus the cosine of their features."""
        return 1 - (self.features[::2] * self.features[1::2]).sum(1)

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
    Ordering("CFG raises class precision", "2207.12598", "class precision", "cfg 1", "cfg 4"),
    Ordering("CFG raises the CLIP score", "2207.12598", "CLIP score", "cfg 1", "cfg 4"),
    Ordering("more CFG costs variety (recall)", "2207.12598", "recall", "cfg 8", "cfg 2"),
    Ordering("more CFG costs variety (of one prompt)", "2207.12598", "diversity", "cfg 16", "cfg 2"),
    Ordering("much CFG saturates", "2410.02416", "saturation", "cfg 2", "cfg 16"),
    Ordering("APG saturates less than CFG at 16", "2410.02416", "saturation", "apg 16", "cfg 16"),
    Ordering("APG is nearer to real pictures than CFG at 16", "2410.02416", "KID", "apg 16", "cfg 16"),
    Ordering("APG keeps more variety (recall)", "2410.02416", "recall", "apg 16", "cfg 16", False),
    Ordering("APG keeps more variety (of one prompt)", "2410.02416", "diversity", "apg 16", "cfg 16", False),
    Ordering("rescale lowers CFG's contrast", "2305.08891", "contrast", "cfg 8, rescale 0.7", "cfg 8"),
    Ordering("an interval is nearer to real pictures", "2404.07724", "KID", "cfg 4, interval", "cfg 4"),
    Ordering("an interval keeps more variety", "2404.07724", "recall", "cfg 4, interval", "cfg 4", False),
    Ordering("CFG++ is nearer to real pictures than CFG", "2406.08070", "KID", "cfgpp as cfg 4", "cfg 4"),
    Ordering("the same at 8", "2406.08070", "KID", "cfgpp as cfg 8", "cfg 8"),
    Ordering("CFG++ has the higher CLIP score", "2406.08070", "CLIP score", "cfgpp as cfg 4", "cfg 4", False),
    Ordering("autoguidance is nearer to real pictures", "2406.02507", "KID", "autoguidance 2", "cfg 1"),
    Ordering("autoguidance keeps more variety", "2406.02507", "recall", "autoguidance 2", "cfg 2", False),
    Ordering("adaptive guidance takes fewer evaluations", "2312.12487", "evaluations", "adaptive 4", "cfg 4"),
    Ordering("LinearAG takes fewer than that", "2312.12487", "evaluations", "linear 4", "adaptive 4"),
    Ordering("tangential damping is nearer to real pictures", "2503.18137", "KID", "tangential 4", "cfg 4"),
    Ordering("GFCG raises class precision", "2411.15393", "class precision", "cfg 1", "gfcg 2"),
    Ordering("GFCG is nearer to real pictures than none", "2411.15393", "KID", "gfcg 2", "cfg 1"),
    Ordering("FKC raises its sampler's CLIP score", "2503.02819", "CLIP score", "cfg 2, sde", "fkc 2, sde"),
)  # fmt: skip

MEANS: dict[str, Callable[[Made, Against], Array]] = {
    "class precision": lambda made, _: made.right,
    "CLIP score": lambda made, _: made.clip,
    "precision": lambda _, against: against.precision,
    "recall": lambda _, against: against.recall,
    "saturation": lambda made, _: made.saturation,
    "contrast": lambda made, _: made.contrast,
    "diversity": lambda made, _: made.diversity,
    "evaluations": lambda made, _: made.nfe,
}
"""Metrics that are means over images (recall: over real pictures; diversity: over prompts)."""


def report(cells: Mapping[str, Made], real: Seen, setting: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write guidance_quality.md and two plots below `out`; everything as one object."""
    count = min(made.count for made in cells.values()) // 2 * 2
    made = {label: cell.first(count) for label, cell in cells.items()}
    against = {label: Against(cell.features, real.features) for label, cell in made.items()}
    table = {
        label: {"FD": against[label].fd, "KID x 1000": 1000 * against[label].kid()}
        | {name: float(rows(made[label], against[label]).mean()) for name, rows in MEANS.items()}
        | {"seconds": float(made[label].seconds.mean())}
        for label in made
    }
    told = {
        "images_per_cell": count,
        "real": {
            "pictures": len(real.features),
            "saturation": float(real.saturation.mean()),
            "contrast": float(real.contrast.mean()),
        },
        **setting,
        "table": table,
        "orderings": [_verdict(one, made, against) for one in ORDERINGS],
    }
    out.mkdir(parents=True, exist_ok=True)
    plot_methods(out / "guidance_quality.png", table)
    plot_scales(out / "guidance_scales.png", table, told["real"])
    (out / "guidance_quality.md").write_text(_page(told))
    return told


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


INTRODUCTION = """
`python -m benchmarks.guidance_quality`: {images_per_cell} images a cell, two of each prompt, {steps}
steps of DDIM or of the sampler that a cell names, the same prompts and seeds in every cell. Distances are
to {real[pictures]} real pictures in the features of the model's own scorer. FD of so few images is biased
upwards, alike in all cells; KID is not. Diversity is how far the two images of a prompt lie apart (one
minus the cosine of their features); recall's interval is over the real pictures and leaves out the chance
of the images. Seconds are of one core under the machine's load.

CFG at 1 is the conditional prediction alone, as APG at 1 is. CFG++ has the lambda that is as strong as
the CFG scale on the average over the steps. APG's cap is SDXL's 15 in proportion to the root of the
number of latent elements, where its cell names no other. What a cell does not name has the method's
default. Nothing was tuned on the outcome.
""".strip()


def _page(told: Mapping[str, Any]) -> str:
    table, real = told["table"], told["real"]
    columns = list(next(iter(table.values())))
    blank = dict.fromkeys(columns, "")
    known = {name: f"{real[name]:.3g}" for name in ("saturation", "contrast")}
    lines = [
        "# Guidance methods on the built-in model",
        "",
        INTRODUCTION.format(**told),
        "",
        "![Distance, saturation and variety over the scale](guidance_scales.png)",
        "",
        "![KID against class precision, recall and saturation](guidance_quality.png)",
        "",
        _row(["cell", *columns]),
        "|---" * (len(columns) + 1) + "|",
        *(_row([label, *(f"{row[name]:.3g}" for name in columns)]) for label, row in table.items()),
        _row(["*real pictures*", *(blank | known).values()]),
        "",
        "## What the papers say, and what is seen here",
        "",
        "The difference is of the first cell to the second, with its 90 % bootstrap interval over paired "
        "images; *undecided* where that includes zero.",
        "",
        _row(["claim", "paper", "metric", "first", "second", "difference", "verdict"]),
        "|---" * 7 + "|",
        *(_row(_told(verdict)) for verdict in told["orderings"]),
    ]
    return "\n".join(lines) + "\n"


def _told(one: Mapping[str, Any]) -> list[str]:
    paper = f"[{one['paper']}](https://arxiv.org/abs/{one['paper']})"
    difference = f"{one['difference']:.3g} [{one['low']:.3g}, {one['high']:.3g}]"
    return [one["claim"], paper, one["metric"], one["first"], one["second"], difference, one["verdict"]]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
