"""What text encoders have in common: what becomes of a prompt that is longer than they read."""

from __future__ import annotations

from typing import Any

from samplers.pieces import split


def overflow(tokenizer: Any, prompt: str, longest: int) -> str | None:
    """A warning that quotes what an encoder of `longest` tokens does not read; None where it reads all."""
    tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    room = longest - tokenizer.num_special_tokens_to_add()
    if len(tokens) <= room:
        return None
    cut = tokenizer.decode(tokens[room:])
    return f"the text encoder reads {longest} tokens; this part of the prompt was cut: {cut!r}"


def pieces(tokenizer: Any, prompt: str) -> list[str]:
    """The prompt in pieces that a CLIP encoder reads one by one; itself where it fits."""

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    return split(length, tokenizer.model_max_length - 2, prompt)  # less begin and end
