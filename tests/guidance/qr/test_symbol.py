"""Symbols against the package's matrices, a reader, and the limits of the error correction."""

from __future__ import annotations

import numpy as np
import pytest
import zxingcpp

from guidance.qr.qart import follow, parity
from guidance.qr.symbol import Symbol, encode
from tests.golden.arrays import load

GOLDEN = load("qr_symbols_python_qrcode")
EVERY = [(version, ecc) for version in (2, 5, 7, 14, 25) for ecc in "LMQH"]


def scanned(symbol: Symbol) -> str | None:
    modules = np.pad(~symbol.dark, 4, constant_values=True)
    found = zxingcpp.read_barcodes(np.kron(modules, np.ones((4, 4))).astype(np.uint8) * 255)
    return found[0].text if found else None


@pytest.mark.parametrize("key", GOLDEN)
def test_equals_the_recorded_symbols(key: str) -> None:
    data, version, ecc, mask = key.split("|")
    chosen = None if mask == "maskNone" else int(mask[4:])
    symbol = encode(data, int(version[1:]), ecc[2:], chosen)  # type: ignore[arg-type]
    assert (symbol.dark == GOLDEN[key].numpy().astype(bool)).all()
    assert chosen is None or symbol.mask == chosen


@pytest.mark.parametrize(("version", "ecc"), EVERY)
def test_codewords_are_found_in_the_modules(version: int, ecc: str) -> None:
    """The parity of each block follows from its data: places, mask and interleaving are right."""
    symbol = encode("https://a.io", version, ecc)  # type: ignore[arg-type]
    assert len(symbol.codewords) == sum(len(block.places) for block in symbol.blocks)
    for block in symbol.blocks:
        words = symbol.codewords[list(block.places)]
        count = len(words) - block.data_count
        assert (parity(words[None, : block.data_count], count)[0] == words[block.data_count :]).all()
    assert (symbol.with_codewords(symbol.codewords).dark == symbol.dark).all()


@pytest.mark.parametrize(("version", "ecc"), EVERY)
def test_a_symbol_that_follows_a_picture_is_read_as_the_same_text(version: int, ecc: str) -> None:
    symbol = encode("https://a.io", version, ecc)  # type: ignore[arg-type]
    luminance = np.random.default_rng(version).random(symbol.dark.shape)
    art, data = follow(symbol, luminance), ~symbol.function
    assert scanned(art) == "https://a.io"
    alike = [((luminance < 0.5) == one.dark)[data].mean() for one in (symbol, art)]
    assert alike[1] > alike[0] + 0.05 or ecc in "QH"  # those leave hardly a bit free
    assert (art.dark == symbol.dark)[symbol.function].all()


def test_the_modules_that_matter_most_are_set_first() -> None:
    symbol = encode("hi", 5, "L")
    luminance = np.full(symbol.dark.shape, 0.5 + 1e-6)
    luminance[12:22, 12:22] = 0.0
    assert follow(symbol, luminance).dark[12:22, 12:22].all()


def test_a_full_symbol_has_nothing_to_choose() -> None:
    symbol = encode("x" * 14, 1, "M")
    assert (follow(symbol, np.zeros(symbol.dark.shape)).dark == symbol.dark).all()


def test_damage_of_one_is_the_last_that_can_be_read() -> None:
    symbol = encode("https://a.io", 3, "M")
    (block,) = symbol.blocks
    for count in (block.correctable, block.correctable + 2):
        codewords = symbol.codewords.copy()
        codewords[list(block.places)[:count]] ^= 0b1000
        broken = symbol.with_codewords(codewords)
        assert symbol.damage(broken.dark ^ symbol.dark) == count / block.correctable
        assert (scanned(broken) == symbol.data) == (count <= block.correctable)


def test_the_smallest_version_is_chosen() -> None:
    assert encode("x" * 14).version == 1
    assert encode("x" * 15).version == 2


@pytest.mark.parametrize(
    ("data", "version", "ecc", "said"),
    [
        ("x" * 100, 3, "M", "it fits version 6$"),
        ("x" * 2900, None, "H", "it fits version 40 with ecc 'L'"),
        ("x" * 5000, None, "M", "too long for any"),
    ],
)
def test_says_what_would_fit(data: str, version: int | None, ecc: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode(data, version, ecc)  # type: ignore[arg-type]
