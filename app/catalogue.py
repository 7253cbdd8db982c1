"""The models that this server offers: names for clients, sources for workers. Torch-free."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from guidance import AnyGuidance
from guidance.cfg import CFG
from samplers.architectures import CONTROLLED, Labels, architecture, read_labels, read_layout
from samplers.cards import CARDS, Family, embedded_problems, problems

ROOT = Path(__file__).resolve().parent.parent


class Lora(BaseModel):
    """A LoRA that is added to a model's weights when it is loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="a folder, a file, or a hub id")
    file: str | None = Field(None, description="which of its files")
    revision: str | None = None
    scale: float = 1.0


class ModelCard(BaseModel):
    """One entry of `models.toml`, completed from the diffusers folder's own JSON where there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    title: str = ""
    source: str = Field(description="a diffusers folder (relative to the catalogue), a hub id, or 'toy'")
    revision: str | None = Field(None, description="a hub id's commit or tag")
    pipeline: str | None = Field(None, description="diffusers' class, where the source is no folder to read")
    family: Family = "vp"
    factor: int = Field(8, description="width and height are multiples of it")
    cell_px: int = Field(8, description="pixels per latent cell; QR modules are multiples of it")
    width: int = 512
    height: int = 512
    min_size_px: int = 64
    max_size_px: int = 2048
    steps: int = 25
    sampler: str = "ddim"
    guidance: AnyGuidance | None = None
    embedded_scale: float | None = Field(None, description="of a guidance scale built in, the default")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: str = Field("auto", description="a torch device; auto: the first GPU, else the CPU")
    scheduler: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="changes of the model's scheduler config"
    )
    without: list[str] = Field(
        default_factory=list[str], description="optional parts of the pipeline to leave out"
    )
    loras: list[Lora] = Field(default_factory=list[Lora])
    extras: frozenset[str] = Field(frozenset({"grad"}), description="weak, classifier, controlnet, grad")
    labels: Labels | None = Field(
        None, exclude=True, description="the classes that its prompts name, from the model's own files"
    )
    options: dict[str, Any] = Field(default_factory=dict[str, Any], description="passed to the adapter")

    def load_options(
        self, dtype: str = "auto", device: str = "auto", profile: str = "eager"
    ) -> dict[str, Any]:
        """What `samplers.models.load` is given beside the source; settings that are not "auto" come first."""
        loras = [lora.model_dump(exclude={"revision"}) for lora in self.loras]
        changes: dict[str, Any] = {"scheduler": self.scheduler, "without": self.without, "loras": loras}
        if profile != "eager" and self.source != "toy":  # which has no network
            changes["profile"] = profile
        return {
            "name": self.id,
            "dtype": self.dtype if dtype == "auto" else dtype,
            "device": self.device if device == "auto" else device,
            **{name: value for name, value in changes.items() if value},
            **self.options,
        }


class Catalogue(BaseModel):
    """All cards by id; the first is the default."""

    models: dict[str, ModelCard]

    @property
    def default(self) -> ModelCard:
        """The model of a request that names none."""
        return next(iter(self.models.values()))


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read `models.toml` (a `[[models]]` table per entry); the repository's own by default.

    Raises ValueError naming the file and the entry when something is wrong.
    """
    path = path or ROOT / "models" / "models.toml"
    try:
        entries = tomllib.loads(path.read_text())["models"]
        cards = [_complete(ModelCard.model_validate(entry), path.parent) for entry in entries]
    except FileNotFoundError:
        raise ValueError(f"no catalogue at {path}; set LODESTAR_CATALOGUE to a models.toml") from None
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not cards:
        raise ValueError(f"{path}: no [[models]] entry")
    return Catalogue(models={card.id: card for card in cards})


def _complete(card: ModelCard, base: Path) -> ModelCard:
    """Make a folder source absolute; add what the folder, or else the pipeline's name, says of the model."""
    folder = (base / card.source).resolve()
    pipeline, extras = card.pipeline, card.extras
    found: dict[str, Any] = {}
    if (folder / "model_index.json").is_file():
        layout = read_layout(folder)
        pipeline, extras = layout.pipeline, extras | layout.extras
        found = {"source": str(folder), "factor": layout.factor}
    weighting = card.options.get("weighting")
    weighted = pipeline is not None and architecture(pipeline).adapter in CONTROLLED
    if weighting is not None and not (weighting == "compel" and weighted):
        raise ValueError(f'{card.id}: weighting is "compel", and for Stable Diffusion 1, 2 and XL only')
    if "controlnet" in card.options:
        extras = extras | {"controlnet"}
    if pipeline is not None:
        known = architecture(pipeline)
        extras = (extras | known.extras) - ({"clip"} if weighting else set())
        found |= {"pipeline": pipeline, "family": known.family, "extras": extras}
        if known.labelled and card.labels is None:
            found["labels"] = _labels(card, folder)
        if card.embedded_scale is None and "embedded" in found["extras"]:
            found["embedded_scale"] = known.embedded_scale
        if "sampler" not in card.model_fields_set:
            found["sampler"] = known.sampler
    return _consistent(card.model_copy(update=found))


def _labels(card: ModelCard, folder: Path) -> Labels | None:
    """What a folder says, or the hub's cache on this machine; None where the model is not here."""
    if not (folder / "model_index.json").is_file():
        from huggingface_hub import try_to_load_from_cache

        index = try_to_load_from_cache(card.source, "model_index.json", revision=card.revision)
        if not isinstance(index, str):
            return None
        folder = Path(index).parent
    return read_labels(folder)


def _consistent(card: ModelCard) -> ModelCard:
    """The card, if a request that leaves everything open would run."""
    if card.sampler not in CARDS:
        raise ValueError(f"{card.id}: there is no sampler {card.sampler!r}; use one of: {', '.join(CARDS)}")
    guidance = card.guidance or CFG.model_validate({})
    wrong = problems(guidance, CARDS[card.sampler], card.family, card.extras)
    if wrong := wrong + embedded_problems(card.embedded_scale, card.extras):
        raise ValueError(f"{card.id}: its defaults do not go together: {'; '.join(wrong)}")
    return card
