"""Loading the parts of a diffusers pipeline, one after the other, from a folder or a hub id."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import diffusers as _diffusers
import torch
import transformers as _transformers

diffusers: Any = _diffusers  # both load lazily and are typed for neither their exports nor their arguments
transformers: Any = _transformers

Loading = Callable[[str, int, int], None]
"""Told before each part: its name, its place, how many there are."""

UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
"""Parts that sampling does without; they are not loaded."""


def load_pipeline(
    source: str,
    index: Mapping[str, Any],
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    without: frozenset[str] = frozenset(),
    on_part: Loading | None = None,
) -> Any:
    """The pipeline that this `model_index.json` describes, on `device`, for inference.

    `without`: optional parts to leave out, such as SD3's third text encoder. Only safetensors are read.
    ValueError where a part is of a library other than diffusers and transformers.
    """
    kinds = {name: value for name, value in index.items() if isinstance(value, list)}
    wanted = [name for name, kind in kinds.items() if kind[0] and name not in UNUSED | without]
    parts: dict[str, Any] = dict.fromkeys(kinds)
    for i, name in enumerate(wanted):
        if on_part is not None:
            on_part(name, i, len(wanted))
        kind = _class_of(source, name, *kinds[name])
        if issubclass(kind, torch.nn.Module):
            parts[name] = load_network(source, name, kind, dtype, device, revision)
        else:
            parts[name] = kind.from_pretrained(source, subfolder=name, revision=revision)
    pipeline = getattr(diffusers, index["_class_name"])
    settings = {**index, "requires_safety_checker": False} | parts
    accepted = inspect.signature(pipeline.__init__).parameters
    return pipeline(**{name: value for name, value in settings.items() if name in accepted})


def load_network(
    source: str, folder: str | None, kind: Any, dtype: str, device: str, revision: str | None = None
) -> Any:
    """A diffusers or transformers network of class `kind`, frozen, on `device`."""
    key = "dtype" if kind.__module__.startswith("transformers") else "torch_dtype"
    place = {} if folder is None else {"subfolder": folder}
    network = kind.from_pretrained(
        source, revision=revision, use_safetensors=True, **place, **{key: getattr(torch, dtype)}
    )
    if dtype == "float16" and getattr(network.config, "force_upcast", False):
        network = network.float()  # this autoencoder overflows in float16
    # Pixel by pixel: the layout in which convolutions are fastest from a few rows on, on GPUs and on CPUs.
    network = network.to(device, memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def _class_of(source: str, name: str, library: str, kind: str) -> Any:
    libraries = {"diffusers": diffusers, "transformers": transformers}
    if library not in libraries:
        raise ValueError(
            f"{source}: its {name} is code of its own ({library}.{kind}), which is not run; use a model "
            "whose parts come from diffusers and transformers"
        )
    return getattr(libraries[library], kind)
