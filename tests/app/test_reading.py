"""How the API counts a prompt, against how the workers' adapters read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from app.catalogue import ROOT, ModelCard, load_catalogue
from app.reading import Reading, clip_tokenizer, readings
from samplers.models import load
from tests import pipelines

PROMPTS = ["a red apple", "", "Ünï  codé, it's 3 o'clock!", "an apple on a table, " * 12, "x" * 400]


def card(tmp_path: Path, make: Callable[..., Any], **changes: Any) -> ModelCard:
    folder = tmp_path / "model"
    make().save_pretrained(folder)
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(f'[[models]]\nid = "it"\nsource = "{folder}"\n')
    return load_catalogue(catalogue).models["it"].model_copy(update=changes)


@pytest.mark.parametrize("make", [pipelines.lcm, pipelines.sdxl])
def test_clip_reads_a_long_prompt_in_as_many_pieces_as_is_told(
    tmp_path: Path, make: Callable[..., Any]
) -> None:
    it = card(tmp_path, make)
    told = readings(it, PROMPTS)
    assert told is not None
    assert [one.pieces for one in told] == load(it.source).encode(PROMPTS).read["prompt_pieces"]
    assert {one.at_once for one in told} == {75}
    assert [one.pieces > 1 for one in told] == [one.tokens > 75 for one in told]
    assert told[3].pieces > 1
    assert all(one.cut is None for one in told)


@pytest.mark.parametrize("make", [pipelines.sd3, pipelines.flux, pipelines.pixart, pipelines.sana])
def test_what_is_cut_is_what_the_worker_warns_of(tmp_path: Path, make: Callable[..., Any]) -> None:
    it = card(tmp_path, make)
    prompts = [*PROMPTS, "apple table " * 60]
    told = readings(it, prompts)
    assert told is not None
    model = load(it.source)
    for prompt, one in zip(prompts, told, strict=True):
        warnings = model.encode([prompt]).warnings
        assert (one.cut is not None) == bool(warnings)
        if one.cut:
            assert one.cut.replace(" ", "").lower() in warnings[0].replace(" ", "")
    assert told[-1].cut is not None


def test_without_its_t5_clip_counts(tmp_path: Path) -> None:
    it = card(tmp_path, lambda: pipelines.sd3(with_t5=False))
    told = readings(it, ["x" * 100])
    assert told == [Reading(tokens=100, at_once=75, cut="x" * 25)]
    assert "cut" in load(it.source).encode(["x" * 100]).warnings[0]


def test_a_folder_without_tokenizer_json_is_read_by_its_two_files(tmp_path: Path) -> None:
    folder = ROOT / "models" / "emoji" / "tokenizer"
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocab.write_text(json.dumps(model["vocab"]))
    merges.write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]))
    ours, theirs = clip_tokenizer(str(vocab), str(merges)), transformers.CLIPTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        assert ours.encode(prompt).ids == theirs(prompt, verbose=False).input_ids


def test_the_analytic_model_reads_words() -> None:
    told = readings(ModelCard(id="toy", source="toy"), ["high", "word " * 75 + "and more"])
    assert told == [Reading(tokens=1, at_once=75), Reading(tokens=77, at_once=75, cut="and more")]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "nobody/nothing", "pipeline": "FluxPipeline"},
        {"source": "nobody/nothing", "pipeline": "DDPMPipeline"},
        {"options": {"weighting": "compel"}},
    ],
)
def test_nothing_is_told_where_nothing_is_known(changes: dict[str, Any]) -> None:
    emoji = load_catalogue().models["emoji"]
    assert readings(emoji, ["a"]) is not None
    assert readings(emoji.model_copy(update=changes), ["a"]) is None
