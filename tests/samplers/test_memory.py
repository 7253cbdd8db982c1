"""What a gradient through a network costs in memory, and the precision of what is differentiated."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from guidance.qr.scanning import Target
from guidance.qr.symbol import encode
from guidance.srpg import SRPG, gradient, look
from samplers.models import adapter
from samplers.steps import compile_plan
from tests.analytic import Answerer
from tests.pipelines import build


def loaded(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    pipeline = build("sdxl").to(dtype)
    for part in (pipeline.unet, pipeline.vae):
        part.requires_grad_(False)
    return adapter(type(pipeline).__name__)("tiny", pipeline)


def differentiated(model: Any) -> tuple[torch.Tensor, int]:
    """The gradient of a picture at x_t, and the bytes kept for it."""
    kept: dict[int, int] = {}

    def pack(one: torch.Tensor) -> torch.Tensor:
        storage = one.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return one

    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    config = model.schedule_config((4, 16, 16))
    levels = compile_plan("ddim", 4, model.family, config).levels[1:2]
    conds = model.encode(["a red apple"]).conds
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        picture = model.decode(model.denoise(x, levels, conds, grad=True), grad=True)
    (found,) = torch.autograd.grad(picture.square().sum(), x)
    return found, sum(kept.values())


def test_large_pictures_keep_little_for_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded()
    plain, much = differentiated(model)
    monkeypatch.setattr("samplers.models.memory.CHECKPOINT_FROM_PX", 32 * 32)
    same, little = differentiated(model)
    assert little < much / 3
    assert torch.allclose(plain, same, rtol=1e-4, atol=1e-6 * float(plain.abs().max()))
    monkeypatch.undo()
    assert differentiated(model)[1] == much


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_a_code_are_float32_where_the_networks_are_not(dtype: torch.dtype) -> None:
    model = loaded(dtype)
    target = Target(encode("PARITY", 1), 2 * model.factor // 2)
    side = target.canvas_px // 2
    z = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(2)).requires_grad_()
    seen, _, images = Answerer(model=model).finish(look(z, target, SRPG()))
    assert (images.dtype, seen.loss.dtype, seen.error.dtype) == (torch.float32,) * 3
    g = gradient(seen.loss.sum(), z)
    assert g.dtype == torch.float32
    assert bool(torch.isfinite(g).all())
    assert float((g != 0).float().mean()) > 0.1
