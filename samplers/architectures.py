"""What can be said of a model from its pipeline's name and config files alone, without torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplers.cards import Family


@dataclass(frozen=True, slots=True)
class Reads:
    """The tokenizer by which a prompt is too long or not. `most`: tokens that are read, marks of ends among
    them; None: as many as the tokenizer's config says. `pieces`: a longer prompt is read in pieces.
    """

    part: str
    most: int | None = None
    pieces: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """A diffusers pipeline that there is an adapter for.

    `adapter`: module and class in `samplers.models`. `part`: which part of the pipeline is the denoiser; a
    weak one lies in the folder `<part>_weak`. `sampler`: ours for the pipeline's own scheduler.
    """

    adapter: str
    family: Family = "vp"
    part: str = "unet"
    sampler: str = "ddim"
    extras: frozenset[str] = frozenset({"grad"})
    embedded_scale: float | None = None
    """What a network with a guidance scale built in is told where nobody says."""
    labelled: bool = False
    """Its prompts are the names of classes."""
    packed: int = 1
    """Cells that the pipeline packs into one, in each direction, before the network sees them."""
    reads: tuple[Reads, ...] = ()
    """The first of these tokenizers that the model has counts; none where it reads no prompts."""


CLIP = frozenset({"grad", "clip"})
SD = "sd.StableDiffusion"
SDXL = "sdxl.StableDiffusionXL"
CONTROLLED = (SD, SDXL)
"""The adapters that take a ControlNet and prompt weights."""

SD_READS = (Reads("tokenizer", pieces=True),)
SD3_TOKENS, FLUX_TOKENS, PIXART_TOKENS, SANA_TOKENS = 256, 512, 300, 300
"""What their T5 (of Sana: Gemma) reads."""

ARCHITECTURES: dict[str, Architecture] = {
    "StableDiffusionPipeline": Architecture(SD, extras=CLIP, embedded_scale=8.5, reads=SD_READS),
    "LatentConsistencyModelPipeline": Architecture(
        SD, sampler="lcm", extras=CLIP, embedded_scale=8.5, reads=SD_READS
    ),
    "StableDiffusionXLPipeline": Architecture(
        SDXL, sampler="euler", extras=CLIP, reads=(Reads("tokenizer_2", pieces=True),)
    ),
    "StableDiffusion3Pipeline": Architecture(
        "sd3.StableDiffusion3",
        "flow",
        "transformer",
        "flow_euler",
        CLIP,
        reads=(Reads("tokenizer_3", SD3_TOKENS), Reads("tokenizer")),
    ),
    "FluxPipeline": Architecture(
        "flux.Flux",
        "flow",
        "transformer",
        "flow_euler",
        embedded_scale=3.5,
        packed=2,
        reads=(Reads("tokenizer_2", FLUX_TOKENS),),
    ),
    "PixArtSigmaPipeline": Architecture(
        "pixart.PixArt", "vp", "transformer", "dpmpp_2m", reads=(Reads("tokenizer", PIXART_TOKENS),)
    ),
    "SanaPipeline": Architecture(
        "sana.Sana", "flow", "transformer", "dpmpp_2m", reads=(Reads("tokenizer", SANA_TOKENS),)
    ),
    "DiTPipeline": Architecture("dit.DiT", "vp", "transformer", labelled=True),
    "DDPMPipeline": Architecture(
        "ddpm.Unconditional", sampler="ddpm", extras=frozenset({"grad", "pixels", "unconditional"})
    ),
    "DDIMPipeline": Architecture("ddpm.Unconditional", extras=frozenset({"grad", "pixels", "unconditional"})),
}
"""Class name of the pipeline -> architecture."""


def architecture(pipeline: str) -> Architecture:
    """The architecture of this pipeline. ValueError says which ones there are."""
    if pipeline not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"a {pipeline} is not supported; supported are: {known}")
    return ARCHITECTURES[pipeline]


UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
"""Parts of a pipeline that sampling does without."""


def parts_of(index: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """The parts that a `model_index.json` names, but those `without`: name -> (library, class)."""
    named = {name: kind for name, kind in index.items() if isinstance(kind, list) and kind[0]}
    return {name: (kind[0], kind[1]) for name, kind in named.items() if name not in UNUSED | set(without)}


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of a class-conditional model; a prompt is the name of one, or its number below `count`."""

    names: Mapping[str, int]
    count: int

    def number(self, label: str) -> int:
        """The class of this name or number; `count` (none) of the empty one. ValueError if there is none."""
        label = label.strip()
        if not label:
            return self.count
        if label.isdecimal() and int(label) < self.count:
            return int(label)
        if label in self.names:
            return self.names[label]
        close = difflib.get_close_matches(label, self.names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"a prompt of this model is the name of a class, or its number below {self.count}; there is no "
            f"class {label!r}{hint}"
        )


def read_labels(folder: Path, part: str = "transformer") -> Labels:
    """The labels that a diffusers folder names, several of them for a class where commas part them."""
    named: dict[str, str] = json.loads((folder / "model_index.json").read_text()).get("id2label") or {}
    names = {label.strip(): int(i) for i, labels in named.items() for label in labels.split(",")}
    config = folder / part / "config.json"
    known = json.loads(config.read_text()) if config.is_file() else {}
    return Labels(names, known.get("num_embeds_ada_norm") or len(named))


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model folder's own JSON says: its pipeline, its sizes, what it has beyond the denoiser."""

    pipeline: str
    factor: int
    extras: frozenset[str]


def read_layout(folder: Path) -> Layout:
    """Read a diffusers folder. ValueError where its pipeline is not supported."""
    pipeline = json.loads((folder / "model_index.json").read_text())["_class_name"]
    known = architecture(pipeline)
    network = _config(folder, known.part)
    extras = set(known.extras)
    if (folder / f"{known.part}_weak").is_dir():
        extras.add("weak")
    if any((folder / part / "config.json").is_file() for part in ("classifier", "scorer")):
        extras.add("classifier")
    if known.adapter in CONTROLLED and (folder / "controlnet_qr").is_dir():
        extras.add("controlnet")
    if network.get("guidance_embeds") or network.get("time_cond_proj_dim"):
        extras.add("embedded")
    vae = folder / "vae"
    cell_px = cell_px_of(_config(folder, "vae")) if vae.is_dir() else 1
    return Layout(pipeline, cell_px * patch_of(network, known.packed), frozenset(extras))


def cell_px_of(vae: dict[str, Any]) -> int:
    """Pixels per latent cell of an autoencoder with this config."""
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0]
    return 2 ** (len(blocks) - 1)


def patch_of(network: dict[str, Any], packed: int = 1) -> int:
    """Cells per patch of a denoiser with this config: what a transformer reads as one, or a UNet halves."""
    if blocks := network.get("block_out_channels"):
        return 2 ** (len(blocks) - 1)
    return (network.get("patch_size") or 1) * packed


def _config(folder: Path, part: str) -> dict[str, Any]:
    return json.loads((folder / part / "config.json").read_text())
