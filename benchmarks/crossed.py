"""A forward with the text's keys and values kept from step to step, against one that projects the text anew.

    taskset -c 0 python -m benchmarks.crossed [--rounds 20] [--threads 1] [--model small]

The same network and rows; outputs are compared before anything is timed. Goal: never slower at 32 rows.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks import networks, pairing

ROWS = (2, 8, 32)
PROMPTS = ("a red apple, 3d", "tiger face, flat", "slice of pizza", "")
GOAL_DIFFERENCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=networks.SMALL, help="a Stable Diffusion folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _, model = networks.load(options.model)
    network = model._networks["main"]
    texts = model.encode(PROMPTS).conds
    shape = model.latent_shape(*model.default_size)
    gains: dict[str, float] = {}
    apart = 0.0
    for rows in ROWS:
        x = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(0))
        conds = [texts[row % len(texts)] for row in range(rows)]
        times = torch.full((rows,), 500.0)

        @torch.no_grad()
        def anew(x: Tensor = x, times: Tensor = times, conds: list = conds) -> Tensor:
            text = torch.stack([cond.data for cond in conds])
            return network(x, times, encoder_hidden_states=text, return_dict=False)[0]

        @torch.no_grad()
        def kept(x: Tensor = x, times: Tensor = times, conds: list = conds) -> Tensor:
            return model._forward(network, x, times, conds)

        apart = max(apart, networks.difference(kept(), anew()))
        results = pairing.summary(pairing.measure({"projected anew": anew, "kept": kept}, options.rounds))
        pairing.show(f"{rows} rows, latent {shape}", results)
        gains[str(rows)] = round(1 / results["kept"]["ratio"], 3)
    passed = apart <= GOAL_DIFFERENCE and gains[str(ROWS[-1])] >= 1
    pairing.finish("crossed", passed, difference=apart, gains=gains)


if __name__ == "__main__":
    main()
