"""Loading the parts of a diffusers pipeline, one after the other, from a folder or a hub id."""

from __future__ import annotations

import importlib.util
import inspect
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import diffusers as _diffusers
import torch
import transformers as _transformers

from samplers.architectures import parts_of

diffusers: Any = _diffusers  # both load lazily and are typed for neither their exports nor their arguments
transformers: Any = _transformers

_clips: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()
_loading_clip = threading.Lock()

Loading = Callable[[str, int, int], None]
"""Told before each part: its name, its place, how many there are."""


def load_pipeline(
    source: str,
    index: Mapping[str, Any],
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    without: Collection[str] = (),
    on_part: Loading | None = None,
) -> Any:
    """The pipeline that this `model_index.json` describes, on `device`, for inference.

    `without`: optional parts to leave out, such as SD3's third text encoder. Only safetensors are read.
    ValueError where a part is of a library other than diffusers and transformers.
    """
    wanted = parts_of(index, without)
    parts: dict[str, Any] = dict.fromkeys(name for name, kind in index.items() if isinstance(kind, list))
    for i, (name, (library, class_name)) in enumerate(wanted.items()):
        if on_part is not None:
            on_part(name, i, len(wanted))
        kind = _class_of(source, name, library, class_name)
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
    # Pixel by pixel: the layout in which convolutions are fastest on GPUs, and large ones on CPUs.
    network = network.to(device, memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def lay_out(denoiser: Any) -> None:
    """Give a denoiser's weights the layout in which its forwards are fastest.

    On a CPU that is channel by channel: at 8 x 8 latents by 2 to 9 % from two rows on, and no
    matter at 32 x 32 (`benchmarks.layout`).
    """
    on_cpu = denoiser.device.type == "cpu"
    denoiser.to(memory_format=torch.contiguous_format if on_cpu else torch.channels_last)


def load_clip(source: str | Path, device: str) -> Any:
    """A CLIP in float32: the same one for all who have it at the same time. From any thread."""
    key = (str(Path(source)), device)
    with _loading_clip:
        clip = _clips.get(key)
        if clip is None:
            clip = _clips[key] = load_network(key[0], None, transformers.CLIPModel, "float32", device)
        return clip


def fuse(pipeline: Any, loras: Sequence[Mapping[str, Any]]) -> None:
    """Add LoRAs, each with `source`, `file` and `scale`, to the weights. ValueError says why if not."""
    if not loras:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"a {type(pipeline).__name__} takes no LoRA")
    if importlib.util.find_spec("peft") is None:
        raise ValueError("LoRAs need the package peft: pip install 'lodestar-diffusion[lora]'")
    for lora in loras:
        named = {"weight_name": lora["file"]} if lora.get("file") else {}
        pipeline.load_lora_weights(lora["source"], **named)
        pipeline.fuse_lora(lora_scale=lora.get("scale", 1.0))
        pipeline.unload_lora_weights()


def _class_of(source: str, name: str, library: str, kind: str) -> Any:
    libraries = {"diffusers": diffusers, "transformers": transformers}
    if library not in libraries:
        raise ValueError(
            f"{source}: its {name} is code of its own ({library}.{kind}), which is not run; use a model "
            "whose parts come from diffusers and transformers"
        )
    return getattr(libraries[library], kind)
