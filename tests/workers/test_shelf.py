from pathlib import Path

import pytest
from huggingface_hub import constants

from app.catalogue import Catalogue, ModelCard
from app.settings import Settings
from workers.shelf import ModelUnavailable, Shelf


@pytest.fixture
def shelf() -> Shelf:
    cards = [ModelCard(id="toy", source="toy"), ModelCard(id="gone", source="/nowhere/secret")]
    return Shelf(Catalogue(models={card.id: card for card in cards}), Settings(device="cpu"))


def test_a_model_is_loaded_once(shelf: Shelf) -> None:
    model, load_ms = shelf.get("toy")
    assert load_ms > 0
    assert shelf.get("toy") == (model, 0.0)
    assert shelf.loaded == {"toy": model}


def test_a_model_that_cannot_be_loaded_is_not_offered_and_says_so_without_a_path(shelf: Shelf) -> None:
    assert shelf.offered == ["toy", "gone"]
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="'gone' could not be loaded") as caught:
            shelf.get("gone")
    assert "secret" not in str(caught.value)
    assert shelf.offered == ["toy"]


def test_a_model_that_is_not_here_yet_says_how_to_get_it_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    card = ModelCard(id="far", source="owner/far")
    shelf = Shelf(Catalogue(models={"far": card}), Settings(device="cpu"))
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="get it with: lodestar models pull far"):
            shelf.get("far")
    assert shelf.offered == ["far"]


def test_the_card_decides_the_precision_unless_the_settings_do(tmp_path: Path) -> None:
    card = ModelCard(id="toy", source="toy", dtype="float16")
    catalogue = Catalogue(models={"toy": card})
    for dtype, wanted in (("auto", "float16"), ("float32", "float32")):
        model, _ = Shelf(catalogue, Settings(device="cpu", dtype=dtype)).get("toy")
        assert str(model.dtype) == f"torch.{wanted}"  # type: ignore[attr-defined]
