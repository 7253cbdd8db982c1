"""What text encoders have in common: how long a prompt may be, and what is done with a longer one."""

from __future__ import annotations

from typing import Any


def overflow(tokenizer: Any, prompt: str, longest: int) -> str | None:
    """A warning that quotes what an encoder of `longest` tokens does not read; None where it reads all."""
    tokens = tokenizer(prompt, padding="longest", return_tensors="pt", verbose=False).input_ids
    if tokens.shape[-1] <= longest:
        return None
    cut = tokenizer.batch_decode(tokens[:, longest - 1 : -1])[0]
    return f"the text encoder reads {longest} tokens; this part of the prompt was cut: {cut!r}"


def pieces(tokenizer: Any, prompt: str) -> list[str]:
    """The prompt in pieces of whole words that a CLIP encoder reads one by one; itself where it fits.

    A word longer than an encoder reads is broken.
    """
    room = tokenizer.model_max_length - 2  # begin and end

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    if length(prompt) <= room:
        return [prompt]
    found, filled = [""], 0
    short = room // 4  # a character has at most four bytes, and a token at least one
    for whole in prompt.split():
        fits = length(whole) <= room
        for word in [whole] if fits else [whole[i : i + short] for i in range(0, len(whole), short)]:
            size = length(word)
            if filled + size > room:
                found.append("")
                filled = 0
            found[-1] = f"{found[-1]} {word}".lstrip()
            filled += size
    return found
