import importlib
import json
import pkgutil
import shutil
import sys
from hashlib import sha256
from math import isfinite, sqrt
from pathlib import Path
from string import ascii_lowercase
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

import workers.metrics
from app.scores import METRIC_CARDS, QR_SCORES, SCORES
from workers.metrics import Pixels, measure
from workers.metrics.basic import score


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model with random weights, as a model's folder brings one along."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPTextConfig,
        CLIPTokenizer,
        CLIPVisionConfig,
    )

    folder = tmp_path_factory.mktemp("model") / "scorer"
    tokens = [
        "<|startoftext|>",
        "<|endoftext|>",
        *ascii_lowercase,
        *(f"{one}</w>" for one in ascii_lowercase),
    ]
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2,
                            "num_hidden_layers": 1, "projection_dim": 8}  # fmt: skip
    words = CLIPTextConfig(vocab_size=len(tokens), bos_token_id=0, eos_token_id=1, pad_token_id=1, **size)
    sight = CLIPVisionConfig(image_size=16, patch_size=8, **size)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = CLIPConfig(text_config=words.to_dict(), vision_config=sight.to_dict(), projection_dim=8)
        CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    CLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False).save_pretrained(folder)
    return folder


def test_clip_tells_which_model_it_was_and_does_not_guess_without_one(scorer: Path, tmp_path: Path) -> None:
    found = measure(["clip"], plain(200, 50, 100), "a red apple", {"clip": scorer})
    assert -1 <= found.scores["clip"] <= 1
    assert found.scores != measure(["clip"], plain(200, 50, 100), "a blue dog", {"clip": scorer}).scores
    weights = (scorer / "model.safetensors").read_bytes()
    assert found.scorers["clip"].sha256 == sha256(weights).hexdigest()
    assert found.scorers["clip"].name == f"{scorer.parent.name}/scorer"
    missing = measure(["basic", "clip"], plain(1, 2, 3), "a red apple", {"clip": tmp_path})
    assert "clip" not in missing.scores
    assert "saturation" in missing.scores
    (warning,) = missing.warnings
    assert "unavailable: weights not installed" in warning


def test_a_model_and_its_metric_have_one_clip(scorer: Path) -> None:
    from samplers.models.judge import Scorer
    from samplers.models.parts import load_clip
    from workers.metrics.clip import loaded

    assert Scorer(scorer, "cpu")._network is loaded(scorer).model is load_clip(str(scorer), "cpu")


