"""What the adapters of diffusers' pipelines share. A family adds how it reads a prompt and calls its network.

`denoised` from the network's output, always in float32:

    eps:    (x_t - sigma eps) / alpha
    v:      alpha x_t - sigma v
    sample: the output itself
    flow:   x_t - sigma v, for alpha = 1 - sigma
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from guidance.asks import Cond, Level, Network
from samplers.architectures import architecture, patch_of
from samplers.cards import Family
from samplers.models.autoencoder import Autoencoder, Pixels
from samplers.models.base import Encoded
from samplers.models.judge import Judge, load_judge
from samplers.models.memory import checkpoint
from samplers.models.parts import Loading, fuse, lay_out, load_network, load_pipeline
from samplers.models.profiles import Profile, accelerate, begin
from samplers.models.prompts import Embedded, Prompts

FROM_OUTPUT: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": lambda x, out, alpha, sigma: (x - sigma * out) / alpha,
    "v_prediction": lambda x, out, alpha, sigma: alpha * x - sigma * out,
    "sample": lambda x, out, alpha, sigma: out,
    "flow": lambda x, out, alpha, sigma: x - sigma * out,
}


class PipelineModel:
    """A loaded pipeline as a `Model`. Rows are independent: each has its own timestep and condition.

    A family gives `_embed`, which makes a prompt a condition's data, and `_forward`, which calls its network.
    """

    def __init__(self, name: str, pipeline: Any, weak: Any = None) -> None:
        known = architecture(type(pipeline).__name__)
        network = getattr(pipeline, known.part)
        vae = getattr(pipeline, "vae", None)
        self.family: Family = known.family
        self.name = name
        self.device: torch.device = network.device
        self.dtype: torch.dtype = network.dtype  # read once: diffusers walks all modules for it
        self.scheduler_config: dict[str, Any] = dict(pipeline.scheduler.config)
        self.extras = known.extras | ({"weak"} if weak is not None else set())
        if network.config.get("guidance_embeds") or network.config.get("time_cond_proj_dim"):
            self.extras |= {"embedded"}
        self._pipeline = pipeline
        self._networks: dict[Network, Any] = {"main": network, "weak": weak}
        for one in filter(None, self._networks.values()):
            lay_out(one)
        self._part = known.part
        self._embedded_scale = known.embedded_scale
        self._cells_per_patch = patch_of(network.config, known.packed)
        self._autoencoder = Pixels() if vae is None else Autoencoder(vae)
        self._cell_px = self._autoencoder.cell_px
        self._profile: Profile = "eager"
        self._judge: Judge | None = None
        self._clip_skip: int | None = None
        self._prompts = Prompts(name, self._embed)
        prediction = self.scheduler_config.get("prediction_type", "epsilon")
        self._prediction = "flow" if self.family == "flow" else prediction
        if self._prediction not in FROM_OUTPUT:
            raise ValueError(f"prediction_type {self._prediction!r} is not supported")
        if self._prediction == "epsilon" and self.scheduler_config.get("rescale_betas_zero_snr"):
            raise ValueError("an epsilon network has no estimate at zero SNR; unset rescale_betas_zero_snr")

    @classmethod
    def load(
        cls,
        source: str,
        name: str,
        index: Mapping[str, Any],
        *,
        dtype: str = "float32",
        device: str = "cpu",
        revision: str | None = None,
        weak: str | Path | None = None,
        without: Collection[str] = (),
        scheduler: Mapping[str, Any] | None = None,
        loras: Sequence[Mapping[str, Any]] = (),
        clip_skip: int | None = None,
        profile: Profile = "eager",
        on_part: Loading | None = None,
    ) -> Self:
        """Load from a folder or hub id with this `model_index.json`.

        `weak`: the folder of a weaker denoiser; by default `<part>_weak` beside it. `without`: optional parts
        of the pipeline to leave out. `scheduler`: changes of the scheduler's config. `loras`: what is added
        to its weights, each with a `source` (a folder, file or hub id), a `file` in it and a `scale`.
        `clip_skip`: CLIP's last layers that are left out, as diffusers counts them. `profile`: how its
        networks are called (`samplers.models.profiles`).
        """
        part = architecture(index["_class_name"]).part
        if weak is None and (Path(source) / f"{part}_weak").is_dir():
            weak = Path(source) / f"{part}_weak"
        pipeline = load_pipeline(
            source, index, dtype=dtype, device=device, revision=revision, without=without, on_part=on_part
        )  # fmt: skip
        fuse(pipeline, loras)
        if scheduler:
            told = pipeline.scheduler.config.get("_use_default_values", [])  # which `from_config` leaves out
            usual = [name for name in told if name not in scheduler]
            pipeline.scheduler.register_to_config(**scheduler, _use_default_values=usual)
        kind = type(getattr(pipeline, part))
        weaker = None if weak is None else load_network(str(weak), None, kind, dtype, device)
        model = cls(name, pipeline, weaker)
        model.judged_by(load_judge(source, device))
        model._check_clip_skip(clip_skip)
        model._clip_skip = clip_skip
        model.accelerate(profile)
        return model

    def accelerate(self, profile: Profile, backend: str = "inductor") -> None:
        """Have its networks called so from now on. ValueError where the machine cannot."""
        for network in filter(None, self._networks.values()):
            accelerate(network, profile, backend)
        self._profile = profile

    def judged_by(self, judge: Judge | None) -> None:
        """Have `classify` ask this judge."""
        self._judge = judge
        self.extras = self.extras - {"classifier"} | ({"classifier"} if judge is not None else set())

    @property
    def factor(self) -> int:
        """Pixels per latent cell, times what the network itself halves or packs."""
        return self._cell_px * self._cells_per_patch

    @property
    def weights_bytes(self) -> int:
        """What the weights of all its networks take in memory."""
        networks = [*self._pipeline.components.values(), self._networks["weak"]]
        weights = (one for net in networks if isinstance(net, torch.nn.Module) for one in net.parameters())
        return sum(one.numel() * one.element_size() for one in weights)

    @property
    def default_size(self) -> tuple[int, int]:
        """The size that the network was configured for."""
        cells = getattr(self._config, "sample_size", None) or self._pipeline.default_sample_size
        height, width = cells if isinstance(cells, list | tuple) else (cells, cells)
        return width * self._cell_px, height * self._cell_px

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of the latent for a picture of this size."""
        if width < 1 or height < 1 or width % self.factor or height % self.factor:
            raise ValueError(f"width and height must be multiples of {self.factor}, not {width}x{height}")
        return self._channels, height // self._cell_px, width // self._cell_px

    def schedule_config(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """With `mu`, where the scheduler shifts its levels by the number of patches (SD3.5, FLUX.1-dev)."""
        config = self.scheduler_config
        if not config.get("use_dynamic_shifting"):
            return config
        patches = shape[1] * shape[2] // self._cells_per_patch**2
        fewest, most = config["base_image_seq_len"], config["max_image_seq_len"]
        slope = (config["max_shift"] - config["base_shift"]) / (most - fewest)
        return config | {"mu": config["base_shift"] + slope * (patches - fewest)}

    def encode(self, prompts: Sequence[str], clip_skip: int | None = None) -> Encoded:
        """Conditions as the pipeline makes them, the latest prompts cached."""
        self._check_clip_skip(clip_skip)
        skipped = self._clip_skip if clip_skip is None else clip_skip
        found = [self._prompts.read(prompt, skipped) for prompt in prompts]
        pieces = [read.pieces for _, read in found]
        told: dict[str, Any] = {} if skipped is None else {"clip_skip": skipped}
        if any(count > 1 for count in pieces):
            told["prompt_pieces"] = pieces
        warnings = [read.warning for _, read in found if read.warning]
        return Encoded([cond for cond, _ in found], warnings, told)

    def _check_clip_skip(self, clip_skip: int | None) -> None:
        if clip_skip is None:
            return
        if "clip" not in self.extras:
            raise ValueError(f"a {type(self._pipeline).__name__} has no clip_skip; leave it out")
        layers = self._pipeline.text_encoder.config.num_hidden_layers
        if clip_skip >= layers:
            raise ValueError(f"clip_skip is {clip_skip}; this model's text encoder has {layers} layers")

    def denoise(
        self,
        x_t: Tensor,
        levels: Sequence[Level],
        conds: Sequence[Cond],
        network: Network = "main",
        grad: bool = False,
    ) -> Tensor:
        """One forward for all rows; one for each length where long prompts are among them."""
        net = self._networks[network]
        if net is None:
            raise ValueError(
                f"model {self.name!r} has no weak network; put one in its {self._part}_weak folder"
            )
        numbers = torch.tensor([(level.timestep, level.alpha, level.sigma) for level in levels])
        timestep, alpha, sigma = numbers.to(x_t.device, non_blocking=True).unbind(1)
        alpha, sigma = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
        if grad:
            self._save_memory(x_t)
        with torch.set_grad_enabled(grad):
            x = x_t.float()
            out = self._by_length(net, x.to(self.dtype), timestep, conds).float()
            return FROM_OUTPUT[self._prediction](x, out, alpha, sigma)

    def _by_length(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        rows_of: dict[Any, list[int]] = {}
        for row, cond in enumerate(conds):
            rows_of.setdefault(shape_of(cond), []).append(row)
        if len(rows_of) == 1:
            return self._call(net, x, timestep, conds)
        parts = [
            self._call(net, x[rows], timestep[rows], [conds[row] for row in rows])
            for rows in rows_of.values()
        ]
        order = torch.tensor([row for rows in rows_of.values() for row in rows], device=x.device)
        return torch.cat(parts)[order.argsort()]

    def _call(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        begin(self._profile)
        out = self._forward(net, x, timestep, conds)
        return out.clone() if self._profile == "graphs" else out

    def decode(self, latents: Tensor, grad: bool = False) -> Tensor:
        """Pictures in [-1, 1]; with `grad` not clipped, so that the gradient is not lost where they clip."""
        if grad:
            self._save_memory(latents)
        return self._autoencoder.decode(latents, grad)

    def encode_images(self, images: Tensor) -> Tensor:
        """The autoencoder's latents, the mean where it gives a distribution."""
        return self._autoencoder.encode(images.to(self.device))

    def classify(
        self,
        images: Tensor,
        labels: Sequence[Cond] = (),
        level: Level | None = None,
        grad: bool = False,
        softplus: float | None = None,
    ) -> Tensor:
        """What the folder's classifier or scorer says."""
        if self._judge is None:
            raise ValueError(
                f"model {self.name!r} has no classifier; put one in its classifier folder, or CLIP in scorer"
            )
        if level is not None:
            raise ValueError(
                "this model's classifier is trained on clean pictures; take gradient 'denoised' or 'x_t'"
            )
        return self._judge.logits(images, [label.text for label in labels], grad, softplus)

    def perceive(self, images: Tensor, grad: bool = False) -> list[Tensor]:
        """It has no perceptual network."""
        return []

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        raise NotImplementedError

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        raise NotImplementedError

    def _save_memory(self, latents: Tensor) -> None:
        if self._profile == "eager":  # a compiled network has chosen what it keeps
            checkpoint(self._differentiated(), latents.shape[-2] * latents.shape[-1] * self._cell_px**2)

    def _differentiated(self) -> list[Any]:
        """The networks that a gradient may go through."""
        return [*self._networks.values(), getattr(self._pipeline, "vae", None)]

    @property
    def _config(self) -> Any:
        return self._networks["main"].config

    @property
    def _channels(self) -> int:
        return self._config.in_channels


def shape_of(cond: Cond) -> Any:
    """What conditions must have in common to be stacked."""
    data = cond.data if isinstance(cond.data, tuple) else (cond.data,)
    return tuple(one.shape for one in data)


def stacked(conds: Sequence[Cond]) -> list[Tensor]:
    """The rows' conditions, each a tuple of tensors, as one batch per place in the tuple."""
    return [torch.stack(rows) for rows in zip(*(cond.data for cond in conds), strict=True)]
