"""The DiT adapter against the unmodified DiTPipeline on the same weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from guidance.autoguidance import Autoguidance
from guidance.cfg import CFG
from samplers import load, sample
from samplers.models import adapter
from samplers.models.base import Model
from tests.pipelines import LABELS, build


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return build("dit")


@pytest.fixture(scope="module")
def model(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("dit")
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"id2label": LABELS}))  # as facebook's has it
    weak = build("dit").transformer
    weak.transformer_blocks[1].attn1.to_out[0].weight.mul_(0.5)
    weak.save_pretrained(folder / "transformer_weak")
    return load(folder)


@pytest.mark.parametrize("prompt", ["goldfish", "1"])
def test_pictures_are_the_pipelines(model: Model, pipeline: Any, prompt: str) -> None:
    theirs = pipeline(
        class_labels=[1],
        guidance_scale=4.0,
        num_inference_steps=6,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    ours = sample(model, prompt, guidance=CFG(scale=4), sampler="ddim", steps=6, seeds=[3])
    torch.testing.assert_close(model.decode(ours.latents) / 2 + 0.5, theirs, rtol=0, atol=1e-4)


def test_autoguidance_takes_the_network_in_transformer_weak(model: Model) -> None:
    done = sample(model, "tench", guidance=Autoguidance(scale=2), sampler="ddim", steps=3)
    assert [(nfe.model, nfe.weak) for nfe in done.nfe] == [(3, 3)]
    plain = sample(model, "tench", guidance=Autoguidance(scale=1), sampler="ddim", steps=3)
    assert np.abs(np.asarray(done.latents - plain.latents)).max() > 1e-5


def test_a_classifier_reads_the_names_of_a_numbered_class(pipeline: Any) -> None:
    model = adapter("DiTPipeline")("dit", pipeline)
    assert [cond.text for cond in model.encode(["0", "goldfish", ""]).conds] == [
        "Tinca tinca, tench", "goldfish", "",
    ]  # fmt: skip


def test_names_and_numbers_of_a_class_are_one_condition(pipeline: Any) -> None:
    model = adapter("DiTPipeline")("dit", pipeline)
    conds = model.encode(["goldfish", " 1 ", "Tinca tinca", "white shark", ""]).conds
    assert [int(cond.data) for cond in conds] == [1, 1, 0, 2, 1000]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("goldfisch", "no class 'goldfisch'; did you mean 'goldfish'"),
        ("1000", "its number below 1000; there is no class '1000'"),
        ("a red apple", "there is no class 'a red apple'"),
    ],
)
def test_what_is_no_class_is_refused(pipeline: Any, prompt: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapter("DiTPipeline")("dit", pipeline).encode([prompt])
