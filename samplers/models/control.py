"""A ControlNet beside a UNet: what it adds to the UNet's residuals for the rows' control pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidance.base import Cond


def residuals(
    controlnet: Any, x: Tensor, timestep: Tensor, text: Tensor, conds: Sequence[Cond]
) -> dict[str, Any]:
    """The arguments that a UNet takes from it; empty where the rows have no control.

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
    down, middle = controlnet(
        x, timestep, encoder_hidden_states=text, controlnet_cond=images, return_dict=False
    )
    scale = x.new_tensor([control.scale for control in controls]).view(-1, 1, 1, 1)
    return {
        "down_block_additional_residuals": [scale * one for one in down],
        "mid_block_additional_residual": scale * middle,
    }
