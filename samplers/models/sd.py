"""Stable Diffusion 1.x and 2.x: CLIP text encoder, UNet, KL or tiny autoencoder, in a diffusers layout.

`denoised` from the network's output, always in float32:

    eps:    (x_t - sigma eps) / alpha
    v:      alpha x_t - sigma v
    sample: the output itself

Compared with diffusers 0.42's `StableDiffusionPipeline`, whose latents it reproduces.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import diffusers as _diffusers
import torch
import transformers as _transformers
from torch import Tensor

from guidance.base import Cond, Level, Network
from samplers.cards import Family
from samplers.models.base import Encoded

diffusers: Any = _diffusers  # both load lazily and are typed for neither their exports nor their arguments
transformers: Any = _transformers

CACHED_PROMPTS = 512


class StableDiffusion:
    """The adapter. Rows are independent: every row has its own timestep and text embedding."""

    pipelines: ClassVar = frozenset({"StableDiffusionPipeline"})
    family: Family = "vp"

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        text_encoder: Any,
        unet: Any,
        vae: Any,
        scheduler_config: dict[str, Any],
        unet_weak: Any = None,
    ) -> None:
        self.name = name
        self.device: torch.device = unet.device
        self.dtype: torch.dtype = unet.dtype  # read once: diffusers walks all modules for it
        self.scheduler_config = scheduler_config
        self.extras = frozenset({"grad"} | ({"weak"} if unet_weak is not None else set()))
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._networks: dict[Network, Any] = {"main": unet, "weak": unet_weak}
        self._vae = vae
        self._prediction = scheduler_config.get("prediction_type", "epsilon")
        self._cell_px = 2 ** (len(vae.config.block_out_channels) - 1)
        self._halvings = 2 ** (len(unet.config.block_out_channels) - 1)
        self._prompts: OrderedDict[str, tuple[Cond, str | None]] = OrderedDict()
        if self._prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"prediction_type {self._prediction!r} is not supported")
        if self._prediction == "epsilon" and scheduler_config.get("rescale_betas_zero_snr"):
            raise ValueError("an epsilon network has no estimate at zero SNR; unset rescale_betas_zero_snr")
        if unet.config.time_cond_proj_dim is not None:
            raise ValueError(
                "this UNet takes its guidance scale as an input (time_cond_proj_dim, as LCM does), which is "
                "not supported; use the model it was distilled from"
            )
        if unet.config.in_channels != unet.config.out_channels or unet.config.addition_embed_type:
            raise ValueError(
                "this UNet takes more than a latent, a time and a text; it is not a plain SD model"
            )

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
    ) -> Self:
        """Load from a folder or hub id with this `model_index.json`.

        `weak`: the folder of a weaker UNet; by default `unet_weak` beside `unet`.
        """
        common: dict[str, Any] = {"revision": revision, "use_safetensors": True}
        weights = common | {"torch_dtype": getattr(torch, dtype)}
        vae_class = getattr(diffusers, index["vae"][1])

        def ready(network: Any) -> Any:
            return network.to(device).eval().requires_grad_(False)

        def unet(folder: str, subfolder: str | None) -> Any:
            return ready(
                diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder=subfolder, **weights)
            )

        if weak is None and (Path(source) / "unet_weak").is_dir():
            weak = Path(source) / "unet_weak"
        text_encoder = transformers.CLIPTextModel.from_pretrained(
            source, subfolder="text_encoder", revision=revision, use_safetensors=True,
            dtype=getattr(torch, dtype),
        )  # fmt: skip
        scheduler_class = getattr(diffusers, index["scheduler"][1])
        scheduler = scheduler_class.from_pretrained(source, subfolder="scheduler", revision=revision)
        return cls(
            name,
            transformers.CLIPTokenizer.from_pretrained(source, subfolder="tokenizer", revision=revision),
            ready(text_encoder),
            unet(source, "unet"),
            ready(vae_class.from_pretrained(source, subfolder="vae", **weights)),
            dict(scheduler.config),
            unet(str(weak), None) if weak is not None else None,
        )

    @property
    def factor(self) -> int:
        """Pixels per latent cell, times what the UNet halves."""
        return self._cell_px * self._halvings

    @property
    def default_size(self) -> tuple[int, int]:
        """The size that the UNet was configured for."""
        cells = self._networks["main"].config.sample_size
        height, width = cells if isinstance(cells, list | tuple) else (cells, cells)
        return width * self._cell_px, height * self._cell_px

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of the latent for a picture of this size."""
        if width < 1 or height < 1 or width % self.factor or height % self.factor:
            raise ValueError(f"width and height must be multiples of {self.factor}, not {width}x{height}")
        channels = self._networks["main"].config.in_channels
        return channels, height // self._cell_px, width // self._cell_px

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Text embeddings as the pipeline makes them, the latest prompts cached."""
        found = [self._encode(prompt) for prompt in prompts]
        return Encoded([cond for cond, _ in found], [warning for _, warning in found if warning])

    @torch.no_grad()
    def _encode(self, prompt: str) -> tuple[Cond, str | None]:
        if prompt in self._prompts:
            self._prompts.move_to_end(prompt)
            return self._prompts[prompt]
        longest = self._tokenizer.model_max_length
        tokens = self._tokenizer(
            prompt, padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        )
        whole = self._tokenizer(prompt, padding="longest", return_tensors="pt", verbose=False).input_ids
        warning = None
        if whole.shape[-1] > longest:
            cut = self._tokenizer.batch_decode(whole[:, longest - 1 : -1])[0]
            warning = f"the text encoder reads {longest} tokens; this part of the prompt was cut: {cut!r}"
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if masked else None
        embedding = self._text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0][0]
        key = hashlib.sha256(f"{self.name}\0{prompt}".encode()).hexdigest()[:24]
        self._prompts[prompt] = Cond(key, embedding), warning
        if len(self._prompts) > CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return self._prompts[prompt]

    def denoise(
        self,
        x_t: Tensor,
        levels: Sequence[Level],
        conds: Sequence[Cond],
        network: Network = "main",
        grad: bool = False,
    ) -> Tensor:
        """One forward for all rows."""
        unet = self._networks[network]
        if unet is None:
            raise ValueError(f"model {self.name!r} has no weak network; put one in its unet_weak folder")
        numbers = torch.tensor([(level.timestep, level.alpha, level.sigma) for level in levels])
        timestep, alpha, sigma = numbers.to(x_t.device, non_blocking=True).unbind(1)
        alpha, sigma = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
        text = torch.stack([cond.data for cond in conds])
        with torch.set_grad_enabled(grad):
            x = x_t.float()
            out = unet(x.to(self.dtype), timestep, encoder_hidden_states=text, return_dict=False)[0].float()
            match self._prediction:
                case "epsilon":
                    return (x - sigma * out) / alpha
                case "v_prediction":
                    return alpha * x - sigma * out
                case _:
                    return out

    def decode(self, latents: Tensor, grad: bool = False) -> Tensor:
        """Pictures in [-1, 1]; with `grad` not clipped, so that the gradient is not lost where they clip."""
        config = self._vae.config
        z = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        with torch.set_grad_enabled(grad):
            images = self._vae.decode(z.to(self._vae.dtype), return_dict=False)[0].float()
        return images if grad else images.clamp(-1, 1)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """The autoencoder's latents, the mean where it gives a distribution."""
        config = self._vae.config
        encoded = self._vae.encode(images.to(self.device, self._vae.dtype))
        z = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return (z.float() - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor

    def classify(
        self,
        images: Tensor,
        labels: Sequence[Cond] = (),
        level: Level | None = None,
        grad: bool = False,
    ) -> Tensor:
        """It has no classifier."""
        raise ValueError(f"model {self.name!r} has no classifier")
