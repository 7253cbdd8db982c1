"""Latents into pictures: decoded, scored, encoded and stored."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.jobs import ImageResult, Resolved
from app.storage.arrays import array_bytes
from app.storage.base import Storage, features_key, image_key, preview_key
from app.storage.png import encode_png
from samplers.loop import Final
from samplers.models.base import Model
from samplers.qr import finished
from workers import battery
from workers.account import Account
from workers.metrics import Measured, Pixels, measure

PREVIEW_PX = 256


@dataclass(slots=True)
class Darkroom:
    """Makes the pictures of one job.

    `lane` is the thread that calls models; `scorers` holds, by metric, the folders of models that score.
    """

    spec: Resolved
    prefix: str
    storage: Storage
    lane: Executor
    scorers: Mapping[str, Path]
    account: Account
    _measured: Measured = field(default_factory=Measured)

    async def picture(self, model: Model, final: Final, index: int, particle: int) -> ImageResult:
        """The picture of one particle of a run's end; `index` is the place of its seed."""
        spec, account = self.spec, self.account
        seed, place = spec.seeds[index], index * len(final.latents) + particle
        reading = None
        if spec.qr is not None:
            pixels = await account.timed("decode_ms", self.lane, finished, model, final, spec.qr)
        else:
            latents = final.latents[particle : particle + 1]
            pixels = await account.timed("decode_ms", self.lane, decode, model, latents)
        found = await account.timed(
            "score_ms", None, measure, spec.metrics, pixels, spec.prompt, self.scorers
        )
        self._measured, scores = found, found.scores
        if spec.qr is not None and final.target is not None:
            symbol = final.target.symbol
            told, reading = await account.timed("score_ms", None, battery.score, pixels, spec.qr, symbol)
            scores = scores | told
        began = time.perf_counter()
        data = await asyncio.to_thread(encode_png, pixels, spec.model_copy(update={"seeds": [seed]}))
        digest = hashlib.sha256(data).hexdigest()
        key = image_key(self.prefix, digest)
        await self._keep(key, data)
        for metric, features in found.features.items():
            await self._keep(features_key(key, metric), array_bytes(features))
        account.add("store_ms", (time.perf_counter() - began) * 1e3)
        return ImageResult(
            index=place,
            seed=seed,
            key=key,
            width=pixels.shape[1],
            height=pixels.shape[0],
            sha256=digest,
            metrics=scores,
            qr=reading,
        )

    async def preview(self, model: Model, index: int, step: int, denoised: Tensor) -> bytes:
        """A small PNG of what `denoised` (1, C, h, w) shows at a step, stored."""
        pixels = await asyncio.get_running_loop().run_in_executor(self.lane, decode, model, denoised)
        stride = -(-max(pixels.shape) // PREVIEW_PX)
        data = await asyncio.to_thread(encode_png, pixels[::stride, ::stride])
        await self._keep(preview_key(self.prefix, index, step), data)
        return data

    async def _keep(self, key: str, data: bytes) -> None:
        await self.storage.put(key, data)
        self.account.stored(data)

    def warnings(self, images: list[ImageResult]) -> list[str]:
        """What could not be scored, and which codes are not read."""
        return [*self._measured.warnings, *_unread(images)]

    def scored_by(self) -> dict[str, Any]:
        """The scorers, by metric."""
        return {metric: asdict(scorer) for metric, scorer in self._measured.scorers.items()}


def decode(model: Model, latents: Tensor) -> Pixels:
    """One latent (1, C, h, w) as (H, W, 3) bytes."""
    with torch.no_grad():
        image = model.decode(latents)[0]
        pixels = (image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
        return pixels.permute(1, 2, 0).cpu().numpy()


def _unread(images: list[ImageResult]) -> list[str]:
    seeds = [str(image.seed) for image in images if image.qr is not None and not image.metrics["ssr_any"]]
    if not seeds:
        return []
    return [f"not read as asked: the code of seed {', '.join(seeds)}; try a higher ecc or other seeds"]


def means(scores: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over the images."""
    return {name: sum(one[name] for one in scores) / len(scores) for name in scores[0]}
