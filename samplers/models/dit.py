"""DiT, a transformer conditioned on a class of ImageNet. A prompt is a label: its name or its number.

The empty prompt is the class that means none. Compared with diffusers 0.42's `DiTPipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidance.asks import Cond
from samplers.architectures import Labels
from samplers.models.pipeline import PipelineModel
from samplers.models.prompts import Embedded


class DiT(PipelineModel):
    """The adapter. A condition's data is the class's number."""

    def _embed(self, prompt: str, clip_skip: int | None) -> Embedded:
        labels = Labels(self._pipeline.labels, self._config.num_embeds_ada_norm)
        number = labels.number(prompt)
        text = ", ".join(name for name, i in labels.names.items() if i == number)
        return Embedded(torch.tensor(number, device=self.device), text=text)

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        labels = torch.stack([cond.data for cond in conds])
        out = net(x, timestep=timestep, class_labels=labels, return_dict=False)[0]
        return out[:, : x.shape[1]]  # what follows is the variance that the network learned
