"""The tokenizer and the text encoder, both made from the captions."""

from __future__ import annotations

import json
import random

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.captions import EMPTY, Captions
from training.data import COLOUR_NAMES

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def train_tokenizer(texts: list[str], vocabulary: int, length: int) -> CLIPTokenizer:
    """CLIP's byte-level BPE with lower-casing; every byte stays representable."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary - len(alphabet) - 2,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(m) for m in merges]
    words = [*dict.fromkeys(words), START, END]
    return CLIPTokenizer(
        vocab={word: at for at, word in enumerate(words)},
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=length,
    )


def build(config: dict, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config["width"],
            intermediate_size=4 * config["width"],
            projection_dim=config["width"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["width"] // 64,
            max_position_embeddings=config["length"],
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(N, length) int64, padded exactly as StableDiffusionPipeline pads."""
    return tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids


def corpus(rows: list[dict], seed: int, each: int) -> list[str]:
    """`each` captions for every row on random colours."""
    captions, draw = Captions(rows), random.Random(seed)
    return [captions.draw(row, draw.randrange(len(COLOUR_NAMES)), draw) for row in rows for _ in range(each)]


class TokenTable:
    """Pre-drawn captions: (rows, colours, each, length) int16, indexed on any device."""

    def __init__(self, rows: list[dict], tokenizer: CLIPTokenizer, seed: int, each: int) -> None:
        captions, draw = Captions(rows), random.Random(seed + 1)
        self.each, colours = each, len(COLOUR_NAMES)
        parts = []
        for row in rows:
            texts = [captions.draw(row, c, draw) for c in range(colours) for _ in range(each)]
            parts.append(tokens(tokenizer, texts).to(torch.int16))
        self.table = torch.stack(parts).view(len(rows), colours, each, -1)
        self.empty = tokens(tokenizer, [EMPTY])[0]

    def to(self, device: torch.device | str) -> TokenTable:
        self.table, self.empty = self.table.to(device), self.empty.to(device)
        return self

    def draw(self, index: Tensor, colour: Tensor, which: Tensor, drop: Tensor) -> Tensor:
        """Tokens (B, length) of picture `index` on `colour`; empty where `drop`."""
        chosen = self.table[index, colour, (which * self.each).long()].long()
        return torch.where(drop[:, None], self.empty, chosen)
