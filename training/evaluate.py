"""Measure a diffusers folder: `python -m training.evaluate --model models/emoji`.

Prints and stores (runs/evaluate.json): retrieval, background, style, generalisation
to absent (style, emoji) pairs, and FD and KID in the scorer's space over the scales.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForImageClassification, CLIPModel, CLIPTokenizer, PreTrainedModel

from training import settings, text
from training.captions import STYLES, with_article
from training.data import COLOUR_NAMES, Backgrounds, colour_table


@torch.no_grad()
def paint(
    pipe: StableDiffusionPipeline, prompts: list[str], steps: int, scale: float, seed: int = 0
) -> Tensor:
    """(N, 3, H, W) in 0..1, one seed a picture."""
    parts = []
    for at in tqdm(range(0, len(prompts), 25), desc=f"scale {scale:g}"):
        some = prompts[at : at + 25]
        made = pipe(
            some,
            num_inference_steps=steps,
            guidance_scale=scale,
            generator=[torch.Generator().manual_seed(seed + at + k) for k in range(len(some))],
            output_type="pt",
        ).images
        parts.append(made.float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def see(scorer: CLIPModel, pictures: Tensor) -> Tensor:
    """Unit features (N, D) of pictures in 0..1."""
    vision = [
        scorer.visual_projection(scorer.vision_model(pixel_values=some * 2 - 1).pooler_output)
        for some in pictures.split(100)
    ]
    return torch.nn.functional.normalize(torch.cat(vision), dim=-1)


@torch.no_grad()
def read(scorer: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    ids = text.tokens(tokenizer, texts)
    out = scorer.text_projection(scorer.text_model(input_ids=ids).pooler_output)
    return torch.nn.functional.normalize(out, dim=-1)


def retrieval(
    seen: Tensor,
    asked: list[tuple[str, str]],
    names: list[str],
    others: int,
    draw: random.Random,
    reader: tuple[CLIPModel, CLIPTokenizer],
) -> float:
    """Share of pictures nearer to their own caption than to it with any of `others` wrong names.

    `asked`: the name, and the caption with `{}` in its place.
    """
    right = 0
    for feature, (name, caption) in zip(seen, asked, strict=True):
        wrong = draw.sample([other for other in names if other != name], min(others, len(names) - 1))
        captions = [caption.format(with_article(other.lower())) for other in (name, *wrong)]
        right += int((read(*reader, captions) @ feature).argmax() == 0)
    return right / len(asked)


@torch.no_grad()
def verdicts(judge: PreTrainedModel, pictures: Tensor) -> list[str]:
    """The label that an image classifier gives each picture in 0..1."""
    votes = judge(pictures * 2 - 1).logits.argmax(1)
    return [judge.config.id2label[int(vote)] for vote in votes]


def agreement(said: list[str], truth: list[str]) -> float:
    """Share of equal labels."""
    return float(np.mean([a == b for a, b in zip(said, truth, strict=True)]))


def border(pictures: Tensor) -> Tensor:
    """Mean border pixel (N, 3) in 0..255."""
    edge = torch.cat([pictures[..., 0], pictures[..., -1], pictures[..., 0, :], pictures[..., -1, :]], -1)
    return edge.mean(-1) * 255


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two Gaussians fitted to features (N, D)."""
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    first, second = np.cov(a.T), np.cov(b.T)
    roots = np.linalg.eigvals(first @ second)
    return float(mean + np.trace(first + second) - 2 * np.sqrt(roots.real.clip(0)).sum())


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    """KID: unbiased squared MMD with the cubic kernel (x.y / d + 1)^3."""

    def gram(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def off(k: np.ndarray) -> float:
        return (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    return float(off(gram(a, a)) + off(gram(b, b)) - 2 * gram(a, b).mean())


def saturation(pictures: Tensor) -> float:
    top, low = pictures.amax(1), pictures.amin(1)
    return float(((top - low) / top.clamp_min(1e-6)).mean())


def main() -> None:
    folder = {"type": Path, "default": settings.HERE.parent / "models/emoji"}
    args, config = settings.parse(__doc__, ("--model", folder))
    own, draw = config["evaluate"], random.Random(config["seed"])
    pipe = StableDiffusionPipeline.from_pretrained(
        args.model, safety_checker=None, torch_dtype=torch.float32
    ).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    pictures = settings.pictures(args, "cpu")
    rows = pictures.rows
    tokenizer = CLIPTokenizer.from_pretrained(args.model / "tokenizer")
    scorer = CLIPModel.from_pretrained(args.model / "scorer", torch_dtype=torch.float32).eval()
    names = sorted({row["name"] for row in rows})
    reader = scorer, tokenizer
    report: dict = {"steps": own["steps"], "scale": own["scale"], "prompts": own["prompts"]}

    asked = [(draw.choice(rows), draw.randrange(len(COLOUR_NAMES))) for _ in range(own["prompts"])]
    forms = [(r["name"], f"{{}}, {r['style']}, on a {COLOUR_NAMES[c]} background") for r, c in asked]
    said = [form.format(with_article(name.lower())) for name, form in forms]
    began = time.monotonic()
    made = paint(pipe, said, own["steps"], own["scale"])
    report["seconds_per_picture"] = (time.monotonic() - began) / len(said)
    report["retrieval"] = retrieval(see(scorer, made), forms, names, own["distractors"], draw, reader)
    wanted = colour_table()[torch.tensor([c for _, c in asked])]
    report["background"] = float(((border(made) - wanted).abs() < 40).all(1).float().mean())
    source = Backgrounds(pictures.pixels, config["data"], 1, pictures.flips)
    index = torch.tensor([rows.index(r) for r, _ in asked])
    colour = torch.tensor([c for _, c in asked])
    real = (source.place(index, colour) + 1) / 2
    judges = {"style": args.runs / "style", "subgroup": args.model / "classifier"}
    for label, folder in judges.items():
        if folder.is_dir():
            judge = AutoModelForImageClassification.from_pretrained(folder, torch_dtype=torch.float32).eval()
            truth = [row[label] for row, _ in asked]
            for what, shown in ((label, made), (f"{label}_real", real)):
                report[what] = agreement(verdicts(judge, shown), truth)

    known = {(row["style"], row["name"]) for row in rows}
    absent = [(s, n) for n in names for s in STYLES if (s, n) not in known]
    absent = draw.sample(absent, min(len(absent), own["prompts"] // 2))
    lacking = [(name, f"{{}}, {style}") for style, name in absent]
    drawn = paint(
        pipe, [form.format(with_article(n.lower())) for n, form in lacking], own["steps"], own["scale"]
    )
    report["absent_pairs"] = len(absent)
    report["retrieval_absent"] = retrieval(
        see(scorer, drawn), lacking, names, own["distractors"], draw, reader
    )

    felt = see(scorer, real)
    report["retrieval_real"] = retrieval(felt, forms, names, own["distractors"], draw, reader)
    report["scales"] = {}
    for scale in own["scales"]:
        again = made if scale == own["scale"] else paint(pipe, said, own["steps"], scale)
        fake = see(scorer, again)
        report["scales"][f"{scale:g}"] = {
            "fd": frechet(felt.double().numpy(), fake.double().numpy()),
            "kid": kernel(felt.double().numpy(), fake.double().numpy()),
            "saturation": saturation(again),
            "spread": float(fake.std(0).mean()),
        }
    (args.runs / "evaluate.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
