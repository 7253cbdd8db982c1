"""A UNet's forwards with its weights laid out channel by channel, against pixel by pixel (channels_last).

    taskset -c 0 python -m benchmarks.layout [--rounds 12] [--threads 1] [--model small] [--size 64]

What `samplers.models.parts.lay_out` goes by. Goal: the layout that it chooses is not the slower one from two
rows on, the least that a guided picture has.
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import Tensor

from benchmarks import networks, pairing

ROWS = (1, 2, 4, 8, 32)
LEAST_ROWS, NOISE = 2, 1.02


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=networks.SMALL, help="a Stable Diffusion folder")
    parser.add_argument("--size", type=int, default=64, help="pixels; 64: 8 x 8 latents, 256: 32 x 32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipeline, model = networks.load(options.model)
    unets = {
        "channel by channel": copy.deepcopy(pipeline.unet).to(memory_format=torch.contiguous_format),
        "pixel by pixel": copy.deepcopy(pipeline.unet).to(memory_format=torch.channels_last),
    }
    (text,) = model.encode(["a red apple, 3d"]).conds
    shape = model.latent_shape(options.size, options.size)
    ratios: dict[str, float] = {}
    for rows in ROWS:
        x = torch.randn(rows, *shape, device=model.device)
        told = text.data.expand(rows, -1, -1)
        times = torch.full((rows,), 500.0, device=model.device)

        @torch.no_grad()
        def forward(name: str, x: Tensor = x, times: Tensor = times, told: Tensor = told) -> Tensor:
            out = unets[name](x, times, encoder_hidden_states=told, return_dict=False)[0]
            return out.cpu()  # waits for the device

        variants = {name: lambda name=name, forward=forward: forward(name) for name in unets}
        results = pairing.summary(pairing.measure(variants, options.rounds))
        pairing.show(f"{rows} rows, latent {shape}", results)
        ratios[str(rows)] = results["pixel by pixel"]["ratio"]
    chosen = model._networks["main"].conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    guided = [ratio for rows, ratio in ratios.items() if int(rows) >= LEAST_ROWS]
    passed = all((ratio if chosen else 1 / ratio) <= NOISE for ratio in guided)
    pairing.finish("layout", passed, latent=shape, pixel_by_pixel=ratios, chosen_pixel_by_pixel=chosen)


if __name__ == "__main__":
    main()