@pytest.fixture(scope="module")
def folders(scorer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of every metric's model, tiny ones; ImageReward's package is one of this test."""
    import torch
    from safetensors.torch import save_file

    place = tmp_path_factory.mktemp("scorers")
    found = {"clip": scorer, **{name: place / name for name in ("aesthetic", "imagereward", "hps")}}
    shutil.copytree(scorer, found["hps"])
    shutil.copytree(scorer, found["aesthetic"])
    head = {"layers.0.weight": torch.arange(32.0).reshape(4, 8) / 32, "layers.0.bias": torch.ones(4)}
    head |= {"layers.10.weight": torch.tensor([[1.0, -2.0]]), "layers.10.bias": torch.tensor([5.0])}
    head |= {"layers.2.weight": torch.ones(2, 4), "layers.2.bias": torch.tensor([0.0, 1.0])}
    save_file(head, found["aesthetic"] / "head.safetensors")
    found["imagereward"].mkdir()
    torch.save({"bias": torch.tensor([0.25])}, found["imagereward"] / "ImageReward.pt")
    (found["imagereward"] / "med_config.json").write_text("{}")
    found["lpips"] = place / "lpips"
    found["lpips"].mkdir()
    network, head = alexnet()
    torch.save(network, found["lpips"] / "alexnet-owt-7be5be79.pth")
    torch.save(head, found["lpips"] / "alex.pth")
    return found


def alexnet() -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights by chance in the shapes of AlexNet and of LPIPS' linear layers."""
    import torch

    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    chance = torch.Generator().manual_seed(0)
    network, head = dict[str, Any](), dict[str, Any]()
    for number, (layer, (out, into, side)) in enumerate(shapes.items()):
        deviation = (2 / (into * side**2)) ** 0.5
        weight = torch.randn(out, into, side, side, generator=chance) * deviation
        network |= {f"features.{layer}.weight": weight, f"features.{layer}.bias": torch.zeros(out)}
        head[f"lin{number}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=chance)
    return network, head


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of `image-reward`: its score is how long the prompt is, and its one weight."""
    import torch

    class ImageReward(torch.nn.Module):
        def __init__(self, med_config: str, device: str) -> None:
            super().__init__()
            assert json.loads(Path(med_config).read_text()) == {}
            self.bias = torch.nn.Parameter(torch.zeros(1))

        def score(self, prompt: str, image: Image.Image) -> float:
            assert image.size == (24, 16)
            return len(prompt) + self.bias.item()

    module = SimpleNamespace(ImageReward=ImageReward)
    monkeypatch.setitem(sys.modules, "ImageReward", SimpleNamespace(ImageReward=module))
    monkeypatch.setitem(sys.modules, "ImageReward.ImageReward", module)


NOISE = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)


def test_the_aesthetic_head_is_applied_to_the_unit_embedding(folders: dict[str, Path]) -> None:
    from transformers import CLIPImageProcessorPil, CLIPModel

    found = measure(["aesthetic"], NOISE, "", folders)
    network = CLIPModel.from_pretrained(folders["clip"]).eval()
    inputs = CLIPImageProcessorPil.from_pretrained(folders["clip"])(
        [Image.fromarray(NOISE)], return_tensors="pt"
    )
    seen = network.visual_projection(network.vision_model(**inputs).pooler_output).detach().numpy()[0]
    hidden = (np.arange(32).reshape(4, 8) / 32) @ (seen / np.linalg.norm(seen)) + 1
    assert found.scores["aesthetic"] == pytest.approx(hidden.sum() - 2 * (hidden.sum() + 1) + 5, abs=1e-4)
    files = [folders["aesthetic"] / name for name in ("head.safetensors", "model.safetensors")]
    assert found.scorers["aesthetic"].name == f"{folders['aesthetic'].parent.name}/aesthetic"
    assert found.scorers["aesthetic"].sha256 == sha256(b"".join(map(Path.read_bytes, files))).hexdigest()


def test_hps_is_the_cosine_of_its_own_clip(folders: dict[str, Path]) -> None:
    found = measure(["clip", "hps"], NOISE, "a red apple", folders)
    assert found.scores["hps"] == found.scores["clip"]
    assert found.scorers["hps"].name == f"{folders['hps'].parent.name}/hps"


def test_imagereward_is_what_its_package_says(folders: dict[str, Path], package: None) -> None:
    found = measure(["imagereward"], NOISE, "a red apple", folders)
    assert found.scores == {"imagereward": 11.25}
    weights = (folders["imagereward"] / "ImageReward.pt").read_bytes()
    assert found.scorers["imagereward"].sha256 == sha256(weights).hexdigest()


def test_the_distance_of_lpips_features_is_lpips(folders: dict[str, Path]) -> None:
    """Against its definition, layer by layer, by modules of torch as torchvision puts them together."""
    import torch
    from torch import nn

    pictures = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8) for n in (1, 2)]
    seen = [measure(["lpips"], one, "", folders) for one in pictures]
    assert [one.scores for one in seen] == [{}, {}]
    a, b = (one.features["lpips"].astype(float) for one in seen)
    network, head = alexnet()
    layers = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    layers.load_state_dict({name.removeprefix("features."): one for name, one in network.items()})
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, total, weights = (x - shift[:, None, None]) / scale[:, None, None], 0.0, iter(head.values())
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                unit = x / x.norm(dim=1, keepdim=True)
                total += float((next(weights)[0] * (unit[0] - unit[1]) ** 2).sum(0).mean())
    assert np.square(a - b).sum() == pytest.approx(total, rel=1e-2)
    files = sorted(folders["lpips"].glob("*.pth"))
    assert seen[0].scorers["lpips"].sha256 == sha256(b"".join(map(Path.read_bytes, files))).hexdigest()


def test_clip_keeps_what_it_saw(scorer: Path) -> None:
    found = measure(["clip"], NOISE, "a red apple", {"clip": scorer})
    seen = found.features["clip"]
    assert seen.shape == (8,)
    assert np.linalg.norm(seen) == pytest.approx(1, abs=1e-6)
    other = measure(["clip"], NOISE, "a blue dog", {"clip": scorer})
    assert np.array_equal(seen, other.features["clip"])  # of the picture alone
    assert measure(["basic"], NOISE, "", {}).features == {}


@pytest.mark.parametrize("name", ["aesthetic", "imagereward", "hps", "lpips"])
def test_without_weights_a_metric_says_how_to_get_them(name: str, tmp_path: Path) -> None:
    found = measure(["basic", name], plain(1, 2, 3), "a red apple", {name: tmp_path / name})
    assert name not in found.scores
    assert name not in found.scorers
    (warning,) = found.warnings
    assert warning.startswith(f"metric {name!r} is unavailable: weights not installed: ")
    assert str(tmp_path / name) in warning


def test_without_a_head_or_the_package_nothing_is_guessed(
    scorer: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.metrics.imagereward import _load

    _load.cache_clear()
    monkeypatch.setitem(sys.modules, "ImageReward", None)
    found = measure(["aesthetic", "imagereward"], NOISE, "", folders | {"aesthetic": scorer})
    assert found.scores == {}
    headless, unpacked = found.warnings
    assert "head.safetensors" in headless
    assert "pip install image-reward" in unpacked


def plain(*colour: int) -> Pixels:
    return np.full((8, 8, 3), colour, np.uint8)


def halves(left: tuple[int, ...], right: tuple[int, ...]) -> Pixels:
    return np.concatenate([plain(*left), plain(*right)], axis=1)


def checkers(dark: int, light: int) -> Pixels:
    grid = np.where(np.indices((8, 8)).sum(axis=0) % 2, dark, light).astype(np.uint8)
    return np.repeat(grid[..., None], 3, axis=2)


def test_every_module_has_a_card_and_every_card_a_module() -> None:
    assert {module.name for module in pkgutil.iter_modules(workers.metrics.__path__)} == set(METRIC_CARDS)
    assert len(SCORES) == sum(len(card.scores) for card in METRIC_CARDS.values()) + len(QR_SCORES)


@pytest.mark.parametrize("name", METRIC_CARDS)
def test_a_metric_gives_the_scores_of_its_card(name: str, folders: dict[str, Path], package: None) -> None:
    pixels = NOISE.copy()
    before = pixels.copy()
    scores = measure([name], pixels, "a red apple", folders).scores
    assert list(scores) == [entry.name for entry in METRIC_CARDS[name].scores]
    assert all(type(value) is float and isfinite(value) for value in scores.values())
    module = importlib.import_module(f"workers.metrics.{name}")
    assert (module.look if hasattr(module, "look") else module.score).__doc__
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize(
    ("picture", "name", "value"),
    [
        (plain(0, 0, 0), "saturation", 0),
        (plain(128, 128, 128), "saturation", 0),
        (plain(200, 50, 100), "saturation", 0.75),
        (halves((255, 0, 0), (90, 90, 90)), "saturation", 0.5),
        (plain(7, 80, 200), "contrast", 0),
        (halves((0, 0, 0), (255, 255, 255)), "contrast", 0.5),
        (halves((100, 100, 100), (151, 151, 151)), "contrast", 0.1),
        (checkers(0, 200), "colourfulness", 0),
        (plain(255, 0, 0), "colourfulness", 0.3 * sqrt(255**2 + 127.5**2)),
        (halves((200, 100, 0), (100, 200, 0)), "colourfulness", 100 + 0.3 * 150),
        (plain(7, 80, 200), "sharpness", 0),
        (checkers(100, 110), "sharpness", 40**2),
        (plain(1, 254, 128), "clipped", 0),
        (halves((0, 128, 128), (9, 9, 9)), "clipped", 0.5),
        (checkers(0, 255), "clipped", 1),
    ],
)
def test_known_pictures_have_known_values(picture: Pixels, name: str, value: float) -> None:
    assert score(picture)[name] == pytest.approx(value, abs=1e-9)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=9).map(lambda s: (*s, 3))))
def test_any_picture_has_finite_scores_in_their_ranges(pixels: Pixels) -> None:
    scores = score(pixels)
    assert all(isfinite(value) for value in scores.values())
    assert 0 <= scores["saturation"] <= 1
    assert 0 <= scores["clipped"] <= 1
    assert 0 <= scores["contrast"] <= 0.5
    assert min(scores["colourfulness"], scores["sharpness"]) >= 0
