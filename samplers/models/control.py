"""What the UNets with CLIP encoders share: a ControlNet, prompt weights, a scorer to look with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from guidance.asks import Cond
from samplers.models.base import Encoded
from samplers.models.crossed import Crossed
from samplers.models.parts import diffusers, load_clip, load_network, transformers
from samplers.models.perceptor import Perceptor
from samplers.models.pipeline import PipelineModel
from samplers.models.weighting import Compelled


class ControlledModel(PipelineModel):
    """An adapter of a UNet that takes a ControlNet, prompts with weights, and a scorer to look with."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        weak: Any = None,
        controlnet: Any = None,
        perceptor: Perceptor | None = None,
    ) -> None:
        super().__init__(name, pipeline, weak)
        self._controlnet = controlnet
        self._crossed = {net: Crossed(net) for net in self._networks.values() if net is not None}
        self._compelled: Compelled | None = None
        self._perceptor = perceptor
        if controlnet is not None:
            self.extras |= {"controlnet"}

    @classmethod
    def load(
        cls,
        source: str,
        name: str,
        index: Mapping[str, Any],
        *,
        controlnet: str | Path | None = None,
        scorer: str | Path | None = None,
        weighting: str | None = None,
        **options: Any,
    ) -> Self:
        """As the base class does, and with these folders or hub ids.

        `controlnet`: a ControlNet for QR patterns, by default `controlnet_qr` in the model's folder.
        `scorer`: a CLIP model whose picture encoder tells how alike pictures look, by default `scorer`.
        `weighting`: "compel" has that package read the prompts, whose syntax then has weights.
        """
        model = super().load(source, name, index, **options)
        dtype, device = options.get("dtype", "float32"), options.get("device", "cpu")
        if found := _beside(source, controlnet, "controlnet_qr"):
            kind = diffusers.ControlNetModel
            model._controlnet = load_network(found, None, kind, dtype, device)
            model.extras |= {"controlnet"}
        if found := _beside(source, scorer, "scorer"):
            processor = transformers.CLIPImageProcessorPil.from_pretrained(found)
            model._perceptor = Perceptor(load_clip(found, device), processor)
        if weighting == "compel":
            model._compelled = Compelled(model._pipeline)
            model.extras -= {"clip"}
            model._check_clip_skip(options.get("clip_skip"))
        return model

    def encode(self, prompts: Sequence[str], clip_skip: int | None = None) -> Encoded:
        """Conditions, and whether compel read the prompts."""
        if self._compelled is None:
            return super().encode(prompts, clip_skip)
        found = super().encode(prompts, clip_skip)
        return replace(found, read=found.read | {"weighting": "compel"})

    def _told(self, net: Any, conds: Sequence[Cond], texts: Sequence[Tensor]) -> Tensor:
        """The rows' texts (tokens, width) as this network takes them."""
        return self._crossed[net].batch([cond.key for cond in conds], texts)

    def _differentiated(self) -> list[Any]:
        return [*super()._differentiated(), self._controlnet]

    def perceive(self, images: Tensor, grad: bool = False) -> list[Tensor]:
        """The scorer's layers; none without a scorer."""
        return [] if self._perceptor is None else self._perceptor.features(images, grad)


def residuals(
    controlnet: Any,
    x: Tensor,
    timestep: Tensor,
    texts: Sequence[Tensor],
    conds: Sequence[Cond],
    **told: Any,
) -> dict[str, Any]:
    """The arguments that a UNet takes from it; empty where the rows have no control. `told`: as the UNet is.

    ValueError where only some rows have one, or the model has no ControlNet.
    """
    controls = [cond.control for cond in conds if cond.control is not None]
    if not controls:
        return {}
    if controlnet is None:
        raise ValueError("this model has no ControlNet; name one in its catalogue entry")
    if len(controls) != len(conds):
        raise ValueError("rows with and without a control picture cannot share a forward")
    images = torch.cat([control.image for control in controls]).to(x)
    text = torch.stack(list(texts))
    down, middle = controlnet(
        x, timestep, encoder_hidden_states=text, controlnet_cond=images, return_dict=False, **told
    )
    scale = x.new_tensor([control.scale for control in controls]).view(-1, 1, 1, 1)
    return {
        "down_block_additional_residuals": [scale * one for one in down],
        "mid_block_additional_residual": scale * middle,
    }


def _beside(source: str, named: str | Path | None, folder: str) -> str | None:
    """The part that is named, else the folder of that name in the model's own, where there is one."""
    own = Path(source) / folder
    return str(named) if named is not None else str(own) if own.is_dir() else None
