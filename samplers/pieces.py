"""How a prompt is read that is longer than an encoder: torch-free, so that the API counts as workers do."""

from __future__ import annotations

from collections.abc import Callable

WORDS_MAX = 75
"""What the analytic model reads."""


def split(length: Callable[[str], int], room: int, prompt: str) -> list[str]:
    """The prompt in pieces of whole words of at most `room` tokens; itself where it fits.

    A word longer than that is broken.
    """
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
