"""Draw the UNet's loss: `python -m training.curve --out models/emoji/loss.png`."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from training import settings


def main() -> None:
    args, _ = settings.parse(__doc__, ("--out", {"type": Path, "default": Path("loss.png")}))
    step, spent_s, loss = np.loadtxt(args.runs / "unet.csv", delimiter=",").T
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.plot(spent_s / 60, loss, color="#2d69e6")
    axes.set(xlabel="minutes", ylabel="v loss, mean of 20 steps", yscale="log")
    axes.set_title(f"{int(step[-1]) + 1} steps")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(args.out, dpi=120)
    print(args.out)


if __name__ == "__main__":
    main()
