"""Prompts with weights, read by compel on tiny encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from app.catalogue import load_catalogue
from guidance.cfg import CFG
from samplers import load, sample
from samplers.models.base import Model
from tests.pipelines import build


@pytest.fixture(scope="module", params=["lcm", "sdxl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighted") / request.param
    build(request.param).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder, name="it", dtype="float32", device="cpu", weighting="compel")


def parts(cond: Any) -> tuple[torch.Tensor, ...]:
    return cond.data if isinstance(cond.data, tuple) else (cond.data,)


def test_without_weights_an_embedding_is_the_pipelines(model: Model, folder: Path) -> None:
    plain = load(folder, name="it", dtype="float32", device="cpu")
    for prompt in ("a red apple", ""):
        (ours,), (theirs,) = model.encode([prompt]).conds, plain.encode([prompt]).conds
        for mine, other in zip(parts(ours), parts(theirs), strict=True):
            torch.testing.assert_close(mine, other)
    assert model.encode(["a"]).read == {"weighting": "compel"}
    assert plain.encode(["a"]).read == {}


def test_a_weight_moves_the_embedding_along_its_word(model: Model) -> None:
    prompts = ["a red apple", "a (red)1.0 apple", "a (red)1.2 apple", "a (red)1.4 apple"]
    plain, one, more, most = (parts(cond)[0] for cond in model.encode(prompts).conds)
    torch.testing.assert_close(plain, one)
    assert 0 < float((more - plain).norm()) < float((most - plain).norm())


def test_a_long_prompt_shares_a_forward_with_a_short_one(model: Model) -> None:
    made = sample(
        model, "a (red)1.3 apple, " * 12, guidance=CFG(scale=3), steps=2, seeds=[1], width=16, height=16
    )
    assert bool(made.latents.isfinite().all())


def test_layers_of_clip_are_not_left_out_by_compel(model: Model, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no clip_skip; leave it out"):
        model.encode(["a"], clip_skip=1)
    with pytest.raises(ValueError, match="has no clip_skip; leave it out"):
        load(folder, device="cpu", weighting="compel", clip_skip=1)
    options = 'options = { weighting = "compel" }'
    (tmp_path / "models.toml").write_text(f'[[models]]\nid = "it"\nsource = "{folder}"\n{options}\n')
    assert load_catalogue(tmp_path / "models.toml").default.extras == model.extras


@pytest.mark.parametrize(
    ("pipeline", "weighting"), [("FluxPipeline", "compel"), ("StableDiffusionPipeline", "a1111")]
)
def test_an_entry_that_cannot_be_weighted_is_refused(tmp_path: Path, pipeline: str, weighting: str) -> None:
    (tmp_path / "models.toml").write_text(
        f'[[models]]\nid = "it"\nsource = "a/b"\npipeline = "{pipeline}"\n'
        f'options = {{ weighting = "{weighting}" }}\n'
    )
    with pytest.raises(ValueError, match="for Stable Diffusion 1, 2 and XL only"):
        load_catalogue(tmp_path / "models.toml")
