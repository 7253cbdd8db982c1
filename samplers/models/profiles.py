"""How a network's kernels are called: as they are, compiled, or compiled and replayed as CUDA graphs.

Eager needs nothing. Compiling takes from seconds to minutes, once per network and latent shape; keep
TORCHINDUCTOR_CACHE_DIR where it outlives the process. Graphs take away the cost of launching kernels; there
is one for each row count, to which the engine pads forwards. They were never run yet: no GPU was at hand.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, Literal

import torch

Profile = Literal["eager", "compiled", "graphs"]


def unavailable(profile: Profile, device: str) -> str | None:
    """Why this machine cannot run this profile; None where it can."""
    if profile == "graphs" and not device.startswith("cuda"):
        return f"profile graphs replays CUDA graphs, and the device is {device}; use eager or compiled"
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++")
    if profile == "compiled" and device == "cpu" and not any(map(shutil.which, compilers)):
        return "profile compiled needs a C++ compiler on a CPU; install g++, or use eager"
    return None


def accelerate(network: Any, profile: Profile, backend: str = "inductor") -> None:
    """Compile this network in place; ValueError where the machine cannot.

    Of a stack of like blocks (FLUX) one is compiled for all, which takes a fraction of the time and runs as
    fast; a UNet gains from fusing across its blocks, and a graph shall be one: these are compiled whole. Row
    counts are one dynamic dimension, so that few of them are compiled anew.
    """
    if reason := unavailable(profile, str(network.device)):
        raise ValueError(reason)
    if profile == "eager":
        return
    options: dict[str, Any] = {"backend": backend}
    if profile == "graphs":
        network.compile(mode="reduce-overhead", **options)
    elif getattr(network, "_repeated_blocks", None) and "UNet" not in type(network).__name__:
        network.compile_repeated_blocks(**options)
    else:
        network.compile(**options)


def begin(profile: Profile) -> None:
    """Before each call: what graphs gave in the one before may be overwritten now."""
    if profile == "graphs":
        torch.compiler.cudagraph_mark_step_begin()
