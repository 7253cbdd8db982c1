"""Prompts with weights, `a (red)1.5 apple`, read by the package compel in the place of the pipeline.

Without weights an embedding is the pipeline's own. Long prompts are read whole, split where sentences end.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor


class Compelled:
    """compel over a pipeline's CLIP encoders: SD's one, or SDXL's two, whose embeddings are joined."""

    def __init__(self, pipeline: Any) -> None:
        if importlib.util.find_spec("compel") is None:
            raise ValueError(
                "prompt weights need the package compel: pip install 'lodestar-diffusion[compel]'"
            )
        import compel as _compel

        compel: Any = _compel
        second = getattr(pipeline, "text_encoder_2", None)
        kinds = compel.ReturnedEmbeddingsType
        if second is None:
            how = [(pipeline.tokenizer, pipeline.text_encoder, kinds.LAST_HIDDEN_STATES_NORMALIZED, False)]
        else:
            kind = kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            how = [
                (pipeline.tokenizer, pipeline.text_encoder, kind, False),
                (pipeline.tokenizer_2, second, kind, True),
            ]
        self._readers = [
            compel.Compel(
                tokenizer=tokenizer,
                text_encoder=encoder,
                returned_embeddings_type=kind,
                requires_pooled=pooled,
                truncate_long_prompts=False,
            )
            for tokenizer, encoder, kind, pooled in how
        ]

    def read(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        """The embedding (tokens, width), and the last encoder's pooled one (width) where it has one."""
        found = [reader(prompt) for reader in self._readers]
        pooled = [one[1] for one in found if isinstance(one, tuple)]
        text = [one[0] if isinstance(one, tuple) else one for one in found]
        return torch.cat(text, -1)[0], pooled[0][0] if pooled else None
