"""How a model reads prompts, told before anything runs: counted by its own tokenizer, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from app.catalogue import ModelCard
from samplers.architectures import Reads, architecture
from samplers.pieces import WORDS_MAX, split


class Reading(BaseModel):
    """A prompt of so many tokens (of the analytic model: words), of which the model takes `at_once`.

    A longer one is read in `pieces` or, where there is a `cut`, only up to it: this is not read.
    """

    tokens: int
    at_once: int
    pieces: int = 1
    cut: str | None = None


def readings(card: ModelCard, prompts: Sequence[str]) -> list[Reading] | None:
    """How each prompt is read. None where nobody here can say: the model's tokenizer lies elsewhere, it
    weights its prompts, or it reads none.
    """
    if card.source == "toy":
        return [_words(prompt) for prompt in prompts]
    reads = _reads(card)
    if reads is None or "weighting" in card.options:
        return None
    try:
        tokenizer, most = _tokenizer(card.source, card.revision, reads.part)
    except FileNotFoundError:
        return None
    room = (reads.most or most) - tokenizer.num_special_tokens_to_add(is_pair=False)
    return [_read(tokenizer, room, reads.pieces, prompt) for prompt in prompts]


def _words(prompt: str) -> Reading:
    words = prompt.split()
    return Reading(tokens=len(words), at_once=WORDS_MAX, cut=" ".join(words[WORDS_MAX:]) or None)


def _read(tokenizer: Tokenizer, room: int, in_pieces: bool, prompt: str) -> Reading:
    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    tokens = length(prompt)
    if tokens <= room:
        return Reading(tokens=tokens, at_once=room)
    if in_pieces:
        return Reading(tokens=tokens, at_once=room, pieces=len(split(length, room, prompt)))
    begin, _ = tokenizer.encode(prompt, add_special_tokens=False).offsets[room]
    return Reading(tokens=tokens, at_once=room, cut=prompt[begin:].strip())


def _reads(card: ModelCard) -> Reads | None:
    """The first of its tokenizers that the model has."""
    if card.pipeline is None:
        return None
    folder = Path(card.source)
    return next(
        (
            reads
            for reads in architecture(card.pipeline).reads
            if reads.part not in card.without and (not folder.is_dir() or (folder / reads.part).is_dir())
        ),
        None,
    )


@lru_cache(maxsize=32)
def _tokenizer(source: str, revision: str | None, part: str) -> tuple[Tokenizer, int]:
    """A tokenizer and the most tokens that its encoder reads. FileNotFoundError where it is not here."""

    def file(name: str) -> str:
        return _file(source, revision, f"{part}/{name}")

    config = json.loads(Path(file("tokenizer_config.json")).read_text())
    try:
        tokenizer = Tokenizer.from_file(file("tokenizer.json"))
    except FileNotFoundError:
        tokenizer = clip_tokenizer(file("vocab.json"), file("merges.txt"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, int(config.get("model_max_length", 0))


def _file(source: str, revision: str | None, name: str) -> str:
    """Where a model's file lies on this machine: in its folder, or in the hub's cache."""
    if (path := Path(source) / name).is_file():
        return str(path)
    if not Path(source).is_dir():
        from huggingface_hub import try_to_load_from_cache

        if isinstance(found := try_to_load_from_cache(source, name, revision=revision), str):
            return found
    raise FileNotFoundError(name)


def clip_tokenizer(vocab: str, merges: str) -> Tokenizer:
    """CLIP's byte pairs from the two files that older folders have in the place of `tokenizer.json`."""
    begin, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(BPE.from_file(vocab, merges, unk_token=end, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    sep, cls = ((mark, tokenizer.token_to_id(mark) or 0) for mark in (end, begin))
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls)
    return tokenizer
