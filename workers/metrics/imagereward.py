"""How well people would say that a picture answers its prompt, by ImageReward and its own package."""

from __future__ import annotations

import importlib
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from workers.metrics import Pixels, Scorer, Unavailable, identity_of

WEIGHTS, CONFIG = "ImageReward.pt", "med_config.json"
USING = threading.Lock()


def score(pixels: Pixels, prompt: str = "", scorer: Path | None = None) -> dict[str, float]:
    """Reward, (H, W, 3) in sRGB; about a standard normal over pictures. Raises Unavailable without weights.

    Source: J. Xu et al., "ImageReward", arXiv 2304.05977.
    """
    with USING, torch.no_grad():
        network, _ = _load(_folder(scorer))
        return {"imagereward": float(network.score(prompt, Image.fromarray(pixels)))}


def identity(scorer: Path | None) -> Scorer:
    """Which weights score. Raises Unavailable."""
    with USING:
        return _load(_folder(scorer))[1]


def _folder(scorer: Path | None) -> Path:
    if scorer is None or not all((scorer / name).is_file() for name in (WEIGHTS, CONFIG)):
        raise Unavailable(
            f"weights not installed: hf download THUDM/ImageReward {WEIGHTS} {CONFIG} --local-dir {scorer}"
        )
    return scorer


@lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Any, Scorer]:
    """The network and what it is. The package's own `load` would fetch files that are here."""
    try:
        package = importlib.import_module("ImageReward.ImageReward")
        network = package.ImageReward(med_config=str(folder / CONFIG), device="cpu")
    except (ImportError, OSError) as error:
        raise Unavailable(f"its package does not load ({error}): pip install image-reward") from None
    weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    absent = network.load_state_dict(weights, strict=False).missing_keys
    if any(not name.endswith("position_ids") for name in absent):
        raise Unavailable(f"{folder / WEIGHTS} lacks {absent[0]}; get it again")
    return network.eval(), identity_of(folder, "*.pt")
