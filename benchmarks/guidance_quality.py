"""The papers' tables in miniature: guidance methods on the built-in model, against real pictures.

    python -m training.prepare            # once: the real pictures, runs/pictures.pt
    python -m benchmarks.guidance_quality [--images 500] [--minutes 25]

Image i has the same prompt and seed in every cell; images 2j and 2j + 1 share a prompt. Every cell gets a few
images in turn, and what is made is kept in `--runs`, a file for each cell: a run that stops, or is told to
stop after `--minutes`, goes on where it was, and a cell that is new here is made without the others. Table,
plots and verdicts are of the images that all cells have. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from app.commands.guidance import PROMPTS
from benchmarks.quality_report import Made, Seen, report
from guidance import REGISTRY, Guidance
from guidance.adaptive import Adaptive
from guidance.asks import Conditions
from guidance.linear import Coefficients
from samplers import load
from samplers.driver import drive
from samplers.linear_fit import fit_linear_ag
from samplers.loop import batch, run
from samplers.models.judge import Classifier, Scorer
from samplers.noise import Noise
from samplers.steps import compile_plan
from training.captions import with_article
from training.data import Backgrounds, Pictures
from workers.metrics.basic import score

SCALES = (1, 2, 4, 8, 16)
"""Of CFG; at 1 it is the conditional prediction alone, as APG is."""
NORM_CAP = 15 * (1024 / 65536) ** 0.5
"""APG's cap for SDXL, in proportion to the root of the number of latent elements: 1024 here, 65536 there."""
CHUNK = 16


@dataclass(frozen=True)
class Cell:
    """One row of the table: a guidance as a request gives it, and a sampler."""

    guidance: dict[str, Any]
    sampler: str = "ddim"


CELLS: dict[str, Cell] = {
    **{f"cfg {w}": Cell({"method": "cfg", "scale": w}) for w in SCALES},
    **{f"cfgpp as cfg {w}": Cell({"method": "cfgpp", "cfg_scale": w}) for w in SCALES},
    **{f"apg {w}": Cell({"method": "apg", "scale": w, "norm_threshold": NORM_CAP}) for w in SCALES[1:]},
    "apg 8, cap 15": Cell({"method": "apg", "scale": 8, "norm_threshold": 15}),
    "cfg 8, rescale 0.7": Cell({"method": "cfg", "scale": 8, "rescale": 0.7}),
    "cfg 4, interval": Cell({"method": "cfg", "scale": 4, "guide_from": 0.2, "guide_to": 0.7}),
    "autoguidance 2": Cell({"method": "autoguidance", "scale": 2}),
    "adaptive 4": Cell({"method": "adaptive", "scale": 4}),
    "linear 4": Cell({"method": "adaptive", "variant": "linear", "scale": 4}),
    "tangential 4": Cell({"method": "tangential", "scale": 4}),
    "gfcg 2": Cell({"method": "gfcg", "strength": 2}),
    "cfg 2, sde": Cell({"method": "cfg", "scale": 2}, "sde"),
    "fkc 2, sde": Cell({"method": "fkc", "scale": 2, "particles": 2}, "sde"),
}
"""Label -> cell. Scales of one strength stand together; nothing here was tuned on the outcome."""
RIVALS = 4
"""Other names of the same subgroup that a classifier has to tell the prompt from."""


@dataclass(frozen=True)
class Asked:
    """Image `index` of every cell, which is also its seed."""

    index: int
    prompt: str
    subgroup: str
    rivals: tuple[str, ...]


