"""Keys and values of a UNet's cross-attention, made once a prompt and not for every row of every step.

They depend on the prompt alone. Where a picture has few cells, projecting the 77 tokens of its text is a
good part of a forward (5.5 % of 32 rows at 8 x 8 latents: `benchmarks.crossed`). Large networks keep their
own way: theirs would take megabytes a prompt to save a hundredth of a forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

MOST_BYTES = 2**20
"""Of one prompt's keys and values, for this to be worth it."""
KEPT_PROMPTS = 128


class Cut(nn.Module):
    """In place of a projection of the text: its part of what was projected before, or the projection itself.

    Text (B, tokens, width) is projected, so that diffusers' pipelines can call the network as ever; what is
    `total` wide is projected already, and (B, tokens, begin:end) is this layer's.
    """

    def __init__(self, projection: nn.Module, begin: int, end: int, total: int) -> None:
        super().__init__()
        self.projection, self.begin, self.end, self.total = projection, begin, end, total

    def forward(self, text: Tensor) -> Tensor:
        if text.shape[-1] == self.total:
            return text[..., self.begin : self.end]
        return self.projection(text)


class Crossed:
    """The keys and values of the prompts that one network was asked for last."""

    def __init__(self, network: Any) -> None:
        self._cuts = cut(network)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def batch(self, keys: Sequence[str], texts: Sequence[Tensor]) -> Tensor:
        """What the network takes as `encoder_hidden_states`, of one text (tokens, width) a row.

        `keys` tell the texts apart. Given are the projections of all its layers (rows, tokens, total), or
        the texts themselves where these are too large to keep.
        """
        tokens = texts[0][..., 0]
        if not self._cuts or tokens.nbytes * self._cuts[0].total > MOST_BYTES:
            return torch.stack(list(texts))
        return torch.stack([self._of(*row) for row in zip(keys, texts, strict=True)])

    @torch.no_grad()
    def _of(self, key: str, text: Tensor) -> Tensor:
        if key not in self._kept:
            self._kept[key] = torch.cat([one.projection(text) for one in self._cuts], dim=-1)
            if len(self._kept) > KEPT_PROMPTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def cut(network: Any) -> list[Cut]:
    """Put a `Cut` in place of every projection of text in this UNet; none where one is not plain.

    A network that has them keeps them.
    """
    layers = [layer for layer in network.modules() if getattr(layer, "is_cross_attention", False)]
    places = [(layer, name) for layer in layers for name in ("to_k", "to_v")]
    projections = [getattr(layer, name) for layer, name in places]
    if all(isinstance(one, Cut) for one in projections):
        return projections
    plain = all(
        isinstance(layer.processor, AttnProcessor2_0)
        and layer.norm_cross is None
        and layer.added_kv_proj_dim is None
        for layer in layers
    )
    if not plain or network.config.encoder_hid_dim_type:
        return []
    ends = list(accumulate(one.out_features for one in projections))
    if ends[-1] == projections[0].in_features:  # then a `Cut` could not tell what it is given
        return []
    cuts = [
        Cut(one, end - one.out_features, end, ends[-1]) for one, end in zip(projections, ends, strict=True)
    ]
    for (layer, name), one in zip(places, cuts, strict=True):
        setattr(layer, name, one)
    return cuts
