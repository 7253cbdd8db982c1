"""Train the brightness-pattern ControlNet: `python -m training.controlnet`.

The condition is a QR-like grid of dark and light squares (1 channel repeated to 3,
0..1); the picture to learn is a real one whose squares are darkened and lightened as
the grid says. It is shown whole at the model's own size, where the layout is made, and
as crops and wholes of the larger canvas that a QR code needs, at the noise levels at
which a picture that has its layout already is painted again.

Trains against the exported folder (`--model models/emoji`), whose weights are frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, StableDiffusionPipeline
from torch import Tensor

from training import settings, text
from training.data import Backgrounds, Pictures, read_pixels, read_rows
from training.schedule import Average, Checkpoint, Clock, rate

LUMA = (0.299, 0.587, 0.114)
CELL_PX = 8
"""Pixels a side of a latent, and of a square on the canvas."""


class View(NamedTuple):
    """How a batch looks at its pictures: a crop of `side_px` out of `canvas_px`."""

    canvas_px: int
    side_px: int
    squares: int
    """A side of the crop."""
    share: float
    """Of the batch; larger crops come in smaller batches."""
    latest: float
    """The largest time, 0..1."""


def views(config: dict, native_px: int) -> list[View]:
    """Wholes at the native size, then crops and wholes of the canvas."""
    wholes = [View(native_px, native_px, squares, 1.0, 1.0) for squares in config["modules"]]
    crops = [(canvas, config["crop_px"]) for canvas in config["canvas_px"]]
    crops.append((config["canvas_px"][0],) * 2)
    return wholes + [
        View(canvas, side, side // CELL_PX, (native_px / side) ** 2, config["latest"])
        for canvas, side in crops
    ]


def bits(picture: Tensor, squares: int) -> Tensor:
    """(B, 1, squares, squares) of 0 and 1: the picture's own brightness in half of the batch, else chance."""
    luma = (picture * picture.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    small = F.adaptive_avg_pool2d(luma, squares)
    own = small > small.flatten(1).median(1).values[:, None, None, None]
    chance = torch.rand_like(small) < 0.5
    return torch.where(torch.rand(len(small), 1, 1, 1, device=small.device) < 0.3, own, chance).float()


def blend(picture: Tensor, pattern: Tensor, low: float, high: float) -> Tensor:
    """The picture (-1..1), each square drawn by `low` to `high` towards black or white."""
    share = low + (high - low) * torch.rand(len(picture), 1, 1, 1, device=picture.device)
    return picture + share * (pattern * 2 - 1 - picture)


def main() -> None:
    folder = {"type": Path, "default": settings.HERE.parent / "models/emoji"}
    args, config = settings.parse(__doc__, ("--model", folder))
    own, device, seed = config["controlnet"], args.device, config["seed"]
    torch.manual_seed(seed)
    fast = device.startswith("cuda")
    pipe = StableDiffusionPipeline.from_pretrained(
        args.model, safety_checker=None, torch_dtype=torch.float32
    ).to(device)
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        part.requires_grad_(False)
    rows = read_rows(args.data, config["data"]["groups"], config["data"]["skin_tones"])
    table = text.TokenTable(rows, pipe.tokenizer, seed + 3, config["unet"]["captions"]).to(device)
    pictures = Pictures(read_pixels(args.data, rows, own["source_px"]).to(device), rows)
    source = Backgrounds(pictures.pixels, config["data"], seed, pictures.flips)
    source.weights += (config["unet"]["common_weight"] - 1) * torch.tensor(
        [float(row["name"] in config["unet"]["common"]) for row in rows], device=device
    )
    model = ControlNetModel.from_unet(pipe.unet, conditioning_channels=3, load_weights_from_unet=True)
    model = model.to(device)
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), own["lr"], weight_decay=0.01, fused=True)
    kept = Checkpoint(args.runs / "controlnet.pt", model, average, optimiser, device)
    step = kept.step
    clock = Clock(own["minutes"] * 60, kept.spent_s)
    alphas_bar = pipe.scheduler.alphas_cumprod.to(device)
    looks = views(own, config["data"]["size"])
    for step, bar in clock.steps(kept.step, "controlnet"):
        for group in optimiser.param_groups:
            group["lr"] = own["lr"] * rate(clock.share, step)
        view = looks[int(torch.randint(len(looks), ()))]
        many = max(int(own["batch"] * view.share), 1)
        index, colour = source.choose(many)
        with torch.no_grad(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=fast):
            picture = crop(source.place(index, colour), view)
            grid = bits(picture, view.squares)
            pattern = F.interpolate(grid, size=(view.side_px,) * 2, mode="nearest-exact")
            x0 = pipe.vae.encode(blend(picture, pattern, *own["blend"])).latents.float()
            said = pipe.text_encoder(
                table.draw(index, colour, source.uniform(many), source.uniform(many) < 0.3)
            )[0]
        timestep = (source.uniform(many) * view.latest * len(alphas_bar)).long()
        alpha_bar = alphas_bar[timestep][:, None, None, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        eps = torch.randn_like(x0)
        x_t = alpha * x0 + sigma * eps
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=fast):
            down, middle = model(
                x_t, timestep, said, controlnet_cond=pattern.expand(-1, 3, -1, -1), return_dict=False
            )
            v = pipe.unet(
                x_t,
                timestep,
                said,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        loss = (v.float() - (alpha * eps - sigma * x0)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        if step % 20 == 0:
            bar.set_postfix_str(f" step {step} loss {loss.item():.4f}")
        kept.save(step, clock.spent_s, every_s=120)
    kept.save(step, clock.spent_s)
    average.model.half().save_pretrained(args.runs / "controlnet_qr", safe_serialization=True)


def crop(picture: Tensor, view: View) -> Tensor:
    """A crop on the grid of squares, at the same place in the whole batch."""
    big = F.interpolate(picture, size=(view.canvas_px,) * 2, mode="bicubic", antialias=True).clamp(-1, 1)
    room = (view.canvas_px - view.side_px) // CELL_PX + 1
    top, left = (CELL_PX * int(torch.randint(room, ())) for _ in range(2))
    return big[..., top : top + view.side_px, left : left + view.side_px]


if __name__ == "__main__":
    main()
