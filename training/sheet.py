"""Contact sheet of a diffusers folder or of the running training: `python -m training.sheet`."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from training import settings
from training.captions import SPOKEN, STYLES
from training.export import pipeline

PROMPTS = (
    "a red apple, 3d",
    "tiger face, flat, on a blue background",
    "a red heart, 3d",
    "grinning face, fluent",
    "a dog face, noto",
    "a cat face, 3d, on a pink background",
    "a pizza, flat",
    "a hamburger, 3d, on a yellow background",
    "smiling face with sunglasses, noto",
    "a strawberry, fluent, on a white background",
    "a frog, 3d, on a black background",
    "a rose, noto",
    "a panda, flat, on a green background",
    "a blue heart, flat, on an orange background",
    "face with tears of joy, 3d",
    "a birthday cake, noto, on a purple background",
    "a penguin, fluent",
    "a banana, 3d, on a blue background",
    "a sunflower, flat",
    "an octopus, 3d",
    "a doughnut, fluent, on a grey background",
    "flat fox emoji",
    "a ghost, noto, on a red background",
    "a cup of coffee, 3d",
)


def sheet(pictures: list[list[Image.Image]], prompts: tuple[str, ...], columns: int = 6) -> Image.Image:
    """One cell a prompt: its seeds side by side, the prompt below."""
    side, seeds = 128, len(pictures[0])
    cell = (side * seeds + 12, side + 22)
    rows = -(-len(prompts) // columns)
    out = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    pen = ImageDraw.Draw(out)
    for at, (row, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        x, y = at % columns * cell[0], at // columns * cell[1]
        for k, picture in enumerate(row):
            out.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x + k * side, y))
        pen.text((x + 2, y + side + 3), prompt[: seeds * 21], fill="black")
    return out


def restyle(prompt: str, style: str) -> str:
    """The prompt with its style replaced."""
    words = {word for spoken in SPOKEN.values() for word in spoken}
    return re.sub("|".join(rf"\b{word}\b" for word in words), style, prompt)


def main() -> None:
    args, config = settings.parse(
        __doc__,
        ("--model", {"type": Path, "default": None}),
        ("--out", {"type": Path, "default": Path("sheet.png")}),
        ("--prompts", {"type": int, "default": len(PROMPTS)}),
        ("--style", {"choices": STYLES, "help": "all prompts in this style"}),
        ("--seeds", {"type": int, "default": 2}),
        ("--steps", {"type": int, "default": 25}),
        ("--scale", {"type": float, "default": 4.0}),
        ("--columns", {"type": int, "default": 6}),
        ("--checkpoint", {"default": "unet.pt"}),
    )
    if args.model:
        pipe = StableDiffusionPipeline.from_pretrained(
            args.model, safety_checker=None, torch_dtype=torch.float32
        )
    else:
        pipe = pipeline(args.runs, config, args.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    prompts = PROMPTS[: args.prompts]
    if args.style:
        prompts = tuple(restyle(prompt, args.style) for prompt in prompts)
    columns = [
        pipe(
            list(prompts),
            num_inference_steps=args.steps,
            guidance_scale=args.scale,
            generator=[torch.Generator().manual_seed(seed) for _ in prompts],
        ).images
        for seed in range(args.seeds)
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet([list(row) for row in zip(*columns, strict=True)], prompts, args.columns).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
