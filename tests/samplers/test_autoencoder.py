from typing import Any

import pytest
import torch

from samplers.models import autoencoder
from samplers.models.autoencoder import Autoencoder
from tests.pipelines import kl


class Counted:
    """A decoder that notes how large a piece it is given."""

    def __init__(self, vae: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        inner = vae.decoder.forward

        def forward(z: torch.Tensor, *rest: Any) -> torch.Tensor:
            self.shapes.append(tuple(z.shape))
            return inner(z, *rest)

        vae.decoder.forward = forward


@pytest.fixture
def vae() -> Any:
    torch.manual_seed(0)
    return kl().eval().requires_grad_(False)


def test_many_latents_are_decoded_a_few_at_a_time(vae: Any) -> None:
    latents, seen = torch.randn(6, 4, 8, 8), Counted(vae)
    images = Autoencoder(vae).decode(latents)
    assert [shape[0] for shape in seen.shapes] == [4, 2]
    assert torch.allclose(images[5:], Autoencoder(vae).decode(latents[5:]), atol=1e-5)


def test_large_pictures_are_decoded_in_tiles_and_others_whole(
    vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Counted(vae)
    whole = Autoencoder(vae).decode(torch.randn(1, 4, 32, 32))
    assert [shape[2:] for shape in seen.shapes] == [(32, 32)]
    monkeypatch.setattr(autoencoder, "TILE_PX", 16 * Autoencoder(vae).cell_px)
    seen.shapes.clear()
    tiled = Autoencoder(vae).decode(torch.randn(1, 4, 32, 32))
    assert tiled.shape == whole.shape
    assert max(shape[2] for shape in seen.shapes) == 16
    seen.shapes.clear()
    Autoencoder(vae).decode(torch.randn(1, 4, 16, 16))
    assert [shape[2:] for shape in seen.shapes] == [(16, 16)]
