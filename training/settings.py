"""The command line and the config file that every training command shares."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import torch

from training.data import Pictures

HERE = Path(__file__).parent


START = ("--start", {"type": Path, "help": "go on from this diffusers folder's weights, by [refine]"})


def read(path: Path, *overlays: str) -> dict:
    """config.toml with the tables under each of `overlays` laid over it."""
    config = tomllib.loads(path.read_text())
    for overlay in overlays:
        for table, values in config.get(overlay, {}).items():
            config[table].update(values)
    return config


def parse(about: str | None, *extra: tuple[str, dict]) -> tuple[argparse.Namespace, dict]:
    """Arguments common to all commands (and `extra` ones) and the merged config."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/emoji")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs")
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    args = parser.parse_args()
    overlays = ["gpu" if args.device.startswith("cuda") else "cpu"]
    if getattr(args, "start", None):
        overlays.append("refine")
    return args, read(args.config, *overlays)


def pictures(args: argparse.Namespace, device: str) -> Pictures:
    """What `python -m training.prepare` stored, on `device`."""
    stored = torch.load(args.runs / "pictures.pt", weights_only=True)
    return Pictures(stored["pixels"].to(device), stored["rows"])
