"""The text's keys and values that a UNet's cross-attention keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samplers import load
from samplers.models import crossed
from samplers.models.crossed import Crossed, Cut
from samplers.models.parts import diffusers
from samplers.models.sd import StableDiffusion


@pytest.fixture
def unet(tiny_sd: Path) -> Any:
    network = diffusers.UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet")
    return network.eval().requires_grad_(False)


def texts(unet: Any, many: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(77, unet.config.cross_attention_dim, generator=draw) for _ in range(many)]


def called(unet: Any, text: torch.Tensor) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(len(text), unet.config.in_channels, 8, 8, generator=draw)
    return unet(x, torch.full((len(text),), 500.0), encoder_hidden_states=text, return_dict=False)[0]


def test_kept_keys_and_values_give_what_the_text_gives(unet: Any) -> None:
    rows = texts(unet, 3)
    wanted = called(unet, torch.stack(rows))
    told = Crossed(unet).batch(["a", "b", "c"], rows)
    assert told.shape[-1] != unet.config.cross_attention_dim
    torch.testing.assert_close(called(unet, told), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(called(unet, torch.stack(rows)), wanted, rtol=0, atol=0)


def test_a_prompt_is_projected_once(unet: Any) -> None:
    kept, (first, second) = Crossed(unet), texts(unet, 2)
    calls: list[int] = []
    for layer in unet.modules():
        if isinstance(layer, Cut):
            layer.projection.register_forward_hook(lambda *_: calls.append(1))
    kept.batch(["a", "b", "a"], [first, second, first])
    once = len(calls)
    kept.batch(["b", "a"], [second, first])
    called(unet, kept.batch(["a"], [first]))
    assert once == len(calls) == 2 * sum(isinstance(layer, Cut) for layer in unet.modules())


def test_the_longest_unused_prompt_is_forgotten(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossed, "KEPT_PROMPTS", 2)
    kept, (first, second, third) = Crossed(unet), texts(unet, 3)
    for key, text in zip("abac", (first, second, first, third), strict=True):
        kept.batch([key], [text])
    assert list(kept._kept) == ["a", "c"]  # pyright: ignore[reportPrivateUsage]


def test_a_network_that_would_keep_too_much_gets_its_text(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossed, "MOST_BYTES", 1000)
    rows = texts(unet, 2)
    torch.testing.assert_close(Crossed(unet).batch(["a", "b"], rows), torch.stack(rows), rtol=0, atol=0)


def test_a_network_that_changes_its_text_first_is_left_alone(unet: Any) -> None:
    layers = [layer for layer in unet.modules() if getattr(layer, "is_cross_attention", False)]
    layers[0].norm_cross = torch.nn.LayerNorm(unet.config.cross_attention_dim)
    assert crossed.cut(unet) == []
    assert not any(isinstance(layer, Cut) for layer in unet.modules())


def test_a_network_is_cut_once(unet: Any) -> None:
    rows = texts(unet, 2)
    first, again = Crossed(unet), Crossed(unet)
    wanted = first.batch(["a", "b"], rows)
    torch.testing.assert_close(again.batch(["a", "b"], rows), wanted, rtol=0, atol=0)
    assert crossed.cut(unet)
    assert not any(isinstance(one.projection, Cut) for one in crossed.cut(unet))


def test_main_and_weak_network_do_not_share_them(tiny_sd: Path) -> None:
    model = load(tiny_sd, name="tiny", dtype="float32", device="cpu", weak=tiny_sd / "unet")
    assert isinstance(model, StableDiffusion)
    main, weak = (model._networks[name] for name in ("main", "weak"))  # pyright: ignore[reportPrivateUsage]
    (cond,) = model.encode(["a red apple, 3d"]).conds
    model._told(main, [cond], [cond.data])  # pyright: ignore[reportPrivateUsage]
    assert not model._crossed[weak]._kept  # pyright: ignore[reportPrivateUsage]
