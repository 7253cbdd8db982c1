"""DiT, a transformer conditioned on a class of ImageNet. A prompt is a label: its name or its number.

The empty prompt is the class that means none. Compared with diffusers 0.42's `DiTPipeline`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guidance.base import Cond
from samplers.models.pipeline import Embedded, PipelineModel


class DiT(PipelineModel):
    """The adapter. A condition's data is the class's number."""

    def _embed(self, prompt: str) -> Embedded:
        return Embedded(torch.tensor(self._class(prompt.strip()), device=self.device))

    def _class(self, label: str) -> int:
        none, labels = self._config.num_embeds_ada_norm, self._pipeline.labels
        if not label:
            return none
        if label.isdecimal() and int(label) < none:
            return int(label)
        if label in labels:
            return labels[label]
        close = difflib.get_close_matches(label, labels, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"a prompt of model {self.name!r} is the name of a class, or its number below {none}; there is "
            f"no class {label!r}{hint}"
        )

    def _forward(self, net: Any, x: Tensor, timestep: Tensor, conds: Sequence[Cond]) -> Tensor:
        labels = torch.stack([cond.data for cond in conds])
        out = net(x, timestep=timestep, class_labels=labels, return_dict=False)[0]
        return out[:, : x.shape[1]]  # what follows is the variance that the network learned
