"""A tiny random network on the toy's conditions: its rounding depends on the batch, as a real one's does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guidance.asks import Cond, Conditions, Level, Network
from guidance.base import Guidance
from samplers.loop import Run, batch, run
from samplers.models.base import Model
from samplers.models.toy import Toy
from samplers.noise import Noise
from samplers.steps import compile_plan


class Tiny(Toy):
    """Two convolutions around a dense layer; `calls` holds the row count of each forward."""

    def __init__(self, name: str = "tiny") -> None:
        super().__init__(name, channels=4)
        self.calls: list[int] = []
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv2d(8, 48, 3, padding=1), nn.GELU(), nn.Conv2d(48, 48, 3, padding=1), nn.GELU(),
                nn.Flatten(), nn.Linear(48 * 16, 256), nn.GELU(),
                nn.Linear(256, 64), nn.Unflatten(1, (4, 4, 4)),
            ).requires_grad_(False)  # fmt: skip

    def denoise(
        self,
        x_t: Tensor,
        levels: Sequence[Level],
        conds: Sequence[Cond],
        network: Network = "main",
        grad: bool = False,
    ) -> Tensor:
        self.calls.append(len(x_t))
        rows = zip(conds, levels, strict=True)
        told = torch.tensor([(*cond.data, level.timestep / 1000) for cond, level in rows])
        told = told[:, :, None, None].expand(-1, -1, *x_t.shape[2:])
        out = self.net(torch.cat((x_t, told), 1))
        return 0.5 * x_t + out


def image(
    model: Model,
    guidance: Guidance,
    seed: int = 0,
    sampler: str = "ddim",
    steps: int = 6,
    prompt: str = "high",
    size_px: int = 32,
) -> Run:
    """A run of one image."""
    encoded = model.encode([prompt, ""])
    return run(
        compile_plan(sampler, steps, model.family, model.scheduler_config),
        guidance,
        Conditions(*encoded.conds),
        Noise(seed, model.latent_shape(size_px, size_px), batch(guidance)),
    )
