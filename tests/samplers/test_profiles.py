from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from guidance.asks import Level
from guidance.cfg import CFG
from samplers.driver import sample
from samplers.models import load
from samplers.models.profiles import accelerate, unavailable
from samplers.models.sd import StableDiffusion

LEVELS = [Level(0.8, 0.6, 300.0), Level(0.6, 0.8, 700.0)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_network_says_the_same_whatever_rows_it_has(tiny_sd: Path) -> None:
    """With a backend that traces and generates no code: what breaks tracing would break here too."""
    torch._dynamo.reset()
    plain, compiled = (load(tiny_sd) for _ in range(2))
    assert isinstance(compiled, StableDiffusion)
    compiled.accelerate("compiled", backend="eager")
    short, long = plain.encode(["a red apple", "pear " * 90]).conds
    x = torch.randn(3, *plain.latent_shape(16, 16))
    for conds in ([short, short, long], [short] * 3):
        rows = len(conds)
        levels = (LEVELS * 2)[:rows]
        got, wanted = (one.denoise(x[:rows], levels, conds) for one in (compiled, plain))
        assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor imports what torch itself deprecates
def test_compiled_kernels_make_the_same_picture(tiny_sd: Path) -> None:
    torch._dynamo.reset()
    asked: dict[str, Any] = {"guidance": CFG(scale=3), "steps": 3, "seeds": [1], "width": 16, "height": 16}
    plain = sample(load(tiny_sd), "a red apple", **asked)
    compiled = sample(load(tiny_sd, profile="compiled"), "a red apple", **asked)
    assert torch.allclose(compiled.latents, plain.latents, rtol=1e-4, atol=1e-4)


def test_like_blocks_are_compiled_once_and_graphs_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, dict[str, Any]]] = []

    class FluxNet:
        device = torch.device("cpu")
        _repeated_blocks = ("Block",)

        def compile(self, **options: Any) -> None:
            called.append(("whole", options))

        def compile_repeated_blocks(self, **options: Any) -> None:
            called.append(("blocks", options))

    class SomeUNet(FluxNet):
        pass

    monkeypatch.setattr("samplers.models.profiles.unavailable", lambda *_: None)
    for net, profile in (
        (FluxNet, "compiled"),
        (SomeUNet, "compiled"),
        (FluxNet, "graphs"),
        (FluxNet, "eager"),
    ):
        accelerate(net(), profile, backend="b")  # type: ignore[arg-type]
    assert called == [
        ("blocks", {"backend": "b"}),
        ("whole", {"backend": "b"}),
        ("whole", {"mode": "reduce-overhead", "backend": "b"}),
    ]


def test_what_the_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unavailable("graphs", "cuda:1") is None
    assert unavailable("eager", "cpu") is None
    with pytest.raises(ValueError, match="the device is cpu; use eager or compiled"):
        accelerate(SimpleNamespace(device=torch.device("cpu")), "graphs")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "install g++" in (unavailable("compiled", "cpu") or "")