def asked(rows: Sequence[dict[str, Any]], count: int) -> list[Asked]:
    """Prompts in a fixed order, each twice; each name in each style before any comes again."""
    order = np.random.default_rng(0).permutation(len(rows))
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row["subgroup"], []).append(row["name"].lower())
    out: list[Asked] = []
    for i in range(count):
        row = rows[order[i // 2 % len(rows)]]
        name, style = row["name"].lower(), row["style"]
        group = sorted(set(names[row["subgroup"]]) - {name}) or sorted({*names["heart"]} - {name})
        chosen = np.random.default_rng(i // 2).choice(group, min(RIVALS, len(group)), replace=False)
        rivals = tuple(f"{with_article(str(other))}, {style}" for other in chosen)
        out.append(Asked(i, f"{with_article(name)}, {style}", row["subgroup"], rivals))
    return out


class Bench:
    """The model with what looks at its pictures. `paint` makes one chunk of one cell."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._model = load(folder, device="cpu")
        self._steps = steps
        self._coefficients: Coefficients | None = None
        self._classifier = Classifier(folder / "classifier", "cpu")
        self._scorer = Scorer(folder / "scorer", "cpu")

    @torch.no_grad()
    def paint(self, cell: Cell, some: Sequence[Asked]) -> Made:
        """Sample, decode and look; the time is that of sampling."""
        model = self._model
        shape = model.latent_shape(*model.default_size)
        plan = compile_plan(cell.sampler, self._steps, model.family, model.schedule_config(shape))
        guidance = self._fitted(REGISTRY[cell.guidance["method"]].model_validate(cell.guidance), cell)
        runs = list[Any]()
        for one in some:
            positive, negative, *classes = model.encode([one.prompt, "", *one.rivals]).conds
            cond = Conditions(positive, negative, tuple(classes))
            runs.append(run(plan, guidance, cond, Noise(one.index, shape, batch(guidance))))
        began = time.perf_counter()
        finals, nfe = drive(model, runs)
        seconds = (time.perf_counter() - began) / len(some)
        images = model.decode(torch.cat([final.latents for final in finals]))
        return Made(
            **asdict(self.look(images)),
            clip=self._clip(images, [one.prompt for one in some]),
            right=self._right(images, [one.subgroup for one in some]),
            nfe=np.array([one.model + one.weak for one in nfe], float),
            seconds=np.full(len(some), seconds),
        )

    def _fitted(self, guidance: Guidance, cell: Cell) -> Guidance:
        """LinearAG with coefficients fitted here; any other guidance as it is."""
        if not (isinstance(guidance, Adaptive) and guidance.variant == "linear"):
            return guidance
        if self._coefficients is None:
            how = {"sampler": cell.sampler, "steps": self._steps, "scale": guidance.scale}
            self._coefficients = fit_linear_ag(self._model, PROMPTS, images=16, **how).coefficients
        return guidance.model_copy(update={"coefficients": self._coefficients})

    @torch.no_grad()
    def look(self, images: Tensor) -> Seen:
        """What is told of pictures in [-1, 1] without their prompts."""
        features = torch.cat([self._scorer.see(part) for part in images.split(100)]).double().numpy()
        pixels = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        scores = [score(one) for one in pixels]
        basic = {name: np.array([one[name] for one in scores]) for name in ("saturation", "contrast")}
        return Seen(features=features, **basic)

    def _clip(self, images: Tensor, prompts: list[str]) -> NDArray[np.float64]:
        return (self._scorer.see(images) * self._scorer.read(tuple(prompts))).sum(1).double().numpy()

    def _right(self, images: Tensor, subgroups: list[str]) -> NDArray[np.float64]:
        best = self._classifier.logits(images).argmax(1).tolist()
        said = [self._classifier.names[column] for column in best]
        return np.array([a == b for a, b in zip(said, subgroups, strict=True)], float)


def real(bench: Bench, pictures: Pictures) -> Seen:
    """All real pictures on white, placed as in training."""
    config = {"scale": (0.8, 1.0), "shift": 0.05, "flip": 0.0}
    source = Backgrounds(pictures.pixels, config, 0, pictures.flips)
    index = torch.arange(len(pictures.rows))
    return bench.look(source.place(index, torch.zeros_like(index)))


class Kept:
    """The images of each cell, a file for each in one folder, with the setting that they were made with."""

    def __init__(self, folder: Path, steps: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._steps = folder, steps

    def read(self, label: str) -> Made | None:
        """What earlier runs made of a cell. ValueError where that was with another setting."""
        path = self._path(label)
        if not path.is_file():
            return None
        stored = dict(np.load(path))
        if str(stored.pop("setting")) != self._setting(label):
            raise ValueError(f"{path} was made with another setting; remove it, or give another --runs")
        return Made(**stored)

    def add(self, label: str, made: Made) -> None:
        """Keep more images of a cell; whoever is interrupted here loses these, not the others."""
        before = self.read(label)
        whole = made if before is None else before.with_more(made)
        beside = self._path(label).with_suffix(".new.npz")
        np.savez(beside, **asdict(whole), setting=self._setting(label))
        beside.replace(self._path(label))

    def _path(self, label: str) -> Path:
        return self._folder / f"{label.replace(' ', '_').replace(',', '')}.npz"

    def _setting(self, label: str) -> str:
        return json.dumps({"steps": self._steps, **asdict(CELLS[label])})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/emoji"))
    parser.add_argument("--images", type=int, default=500, help="per cell")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pictures", type=Path, default=Path("runs/pictures.pt"))
    parser.add_argument("--runs", type=Path, default=Path("runs/guidance_quality"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    stored = torch.load(options.pictures, weights_only=True)
    pictures = Pictures(stored["pixels"], stored["rows"])
    bench, kept = Bench(options.model, options.steps), Kept(options.runs, options.steps)
    everything = asked(pictures.rows, options.images)
    deadline = time.monotonic() + options.minutes * 60
    work = [(at, label) for at in range(0, options.images, CHUNK) for label in CELLS]
    for at, label in tqdm(work, unit="chunk", mininterval=5):
        before = kept.read(label)
        begin = 0 if before is None else before.count
        some = everything[begin : at + CHUNK]
        if not some:
            continue
        if time.monotonic() > deadline:
            break
        kept.add(label, bench.paint(CELLS[label], some))
    cells = {label: made for label in CELLS if (made := kept.read(label)) is not None}
    if len(cells) < len(CELLS):
        parser.error("not every cell has images yet; run it again, longer")
    setting = {"steps": options.steps, "cells": {label: asdict(cell) for label, cell in CELLS.items()}}
    print(json.dumps(report(cells, real(bench, pictures), setting, options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
