"""Models of the Hugging Face hub: fetched by a person's command, read by workers from this machine only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.catalogue import ModelCard
from samplers.architectures import parts_of

KINDS = ("json", "txt", "model", "safetensors")
"""File name endings that a model is made of; nothing else is fetched."""
VARIANTS = ["*.fp16.*", "*non_ema*", "*flax*", "*openvino*", "*onnx*"]
BESIDE = ("weak", "controlnet", "scorer")
"""Options of a card that may name a repository of their own."""


class NotHere(FileNotFoundError):
    """A model that is not on this machine; the message says which command gets it."""


class CannotPull(Exception):
    """A model that the hub does not give; the message says what to do."""


def is_hub_id(source: str) -> bool:
    """Whether this is `owner/name` and not a folder."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and not Path(source).exists()


def at_hand(card: ModelCard) -> ModelCard:
    """The card with every hub id replaced by where it lies on this machine. Raises NotHere."""
    from huggingface_hub.errors import EntryNotFoundError, IncompleteSnapshotError

    def local(source: str, file: str | None, revision: str | None) -> str:
        return _fetch(source, file, revision, [], local_files_only=True)

    try:
        found = _each_source(card, local)
    except (EntryNotFoundError, IncompleteSnapshotError) as error:
        raise NotHere(_how_to_get(card)) from error
    folder = Path(found.source)
    if is_hub_id(card.source):
        index = json.loads((folder / "model_index.json").read_text())
        if missing := [part for part in parts_of(index, card.without) if not (folder / part).is_dir()]:
            raise NotHere(f"{_how_to_get(card)}; it is there in part, without {', '.join(missing)}")
    return found


def pull(card: ModelCard) -> ModelCard:
    """Fetch what of a card comes from the hub, as far as it is not here. Raises CannotPull."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    def fetch(source: str, file: str | None, revision: str | None) -> str:
        patterns = [f"*.{kind}" for kind in KINDS]
        if source == card.source:
            index = json.loads(Path(_fetch(source, "model_index.json", revision, [])).read_text())
            patterns = [f"{part}/*.{kind}" for part in parts_of(index, card.without) for kind in KINDS]
        return _fetch(source, file, revision, ["model_index.json", *patterns])

    try:
        return _each_source(card, fetch)
    except GatedRepoError as error:
        raise CannotPull(
            f"{card.source} is gated: accept its licence at https://huggingface.co/{card.source}, log in "
            f"with `hf auth login`, and run `lodestar models pull {card.id}` again"
        ) from error
    except OfflineModeIsEnabled as error:
        raise CannotPull("the hub is switched off here; unset HF_HUB_OFFLINE to use it") from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CannotPull(
            f"could not get {card.source} from the hub ({reason}); check its name, its revision, the network"
        ) from error


def _each_source(card: ModelCard, get: Callable[[str, str | None, str | None], str]) -> ModelCard:
    """The card with `get` applied to each hub id in it."""
    found: dict[str, Any] = {}
    if is_hub_id(card.source):
        found["source"] = get(card.source, None, card.revision)
    found["loras"] = [
        lora.model_copy(update={"source": get(lora.source, lora.file, lora.revision)})
        if is_hub_id(lora.source)
        else lora
        for lora in card.loras
    ]
    found["options"] = card.options | {
        name: get(*_pinned(value)) for name, value in _beside(card) if is_hub_id(value)
    }
    return card.model_copy(update=found)


def _pinned(value: str) -> tuple[str, None, str | None]:
    """`owner/name@commit` as a repository, no single file of it, and its revision."""
    source, _, revision = value.partition("@")
    return source, None, revision or None


def _beside(card: ModelCard) -> Iterator[tuple[str, str]]:
    return ((name, str(card.options[name])) for name in BESIDE if name in card.options)


def _fetch(
    source: str, file: str | None, revision: str | None, patterns: list[str], local_files_only: bool = False
) -> str:
    """The folder of a repository, or one file's own place where `file` names one."""
    from huggingface_hub import hf_hub_download, snapshot_download

    if file is not None:
        return hf_hub_download(source, file, revision=revision, local_files_only=local_files_only)
    return snapshot_download(
        source,
        revision=revision,
        allow_patterns=patterns or None,
        ignore_patterns=VARIANTS,
        local_files_only=local_files_only,
    )


def _how_to_get(card: ModelCard) -> str:
    return f"model {card.id!r} is not on this machine; get it with: lodestar models pull {card.id}"
