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
    assert shelf.borrow("toy") is None
    assert shelf.load("toy") > 0
    assert shelf.load("toy") == 0.0
    assert shelf.borrow("toy") is shelf.loaded["toy"]


def test_idle_models_make_room_the_least_recently_used_first(tiny_sd: Path) -> None:
    cards = {name: ModelCard(id=name, source=str(tiny_sd)) for name in ("a", "b", "c", "d")}
    size = sum(file.stat().st_size for file in tiny_sd.rglob("*.safetensors"))
    shelf = Shelf(Catalogue(models=cards), Settings(device="cpu", model_memory_bytes=int(2.5 * size)))
    parts: list[tuple[str, int, int]] = []
    shelf.load("a", on_part=lambda *told: parts.append(told))
    assert [place for _, place, _ in parts] == list(range(5))
    assert {count for _, _, count in parts} == {5}
    shelf.load("b")
    assert shelf.borrow("a") is not None
    shelf.load("c")
    assert set(shelf.loaded) == {"a", "c"}
    shelf.give_back("a")
    shelf.load("d")
    assert set(shelf.loaded) == {"c", "d"}
    assert shelf.borrow("a") is None


def test_what_is_borrowed_stays_even_where_that_exceeds_the_budget(tiny_sd: Path) -> None:
    cards = {name: ModelCard(id=name, source=str(tiny_sd)) for name in ("a", "b")}
    shelf = Shelf(Catalogue(models=cards), Settings(device="cpu", model_memory_bytes=1))
    shelf.load("a")
    held = shelf.borrow("a")
    shelf.load("b")
    assert shelf.loaded["a"] is held
    assert "b" in shelf.loaded


def test_a_model_that_cannot_be_loaded_is_not_offered_and_says_so_without_a_path(shelf: Shelf) -> None:
    assert shelf.offered == ["toy", "gone"]
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="'gone' could not be loaded") as caught:
            shelf.load("gone")
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
            shelf.load("far")
    assert shelf.offered == ["far"]


def test_the_card_decides_the_precision_unless_the_settings_do(tmp_path: Path) -> None:
    card = ModelCard(id="toy", source="toy", dtype="float16")
    catalogue = Catalogue(models={"toy": card})
    for dtype, wanted in (("auto", "float16"), ("float32", "float32")):
        shelf = Shelf(catalogue, Settings(device="cpu", dtype=dtype))
        shelf.load("toy")
        assert str(shelf.loaded["toy"].dtype) == f"torch.{wanted}"  # type: ignore[attr-defined]
