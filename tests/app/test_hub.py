"""The hub, stood in for by a cache on this machine and by errors of its own client: nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from typer.testing import CliRunner

from app import hub
from app.__main__ import cli
from app.catalogue import Lora, ModelCard

INDEX = {
    "_class_name": "FluxPipeline",
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "safety_checker": ["elsewhere", "SafetyChecker"],
}
CARD = ModelCard(id="flux", source="owner/flux", pipeline="FluxPipeline")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def store(cache: Path, repository: str, files: dict[str, str]) -> Path:
    """A repository in the cache as `hf download` leaves it."""
    home, commit = cache / f"models--{repository.replace('/', '--')}", "a" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    for name, text in files.items():
        path = home / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return home / "snapshots" / commit


@pytest.mark.parametrize(
    ("source", "expected"),
    [("owner/name", True), ("toy", False), ("./a", False), ("/a/b", False), ("a/b/c", False)],
)  # fmt: skip
def test_what_is_a_hub_id(source: str, expected: bool) -> None:
    assert hub.is_hub_id(source) == expected


def test_a_model_that_is_not_here_says_how_to_get_it(cache: Path) -> None:
    with pytest.raises(hub.NotHere, match="not on this machine; get it with: lodestar models pull flux"):
        hub.at_hand(CARD)


def test_a_model_that_is_here_is_its_folder(cache: Path) -> None:
    parts = {f"{part}/config.json": "{}" for part in ("transformer", "text_encoder_2")}
    folder = store(cache, "owner/flux", {"model_index.json": json.dumps(INDEX), **parts})
    lora = store(cache, "owner/lora", {"fast.safetensors": ""})
    card = CARD.model_copy(update={"loras": [Lora(source="owner/lora", file="fast.safetensors")]})
    here = hub.at_hand(card)
    assert here.source == str(folder)
    assert here.loras[0].source == str(lora / "fast.safetensors")
    assert hub.at_hand(ModelCard(id="toy", source="toy")).source == "toy"


def test_what_lies_beside_a_model_may_be_pinned(cache: Path) -> None:
    pinned = store(cache, "owner/control", {"config.json": "{}"})
    card = ModelCard(id="it", source="toy", options={"controlnet": f"owner/control@{'a' * 40}"})
    assert hub.at_hand(card).options == {"controlnet": str(pinned)}
    with pytest.raises(hub.NotHere, match="lodestar models pull it"):
        hub.at_hand(card.model_copy(update={"options": {"controlnet": f"owner/control@{'b' * 40}"}}))


def test_pulling_an_entry_without_a_revision_says_how_to_pin_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {f"{part}/config.json": "{}" for part in ("transformer", "text_encoder_2")}
    store(cache, "owner/flux", {"model_index.json": json.dumps(INDEX), **parts})
    entry = '[[models]]\nid = "flux"\nsource = "owner/flux"\npipeline = "FluxPipeline"\n'
    for revision, told in (("", True), (f'revision = "{"a" * 40}"\n', False)):
        (cache / "models.toml").write_text(entry + revision)
        command = ["models", "pull", "flux", "--catalogue", str(cache / "models.toml")]
        result = CliRunner().invoke(cli, command)
        assert result.exit_code == 0, result.output
        assert (f'add to its entry: revision = "{"a" * 40}"' in result.output) == told


def test_a_model_that_is_here_in_part_says_what_is_missing(cache: Path) -> None:
    store(cache, "owner/flux", {"model_index.json": json.dumps(INDEX), "transformer/config.json": "{}"})
    with pytest.raises(hub.NotHere, match="without text_encoder_2"):
        hub.at_hand(CARD)
    assert hub.at_hand(CARD.model_copy(update={"without": ["text_encoder_2"]})).source


def test_pulling_asks_for_the_parts_that_are_used_and_for_safetensors_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))
    asked: list[tuple[str, dict[str, Any]]] = []

    def download(source: str, **call: Any) -> str:
        asked.append((source, call))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model_index.json")
    )
    card = CARD.model_copy(update={"without": ["text_encoder_2"], "revision": "abc"})
    assert hub.pull(card).source == str(tmp_path)
    ((source, call),) = asked
    assert (source, call["revision"]) == ("owner/flux", "abc")
    assert "transformer/*.safetensors" in call["allow_patterns"]
    assert not any(
        "text_encoder_2" in one or "safety" in one or "bin" in one for one in call["allow_patterns"]
    )
    assert "*.fp16.*" in call["ignore_patterns"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            GatedRepoError,
            "is gated: accept its licence at https://huggingface.co/owner/flux, log in",
        ),
        (RepositoryNotFoundError, "could not get owner/flux from the hub (no); check its name"),
    ],
)
def test_what_cannot_be_pulled_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any, message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise error("no", response=httpx.Response(403, request=httpx.Request("GET", "https://hub/")))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    (tmp_path / "models.toml").write_text(
        '[[models]]\nid = "flux"\nsource = "owner/flux"\npipeline = "FluxPipeline"\n'
    )
    result = CliRunner().invoke(cli, ["models", "pull", "flux", "--catalogue", str(tmp_path / "models.toml")])
    assert result.exit_code == 1
    assert message in result.stderr


def test_the_check_loads_a_model_and_times_it() -> None:
    result = CliRunner().invoke(cli, ["models", "check", "emoji", "--rows", "2"])
    assert result.exit_code == 0, result.output
    assert "emoji works on cpu in float32" in result.output
    lines = result.output.partition("rows  ms a forward")[2].splitlines()[1:]
    assert [line.split()[0] for line in lines if line] == ["1", "2"]


def test_the_check_of_a_model_that_is_not_here_fails_with_the_command(cache: Path) -> None:
    result = CliRunner().invoke(cli, ["models", "check", "sdxl", "--catalogue", "models/hub.toml"])
    assert result.exit_code == 1
    assert "lodestar models pull sdxl" in result.stderr
