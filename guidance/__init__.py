"""Guidance methods, one module each. Adding a method is adding a file here (and a test)."""

from __future__ import annotations

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from guidance.base import Guidance


def _discover() -> dict[str, type[Guidance]]:
    found: dict[str, type[Guidance]] = {}
    for module in pkgutil.iter_modules(__path__):
        for cls in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(cls, type) and issubclass(cls, Guidance):
                method = cls.model_fields["method"]
                if not method.is_required():  # `Guidance` and what it is shared by have no name
                    found[method.default] = cls
    return dict(sorted(found.items()))


REGISTRY: dict[str, type[Guidance]] = _discover()
"""Wire name -> class."""

if TYPE_CHECKING:
    AnyGuidance = Guidance
else:
    AnyGuidance = Annotated[reduce(or_, REGISTRY.values()), Field(discriminator="method")]
"""The discriminated union of all methods, for pydantic models and schemas."""

__all__ = ["REGISTRY", "AnyGuidance", "Guidance"]
