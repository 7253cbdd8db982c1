"""What the catalogue reads: its own entries, and the folders that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.catalogue import ModelCard, load_catalogue


def folder(base: Path, pipeline: str, part: str, network: dict[str, Any], vae: dict[str, Any] | None) -> None:
    """The JSON of a model's folder, without weights."""
    for name, config in ((part, network), ("vae", vae)):
        if config is not None:
            (base / name).mkdir(parents=True)
            (base / name / "config.json").write_text(json.dumps(config))
    (base / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))


def read(base: Path, entry: str) -> ModelCard:
    (base / "models.toml").write_text(f"[[models]]\nid = 'it'\n{entry}\n")
    return load_catalogue(base / "models.toml").default


@pytest.mark.parametrize(
    ("pipeline", "part", "network", "vae", "expected"),
    [
        ("StableDiffusionXLPipeline", "unet", {"block_out_channels": [1] * 3}, [1] * 4, ("vp", "euler", 32)),
        ("StableDiffusion3Pipeline", "transformer", {"patch_size": 2}, [1] * 4, ("flow", "flow_euler", 16)),
        ("FluxPipeline", "transformer", {"patch_size": 1}, [1] * 4, ("flow", "flow_euler", 16)),
        ("PixArtSigmaPipeline", "transformer", {"patch_size": 2}, [1] * 4, ("vp", "dpmpp_2m", 16)),
    ],
)
def test_a_folder_says_its_family_sampler_and_factor(
    tmp_path: Path, pipeline: str, part: str, network: dict[str, Any], vae: list[int], expected: Any
) -> None:
    folder(tmp_path / "model", pipeline, part, network, {"block_out_channels": vae})
    card = read(tmp_path, "source = 'model'")
    assert (card.family, card.sampler, card.factor) == expected
    assert card.source == str(tmp_path / "model")


def test_a_folder_says_what_its_model_has(tmp_path: Path) -> None:
    network = {"patch_size": 1, "guidance_embeds": True}
    folder(tmp_path / "model", "FluxPipeline", "transformer", network, {"block_out_channels": [1, 1]})
    (tmp_path / "model" / "transformer_weak").mkdir()
    assert read(tmp_path, "source = 'model'").extras == {"grad", "weak", "embedded"}


def test_a_controlnet_is_in_the_folder_or_named(tmp_path: Path) -> None:
    network, vae = {"block_out_channels": [1] * 2}, {"block_out_channels": [1] * 4}
    folder(tmp_path / "model", "StableDiffusionPipeline", "unet", network, vae)
    assert "controlnet" not in read(tmp_path, "source = 'model'").extras
    named = read(tmp_path, "source = 'model'\noptions = { controlnet = 'owner/qr' }")
    (tmp_path / "model" / "controlnet_qr").mkdir()
    beside = read(tmp_path, "source = 'model'")
    assert "controlnet" in named.extras & beside.extras


def test_a_model_on_pixels_has_no_autoencoder(tmp_path: Path) -> None:
    folder(tmp_path / "model", "DDPMPipeline", "unet", {"block_out_channels": [1] * 4}, None)
    card = read(tmp_path, "source = 'model'\nguidance = { method = 'none' }")
    assert (card.factor, card.sampler) == (8, "ddpm")
    assert {"pixels", "unconditional"} <= card.extras


def test_an_entry_for_the_hub_says_its_pipeline(tmp_path: Path) -> None:
    card = read(tmp_path, "source = 'owner/name'\npipeline = 'FluxPipeline'\nfactor = 16")
    assert (card.family, card.sampler, card.factor, card.source) == ("flow", "flow_euler", 16, "owner/name")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "source = 'a/b'\npipeline = 'KandinskyPipeline'",
            "KandinskyPipeline is not supported",
        ),
        ("source = 'toy'\nsampler = 'plms'", "it: there is no sampler 'plms'; use one of: ddim"),
        (
            "source = 'toy'\nsampler = 'flow_euler'",
            "its defaults do not go together: sampler",
        ),
        (
            "source = 'a/b'\npipeline = 'DDPMPipeline'",
            "defaults do not go together: guidance 'cfg'",
        ),
        ("source = 'toy'\nweights = 'here'", "weights"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_at_the_start(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"models\.toml: ") as caught:
        read(tmp_path, entry)
    assert message in str(caught.value)
