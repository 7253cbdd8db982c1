"""How often the QR codes of the built-in model are read: its first picture alone against SRPG with SR-MPGD.

    python -m benchmarks.qr --codes 50 --sheet docs/images/qr.png

Each prompt has a payload of its own. Both arms are the same run: the picture of the first stage, under the
ControlNet where the model has one, and what guidance and refinement make of it; both with the symbol's
function patterns tinted and a white border, so that the difference is the data modules. CLIP score: cosine
of the picture without its border and the prompt by the model's scorer, where it has one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from guidance.cfg import CFG
from guidance.qr.request import Qr
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
SCORES = ("ssr_any", "ssr_all", "margin", "module_error", "battery_mild", "battery_hard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/emoji"))
    parser.add_argument("--scorer", type=Path, help="a CLIP folder, if the model has none of its own")
    parser.add_argument("--codes", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ecc", default="M")
    parser.add_argument("--guarantee", default="none")
    parser.add_argument("--sheet", type=Path, help="where to save the first codes as one picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scorer = args.scorer or args.model / "scorer"
    options = {"scorer": str(args.scorer)} if args.scorer else {}
    model = load(args.model, name="emoji", dtype="float32", device="cpu", **options)
    guidance = SRPG(base=CFG(scale=4))
    rows: list[dict[str, dict[str, float]]] = []
    tiles: list[np.ndarray] = []
    for i in range(args.codes):
        prompt = f"{WHAT[i % len(WHAT)]}, {STYLES[i // len(WHAT) % len(STYLES)]}"
        qr = Qr(data=f"https://lodestar.dev/{i:03}", version=3, ecc=args.ecc, guarantee=args.guarantee)
        course = code_course(model, prompt, "", sampler="ddim", steps=args.steps, guidance=guidance, qr=qr)
        began = time.monotonic()
        ((final,), _) = drive(model, [course.run(i)])
        seconds = time.monotonic() - began
        target = final.target
        assert target is not None
        assert target.reference is not None
        pictures = {
            "first": finish(target.reference[0], target, course.qr.quiet_zone),
            "guided": finished(model, final, course.qr),
        }
        row = {}
        for arm, pixels in pictures.items():
            row[arm] = battery.score(pixels, course.qr, target.symbol)[0] | {"seconds": seconds}
            if scorer.is_dir():
                inside = (pixels.shape[0] - target.symbol.modules * 12) // 2
                row[arm] |= clip.score(pixels[inside:-inside, inside:-inside], prompt, scorer)
        rows.append(row)
        tiles.append(pictures["guided"])
        told = "  ".join(f"{arm}: {row[arm]['ssr_any']:.0f} {row[arm]['margin']:.2f}" for arm in row)
        print(f"{i + 1:3} {prompt:28} {told}  {seconds:.0f} s", flush=True)
        if args.sheet is not None:
            save(tiles, args.sheet)
    means = {
        arm: {name: round(float(np.mean([row[arm][name] for row in rows])), 4) for name in rows[0][arm]}
        for arm in rows[0]
    }
    for name in means["first"]:
        print(f"{name:14} first {means['first'][name]:8.4f}   guided {means['guided'][name]:8.4f}")
    print(json.dumps({"benchmark": "qr", "codes": len(rows), "ecc": args.ecc, **means}))


def save(tiles: list[np.ndarray], path: Path, columns: int = 4, side_px: int = 296) -> None:
    """The first codes, side by side."""
    shown = [np.asarray(Image.fromarray(tile).resize((side_px, side_px))) for tile in tiles[: 2 * columns]]
    shown += [np.full_like(shown[0], 255)] * (-len(shown) % columns)
    lines = [np.concatenate(shown[k : k + columns], 1) for k in range(0, len(shown), columns)]
    Image.fromarray(np.concatenate(lines, 0)).save(path, optimize=True)


if __name__ == "__main__":
    main()
