"""Model adapters, and `load`, which finds the right one for a source."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.architectures import architecture

if TYPE_CHECKING:
    from samplers.models.base import Model
    from samplers.models.parts import Loading
    from samplers.models.pipeline import PipelineModel


def load(
    source: str | Path,
    *,
    name: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    on_part: Loading | None = None,
    **options: Any,
) -> Model:
    """Load a model from a diffusers folder, a hub id or "toy"; `options` go to its adapter.

    `dtype`: "float32", "float16", "bfloat16", or "auto" (float32 on a CPU, float16 on a GPU).
    `device`: a torch device, or "auto" (the first GPU, else the CPU). `on_part` is told before each part of
    the pipeline is loaded. Only safetensors are read, and no code from the source is run. FileNotFoundError
    or ValueError say what to do.
    """
    device = device_of(device)
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "float16"
    if str(source) == "toy":
        from samplers.models.toy import Toy

        return Toy(name or "toy", dtype=dtype, device=device, **options)
    index = model_index(source, revision)
    return adapter(index["_class_name"]).load(
        str(source),
        name or Path(source).name,
        index,
        dtype=dtype,
        device=device,
        revision=revision,
        on_part=on_part,
        **options,
    )


def device_of(device: str) -> str:
    """The torch device that is meant: for "auto" the first GPU, else the CPU."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def adapter(pipeline: str) -> type[PipelineModel]:
    """The class that reads diffusers' pipelines of this class name. ValueError says which ones there are."""
    module, _, name = architecture(pipeline).adapter.partition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def model_index(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """The source's `model_index.json`. FileNotFoundError says how to get the model."""
    folder = Path(source)
    if folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            raise FileNotFoundError(
                f"{folder} has no model_index.json; save the model with `pipeline.save_pretrained(folder)`"
            )
        return json.loads(index.read_text())
    if folder.is_absolute() or str(source).startswith(".") or str(source).count("/") != 1:
        raise FileNotFoundError(
            f"there is no model folder {source}; give a diffusers folder, a hub id like owner/name, or 'toy'"
        )
    from huggingface_hub import hf_hub_download

    try:
        return json.loads(
            Path(hf_hub_download(str(source), "model_index.json", revision=revision)).read_text()
        )
    except OSError as error:
        raise FileNotFoundError(
            f"could not get model {source} from the hub; check the name and the network, or download it "
            f"first with `hf download {source}` and give the folder"
        ) from error


__all__ = ["adapter", "device_of", "load"]
