"""A folder's own classifier and scorer, on tiny random ones saved by transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from app.catalogue import load_catalogue
from guidance.classifier import Classifier as ClassifierGuidance
from guidance.gfcg import GFCG
from samplers import load, sample
from samplers.models.base import Model
from samplers.models.judge import Classifier, Judge, Scorer, Sight, load_judge
from tests.pipelines import clip_tokenizer

LABELS = ["food-fruit", "cat, feline", "heart"]
THINGS = {"food-fruit": ["red apple", "lemon"], "heart": ["heart with arrow"]}


def save_classifier(folder: Path) -> None:
    torch.manual_seed(3)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic",
        id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)},
    )  # fmt: skip
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(
        size={"shortest_edge": 24}, image_mean=[0.4] * 3, image_std=[0.6] * 3, crop_pct=0.8
    ).save_pretrained(folder)
    (folder / "things.json").write_text(json.dumps(THINGS))


def save_scorer(folder: Path) -> None:
    torch.manual_seed(4)
    tokenizer = clip_tokenizer()
    words = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=words | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1},
        vision_config=words | {"image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}, image_std=[0.3, 0.4, 0.5]
    )
    transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with both."""
    folder = tmp_path_factory.mktemp("judged") / "model"
    shutil.copytree(tiny_sd, folder)
    save_classifier(folder / "classifier")
    save_scorer(folder / "scorer")
    return folder


@pytest.fixture(scope="module")
def judge(folder: Path) -> Judge:
    found = load_judge(str(folder), "cpu")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder, device="cpu")


def picture() -> tuple[Image.Image, torch.Tensor]:
    """One of 30 x 40, as a file has it and as a model decodes it."""
    pixels = np.asarray(Image.radial_gradient("L").resize((30, 40)).convert("RGB")).copy()
    pixels[..., 0] //= 2  # smooth: they cut off where scaling overshoots, which would cost the gradient
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    return Image.fromarray(pixels), tensor


@pytest.mark.parametrize("part", ["classifier", "scorer"])
def test_pictures_are_prepared_as_transformers_does(folder: Path, part: str) -> None:
    image, tensor = picture()
    kind = {
        "classifier": transformers.ConvNextImageProcessorPil,
        "scorer": transformers.CLIPImageProcessorPil,
    }
    theirs = kind[part].from_pretrained(folder / part)(image, return_tensors="pt")["pixel_values"]
    ours = Sight(folder / part)(tensor)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 0.02, "they round to bytes between scaling and normalising"


def test_clips_logits_are_those_of_transformers(folder: Path) -> None:
    texts = ("a red apple", "a cat")
    network = transformers.CLIPModel.from_pretrained(folder / "scorer").eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(folder / "scorer")(
        list(texts), padding="max_length", max_length=77, return_tensors="pt"
    )
    _, tensor = picture()
    with torch.no_grad():
        pixels = Sight(folder / "scorer")(tensor)
        theirs = network(pixel_values=pixels, **tokens).logits_per_image
        assert torch.allclose(Scorer(folder / "scorer", "cpu").logits(tensor, texts), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("food-fruit", 0),
        ("a red apple, 3d", 0),
        ("A LEMON on a blue background", 0),
        ("lemonade", None),
        ("a cat, flat", 1),
        ("feline", 1),
        ("a heart with arrow", 2),
        ("a cat and a lemon", 0),
        ("a robot", None),
    ],
)
def test_a_text_names_the_class_with_the_longest_of_its_words(
    folder: Path, text: str, names: int | None
) -> None:
    assert Classifier(folder / "classifier", "cpu").column(text) == names


def test_the_classifier_judges_what_it_tells_apart_and_clip_the_rest(folder: Path, judge: Judge) -> None:
    _, tensor = picture()
    own = Classifier(folder / "classifier", "cpu")
    scorer = Scorer(folder / "scorer", "cpu")
    with torch.no_grad():
        everything = own.logits(tensor)
        assert torch.equal(judge.logits(tensor, []), everything)
        assert torch.equal(judge.logits(tensor, ["a heart", "a lemon"]), everything[:, [2, 0]])
        for labels in (["a red apple", "a lemon"], ["a robot", "a cat"]):
            assert torch.equal(judge.logits(tensor, labels), scorer.logits(tensor, labels))
    alone = Judge(own, None)
    with pytest.raises(ValueError, match=r"cannot tell these classes apart: a robot, a cat; .*food-fruit"):
        alone.logits(tensor, ["a robot", "a cat"])
    with pytest.raises(ValueError, match="none given"):
        Judge(None, scorer).logits(tensor, [])


@pytest.mark.parametrize("labels", [["a heart", "a lemon"], ["a red apple", "a lemon"]])
def test_the_gradient_agrees_with_differences(judge: Judge, labels: list[str]) -> None:
    _, tensor = picture()
    at = tensor.double().float().requires_grad_()
    (slope,) = torch.autograd.grad(judge.logits(at, labels, grad=True)[0, 0], at)
    way = slope / slope.norm()
    ahead, behind = (judge.logits(tensor + step * way, labels)[0, 0] for step in (1e-2, -1e-2))
    assert float((ahead - behind) / 2e-2) == pytest.approx(float(slope.norm()), rel=0.05)
    assert not judge.logits(at, labels).requires_grad


@pytest.mark.parametrize("classes", [["a heart", "a cat"], ["a robot"]])
@pytest.mark.parametrize(
    "guidance",
    [
        GFCG(strength=2),
        GFCG(mode="autoguidance", switch_above=0.1),
        ClassifierGuidance(scale=50),
        ClassifierGuidance(scale=50, gradient="x_t"),
    ],
)
def test_methods_that_need_a_classifier_run_on_it(
    model: Model, guidance: GFCG | ClassifierGuidance, classes: list[str]
) -> None:
    done = sample(model, "a red apple", classes=classes, guidance=guidance, steps=3, seeds=[1, 2])
    alone = sample(model, "a red apple", classes=classes, guidance=guidance, steps=3, seeds=[2])
    assert done.nfe[0].classifier == done.nfe[0].decode == 3
    assert torch.allclose(done.latents[1:], alone.latents, atol=1e-4)
    plain = sample(model, "a red apple", guidance=GFCG(strength=0), classes=classes, steps=3, seeds=[2])
    assert not torch.allclose(alone.latents, plain.latents, atol=1e-4)


def test_the_folder_says_that_there_is_one(folder: Path, tiny_sd: Path, tmp_path: Path) -> None:
    entry = '[[models]]\nid = "{}"\nsource = "{}"\n'
    (tmp_path / "models.toml").write_text(entry.format("with", folder) + entry.format("without", tiny_sd))
    cards = load_catalogue(tmp_path / "models.toml").models
    assert "classifier" in cards["with"].extras
    assert "classifier" not in cards["without"].extras
    assert "classifier" in load(folder, device="cpu").extras
    bare = load(tiny_sd, device="cpu")
    assert "classifier" not in bare.extras
    with pytest.raises(ValueError, match="put one in its classifier folder"):
        bare.classify(torch.zeros(1, 3, 16, 16), bare.encode(["a"]).conds)
