"""How often QR codes of the built-in model are read: under its ControlNet alone, with SRPG and SR-MPGD.

    python -m benchmarks.qr --codes 50 --jobs 2 --sheet docs/images/qr.png

Each prompt has a payload of its own. Three pictures of each run are scored: the one that the model paints
first, what the ControlNet alone makes of it, and what SRPG with SR-MPGD does; all with the symbol's function
patterns tinted and a white border, so that the difference is the data modules. CLIP score: cosine of the
picture without its border and the prompt by the model's scorer, where it has one. On the sheet are the
finished codes of different prompts.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from guidance.cfg import CFG
from guidance.qr.request import Qr, picture_module_px
from guidance.srpg import SRPG
from samplers.driver import drive
from samplers.models import load
from samplers.qr import code_course, finished
from samplers.scan import finish
from workers import battery
from workers.metrics import clip

WHAT = (
    "a red apple", "panda", "a slice of pizza", "tiger face", "a green leaf", "a yellow lemon", "fox",
    "a cat face", "an octopus", "a strawberry", "sunflower", "a dog face", "a hamburger", "an owl", "a frog",
    "a watermelon",
    "a penguin", "grinning face", "a birthday cake", "a mushroom", "a koala", "a peach", "a lion", "a cactus",
    "a whale",
)  # fmt: skip
STYLES = ("3d", "fluent")
ON_SHEET = 12
Row = dict[str, dict[str, float]]
loaded: dict[str, Any] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/emoji"))
    parser.add_argument("--scorer", type=Path, help="a CLIP folder, if the model has none of its own")
    parser.add_argument("--codes", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--version", type=int, default=6, help="larger ones leave more modules to the picture"
    )
    parser.add_argument("--ecc", default="L", help="the weaker, the more modules are left to the picture")
    parser.add_argument("--guarantee", default="none")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--sheet", type=Path, help="where to save the first codes as one picture")
    args = parser.parse_args()
    rows: list[Row] = []
    tiles: list[np.ndarray] = []
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), prepare, (args,)) as pool:
        for i, (prompt, row, tile) in enumerate(pool.map(code, range(args.codes), [args] * args.codes)):
            rows.append(row)
            tiles.append(tile)
            told = "  ".join(
                f"{arm}: {row[arm]['read by zxing-cpp']:.0f} {row[arm]['margin']:.2f}" for arm in row
            )
            print(f"{i + 1:3} {prompt:28} {told}  {row['guided']['seconds']:.0f} s", flush=True)
            if args.sheet is not None and len(tiles) <= ON_SHEET:
                save(tiles, args.sheet)
    means = {
        arm: {name: round(float(np.mean([row[arm][name] for row in rows])), 4) for name in rows[0][arm]}
        for arm in rows[0]
    }
    print(f"{'':42}" + "".join(f"{arm:>12}" for arm in means))
    for name in means["first"]:
        print(f"{name:42}" + "".join(f"{means[arm].get(name, np.nan):12.4f}" for arm in means))
    print(
        json.dumps({"benchmark": "qr", "codes": len(rows), "version": args.version, "ecc": args.ecc, **means})
    )


def prepare(args: argparse.Namespace) -> None:
    """Load the model, once in each process."""
    torch.set_num_threads(1)
    options = {"scorer": str(args.scorer)} if args.scorer else {}
    loaded["model"] = load(args.model, name="emoji", dtype="float32", device="cpu", **options)


def code(i: int, args: argparse.Namespace) -> tuple[str, Row, np.ndarray]:
    """The prompt of one code, the scores of each arm, and the finished picture."""
    model, scorer = loaded["model"], args.scorer or args.model / "scorer"
    prompt = f"{WHAT[i % len(WHAT)]}, {STYLES[i // len(WHAT) % len(STYLES)]}"
    qr = Qr(data=f"https://lodestar.dev/{i:03}", version=args.version, ecc=args.ecc, guarantee=args.guarantee)
    guidance = SRPG(base=CFG(scale=4))
    course = code_course(model, prompt, "", sampler="ddim", steps=args.steps, guidance=guidance, qr=qr)
    began = time.monotonic()
    ((final,), _) = drive(model, [course.run(i)])
    seconds = time.monotonic() - began
    target = final.target
    assert target is not None
    assert target.reference is not None
    ((alone,), _) = drive(model, [course.controlled_only(i, target)])
    pictures = {
        "first": finish(target.reference[0], target, course.qr.quiet_zone),
        "controlnet": finished(model, alone, course.qr),
        "guided": finished(model, final, course.qr),
    }
    row: Row = {}
    border = course.qr.quiet_zone * picture_module_px(target.module_px)
    for arm, pixels in pictures.items():
        scores, reading = battery.score(pixels, course.qr, target.symbol)
        readers = {
            f"read by {name}": float(said == "read")
            for name, said in reading.readers.items()
            if said != "unavailable"
        }
        row[arm] = readers | scores
        if scorer.is_dir():
            row[arm] |= clip.look(pixels[border:-border, border:-border], prompt, scorer)[0]
    row["guided"]["seconds"] = seconds
    return prompt, row, pictures["guided"]


def save(tiles: list[np.ndarray], path: Path, columns: int = 4, side_px: int = 343) -> None:
    """The codes side by side, at half of their size."""
    shown = [np.asarray(Image.fromarray(tile).resize((side_px, side_px))) for tile in tiles]
    shown += [np.full_like(shown[0], 255)] * (-len(shown) % columns)
    lines = [np.concatenate(shown[k : k + columns], 1) for k in range(0, len(shown), columns)]
    sheet = Image.fromarray(np.concatenate(lines, 0))
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
