"""What text encoders have in common: their limits, and what is said where a prompt exceeds them."""

from __future__ import annotations

from typing import Any


def overflow(tokenizer: Any, prompt: str, longest: int) -> str | None:
    """A warning that quotes what an encoder of `longest` tokens does not read; None where it reads all."""
    tokens = tokenizer(prompt, padding="longest", return_tensors="pt", verbose=False).input_ids
    if tokens.shape[-1] <= longest:
        return None
    cut = tokenizer.batch_decode(tokens[:, longest - 1 : -1])[0]
    return f"the text encoder reads {longest} tokens; this part of the prompt was cut: {cut!r}"
