"""An analytic model: every latent element is an independent 1-D Gaussian mixture with exact scores.

Its answers are closed forms, so whatever a sampler or a guidance method does on it can be checked exactly;
and it decodes to a small picture, so that the whole service runs on it without weights.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from guidance.asks import Cond, Level, Network
from samplers.cards import Family
from samplers.models.base import Encoded
from samplers.pieces import WORDS_MAX

WEIGHTS: dict[str, tuple[float, ...]] = {
    "": (0.5, 0.3, 0.2),
    "low": (0.7, 0.2, 0.1),
    "middle": (0.1, 0.8, 0.1),
    "high": (0.05, 0.15, 0.80),
}
"""Named conditions: the weights of the mixture's components. Other prompts get weights from their hash."""

SCHEDULERS: dict[Family, dict[str, Any]] = {
    "vp": {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
        "prediction_type": "epsilon",
    },
    "flow": {"num_train_timesteps": 1000, "shift": 3.0},
    "ve": {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0},
}


class Toy:
    """The mixture `sum_k w_k N(m_k, S^2)` per element; a condition is its weights w.

    `alphas_cumprod`: where given, the network is one trained on that grid: it answers eps at its own level
    for `timestep`, and `denoised` is formed with the sampler's alpha and sigma, as for any eps network whose
    sampler indexes alpha differently. `delay_s`: time that each denoiser call takes besides.
    The weak network is a broader mixture (S times 1.6, weights halfway to uniform).
    """

    extras = frozenset({"weak", "classifier", "grad"})
    weights_bytes = 0

    def __init__(
        self,
        name: str = "toy",
        family: Family = "vp",
        dtype: str = "float32",
        device: str = "cpu",
        means: Sequence[float] = (-1.0, 0.2, 1.3),
        std: float = 0.35,
        weights: Mapping[str, Sequence[float]] = WEIGHTS,
        alphas_cumprod: Tensor | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        size_px: int = 64,
        channels: int = 3,
        delay_s: float = 0.0,
    ) -> None:
        self.name = name
        self.family: Family = family
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = torch.device(device)
        self.scheduler_config = dict(SCHEDULERS[family] if scheduler_config is None else scheduler_config)
        self.factor = 8
        self.default_size = (size_px, size_px)
        self.weights = {key: tuple(value) for key, value in weights.items()}
        self._means = torch.tensor(means, dtype=self.dtype, device=self.device)
        self._std = std
        self._abar = alphas_cumprod
        self._channels = channels
        self._delay_s = delay_s

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w); sizes are multiples of `factor`."""
        if width < 1 or height < 1 or width % self.factor or height % self.factor:
            raise ValueError(f"width and height must be multiples of {self.factor}, not {width}x{height}")
        return self._channels, height // self.factor, width // self.factor

    def schedule_config(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """The same for all sizes."""
        return self.scheduler_config

    def encode(self, prompts: Sequence[str], clip_skip: int | None = None) -> Encoded:
        """A named condition per prompt; a prompt of more than 75 words is cut, with a warning."""
        conds: list[Cond] = []
        warnings: list[str] = []
        for prompt in prompts:
            words = prompt.split()
            if len(words) > WORDS_MAX:
                cut = " ".join(words[WORDS_MAX:])
                warnings.append(f"the prompt is longer than {WORDS_MAX} words; this part was cut: {cut!r}")
                prompt = " ".join(words[:WORDS_MAX])
            conds.append(self.cond(prompt))
        return Encoded(conds, warnings)

    def cond(self, prompt: str) -> Cond:
        """The condition of this name, or one made from the prompt's hash."""
        if prompt in self.weights:
            return Cond(prompt, self.weights[prompt])
        digest = hashlib.sha256(prompt.encode()).digest()
        raw = [1.0 + byte for byte in digest[: len(self._means)]]
        return Cond(prompt, tuple(value / sum(raw) for value in raw))

    def denoise(
        self,
        x_t: Tensor,
        levels: Sequence[Level],
        conds: Sequence[Cond],
        network: Network = "main",
        grad: bool = False,
    ) -> Tensor:
        """The posterior mean of x0, exact, one level and one condition per row."""
        if self._delay_s:
            time.sleep(self._delay_s)
        x = x_t.to(self.dtype)
        alpha, sigma = self._column(level.alpha for level in levels), self._column(lv.sigma for lv in levels)
        if self._abar is None:
            return self._posterior_mean(x, alpha, sigma, conds, network).to(x_t.dtype)
        kept = self._column(float(self._abar[int(level.timestep)]) for level in levels)
        a, s = kept.sqrt(), (1 - kept).sqrt()
        eps = (x - a * self._posterior_mean(x, a, s, conds, network)) / s
        return ((x - sigma * eps) / alpha).to(x_t.dtype)

    def decode(self, latents: Tensor, grad: bool = False) -> Tensor:
        """`tanh` of the first three channels, each cell a square of `factor` pixels."""
        return torch.tanh(functional.interpolate(latents[:, :3], scale_factor=self.factor, mode="nearest"))

    def encode_images(self, images: Tensor) -> Tensor:
        """What `decode` shows as these pictures: their cells' `atanh`. For three channels only."""
        if self._channels != 3:
            raise ValueError(f"a picture has three channels; this model has {self._channels}")
        return self._cells(images.to(self.dtype)).to(images.dtype)

    def classify(
        self,
        images: Tensor,
        labels: Sequence[Cond] = (),
        level: Level | None = None,
        grad: bool = False,
        softplus: float | None = None,
    ) -> Tensor:
        """`log p(x | label)` of the three visible channels, up to a constant: exact Bayes logits.

        Without `labels`: all named conditions except the empty one, in their order.
        """
        labels = labels or [self.cond(name) for name in self.weights if name]
        x = self._cells(images.to(self.dtype))
        one, zero = self._column([1.0]), self._column([0.0])
        alpha, sigma = (one, zero) if level is None else (level.alpha * one, level.sigma * one)
        columns = [
            self._log_components(x, alpha, sigma, [label], "main").logsumexp(-1).flatten(1).sum(1)
            for label in labels
        ]
        return torch.stack(columns, 1).to(images.dtype)

    def perceive(self, images: Tensor, grad: bool = False) -> list[Tensor]:
        """The mean colours of the cells."""
        with torch.set_grad_enabled(grad):
            return [functional.avg_pool2d(images, self.factor)]

    def log_density(self, x_t: Tensor, level: Level, cond: Cond) -> Tensor:
        """`log p(x_t | cond)` per element at `level`, without the Gaussian's constant."""
        alpha, sigma = self._column([level.alpha]), self._column([level.sigma])
        parts = self._log_components(x_t.to(self.dtype), alpha, sigma, [cond], "main")
        return parts.logsumexp(-1) - 0.5 * ((alpha * self._std) ** 2 + sigma**2).log()

    def _posterior_mean(
        self, x: Tensor, alpha: Tensor, sigma: Tensor, conds: Sequence[Cond], network: Network
    ) -> Tensor:
        share = torch.softmax(self._log_components(x, alpha, sigma, conds, network), -1)
        spread = self._spread(network) ** 2
        gain = alpha * spread / (alpha**2 * spread + sigma**2)
        mean = (share * self._means).sum(-1)
        return mean + gain * (x - alpha * mean)

    def _log_components(
        self, x: Tensor, alpha: Tensor, sigma: Tensor, conds: Sequence[Cond], network: Network
    ) -> Tensor:
        """`log w_k - (x - alpha m_k)^2 / (2 v)` with v = alpha^2 S^2 + sigma^2; components last."""
        weights = torch.tensor([cond.data for cond in conds], dtype=self.dtype, device=x.device)
        if network == "weak":
            weights = (weights + 1 / weights.shape[1]) / 2
        v = (alpha * self._spread(network)) ** 2 + sigma**2
        far = (x.unsqueeze(-1) - alpha.unsqueeze(-1) * self._means) ** 2
        return weights.log().view(len(conds), 1, 1, 1, -1) - far / (2 * v).unsqueeze(-1)

    def _cells(self, images: Tensor) -> Tensor:
        return torch.atanh(functional.avg_pool2d(images, self.factor).clamp(-1 + 1e-6, 1 - 1e-6))

    def _spread(self, network: Network) -> float:
        return self._std * (1.6 if network == "weak" else 1.0)

    def _column(self, values: Any) -> Tensor:
        return torch.tensor(list(values), dtype=self.dtype, device=self.device).view(-1, 1, 1, 1)
