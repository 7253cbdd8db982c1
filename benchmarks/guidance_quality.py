"""The papers' tables in miniature: guidance methods on the built-in model, against real pictures.

    python -m training.prepare            # once: the real pictures, runs/pictures.pt
    python -m benchmarks.guidance_quality [--images 500] [--minutes 25]

Image i has the same prompt and seed in every cell. Every cell gets a few images in turn, and what is made
is kept in `--runs`: a run that stops, or is told to stop after `--minutes`, goes on where it was. Table, plot
and verdicts are of the images that all cells have. The last line is one line of JSON.
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

from benchmarks.quality_report import Made, report
from guidance import REGISTRY, Guidance
from guidance.base import Conditions
from samplers import load
from samplers.driver import drive
from samplers.loop import run
from samplers.models.judge import Classifier, Scorer
from samplers.noise import Noise
from samplers.steps import compile_plan
from training.captions import with_article
from training.data import Backgrounds, Pictures
from workers.metrics.basic import score

CELLS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "cfg 2": {"method": "cfg", "scale": 2},
    "cfg 4": {"method": "cfg", "scale": 4},
    "cfg 8": {"method": "cfg", "scale": 8},
    "cfg 8, rescale 0.7": {"method": "cfg", "scale": 8, "rescale": 0.7},
    "cfg 4, interval": {"method": "cfg", "scale": 4, "guide_from": 0.2, "guide_to": 0.7},
    "cfgpp as cfg 4": {"method": "cfgpp", "cfg_scale": 4},
    "apg 8": {"method": "apg", "scale": 8},
    "autoguidance 2": {"method": "autoguidance", "scale": 2},
    "adaptive 4": {"method": "adaptive", "scale": 4},
    "tangential 4": {"method": "tangential", "scale": 4},
    "gfcg 2": {"method": "gfcg", "strength": 2},
}
"""Label -> guidance. Scales of one strength stand together; nothing here was tuned on the outcome."""
RIVALS = 4
"""Other names of the same subgroup that a classifier has to tell the prompt from."""
CHUNK = 8


@dataclass(frozen=True)
class Asked:
    """Image `index` of every cell."""

    index: int
    prompt: str
    subgroup: str
    rivals: tuple[str, ...]


def asked(rows: Sequence[dict[str, Any]], count: int) -> list[Asked]:
    """Prompts in a fixed order, each name in each style once before any comes again."""
    order = np.random.default_rng(0).permutation(len(rows))
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row["subgroup"], []).append(row["name"].lower())
    out: list[Asked] = []
    for i in range(count):
        row = rows[order[i % len(rows)]]
        name, style = row["name"].lower(), row["style"]
        group = sorted(set(names[row["subgroup"]]) - {name}) or sorted({*names["heart"]} - {name})
        chosen = np.random.default_rng(i).choice(group, min(RIVALS, len(group)), replace=False)
        rivals = tuple(f"{with_article(str(other))}, {style}" for other in chosen)
        out.append(Asked(i, f"{with_article(name)}, {style}", row["subgroup"], rivals))
    return out


class Bench:
    """The model with what looks at its pictures. `paint` makes one chunk of one cell."""

    def __init__(self, folder: Path, steps: int, sampler: str) -> None:
        self._model = load(folder, device="cpu")
        self._steps, self._sampler = steps, sampler
        self._classifier = Classifier(folder / "classifier", "cpu")
        self._scorer = Scorer(folder / "scorer", "cpu")

    @torch.no_grad()
    def paint(self, guidance: Guidance, some: Sequence[Asked]) -> Made:
        """Sample, decode and look; the time is that of sampling."""
        model = self._model
        shape = model.latent_shape(*model.default_size)
        plan = compile_plan(self._sampler, self._steps, model.family, model.schedule_config(shape))
        runs = list[Any]()
        for one in some:
            positive, negative, *classes = model.encode([one.prompt, "", *one.rivals]).conds
            runs.append(
                run(plan, guidance, Conditions(positive, negative, tuple(classes)), Noise(one.index, shape))
            )
        began = time.perf_counter()
        finals, nfe = drive(model, runs)
        seconds = (time.perf_counter() - began) / len(some)
        images = model.decode(torch.cat([final.latents for final in finals]))
        return Made(
            features=self.see(images),
            clip=self._clip(images, [one.prompt for one in some]),
            right=self._right(images, [one.subgroup for one in some]),
            nfe=np.array([one.model + one.weak for one in nfe], float),
            seconds=np.full(len(some), seconds),
            **self._basic(images),
        )

    @torch.no_grad()
    def see(self, images: Tensor) -> NDArray[np.float64]:
        """Unit features of pictures in [-1, 1]."""
        return torch.cat([self._scorer.see(part) for part in images.split(100)]).double().numpy()

    def _clip(self, images: Tensor, prompts: list[str]) -> NDArray[np.float64]:
        return (self._scorer.see(images) * self._scorer.read(tuple(prompts))).sum(1).double().numpy()

    def _right(self, images: Tensor, subgroups: list[str]) -> NDArray[np.float64]:
        best = self._classifier.logits(images).argmax(1).tolist()
        said = [self._classifier.names[column] for column in best]
        return np.array([a == b for a, b in zip(said, subgroups, strict=True)], float)

    def _basic(self, images: Tensor) -> dict[str, NDArray[np.float64]]:
        pixels = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        scores = [score(one) for one in pixels]
        return {name: np.array([one[name] for one in scores]) for name in ("saturation", "contrast")}


def real_features(bench: Bench, pictures: Pictures) -> NDArray[np.float64]:
    """All real pictures on white, placed as in training."""
    config = {"scale": (0.8, 1.0), "shift": 0.05, "flip": 0.0}
    source = Backgrounds(pictures.pixels, config, 0, pictures.flips)
    index = torch.arange(len(pictures.rows))
    return bench.see(source.place(index, torch.zeros_like(index)))


def kept(path: Path) -> Made | None:
    """What an earlier run made of a cell."""
    return Made(**np.load(path)) if path.is_file() else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/emoji"))
    parser.add_argument("--images", type=int, default=500, help="per cell")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--pictures", type=Path, default=Path("runs/pictures.pt"))
    parser.add_argument("--runs", type=Path, default=Path("runs/guidance_quality"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    stored = torch.load(options.pictures, weights_only=True)
    pictures = Pictures(stored["pixels"], stored["rows"])
    bench = Bench(options.model, options.steps, options.sampler)
    options.runs.mkdir(parents=True, exist_ok=True)
    setting = {"steps": options.steps, "sampler": options.sampler, "cells": CELLS}
    noted = options.runs / "setting.json"
    if noted.is_file() and json.loads(noted.read_text()) != setting:
        parser.error(f"{options.runs} holds images of another setting; name another folder with --runs")
    noted.write_text(json.dumps(setting))
    everything = asked(pictures.rows, options.images)
    deadline = time.monotonic() + options.minutes * 60
    work = [(at, label) for at in range(0, options.images, CHUNK) for label in CELLS]
    for at, label in tqdm(work, unit="chunk", mininterval=5):
        path = options.runs / f"{label.replace(' ', '_').replace(',', '')}.npz"
        before = kept(path)
        if before is not None and before.count >= min(at + CHUNK, options.images):
            continue
        if time.monotonic() > deadline:
            break
        guidance = REGISTRY[CELLS[label]["method"]].model_validate(CELLS[label])
        made = bench.paint(guidance, everything[at : at + CHUNK])
        whole = made if before is None else before.with_more(made)
        beside = path.with_suffix(".new.npz")
        np.savez(beside, **asdict(whole))
        beside.replace(path)
    cells = {
        label: made
        for label in CELLS
        if (made := kept(options.runs / f"{label.replace(' ', '_').replace(',', '')}.npz")) is not None
    }
    if len(cells) < len(CELLS):
        parser.error("not every cell has images yet; run it again, longer")
    print(json.dumps(report(cells, real_features(bench, pictures), setting, options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
