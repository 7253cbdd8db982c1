"""Samplers: schedules, step rules, the run, the model adapters, and `sample`, which puts them together.

    from samplers import load, sample
    sample(load("models/emoji"), "a red apple, 3d", steps=25, seeds=[1]).images[0].save("apple.png")

Torch is imported when `load` or `sample` is first used, not before: the API process reads `samplers.cards`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplers.driver import Sampled, sample
    from samplers.inversion import edit, invert
    from samplers.models import load

__all__ = ["Sampled", "edit", "invert", "load", "sample"]


def __getattr__(name: str) -> Any:
    if name in ("sample", "Sampled"):
        from samplers import driver

        return getattr(driver, name)
    if name in ("edit", "invert"):
        from samplers import inversion

        return getattr(inversion, name)
    if name == "load":
        from samplers.models import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
