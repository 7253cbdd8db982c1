"""The golden arrays beside this file, as float64 (or integer) tensors. Their provenance is in README.md."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@cache
def load(name: str) -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(np.array(file[key])) for key in file.files}
    return {key: value.double() if value.is_floating_point() else value for key, value in arrays.items()}
