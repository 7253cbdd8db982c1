"""A QR symbol: which modules are dark, and which codeword each of them carries.

Source: ISO/IEC 18004; matrices are those of the package `qrcode` (one segment, no optimisation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import qrcode
from numpy.typing import NDArray
from qrcode import base, util
from qrcode.exceptions import DataOverflowError

Ecc = Literal["L", "M", "Q", "H"]
Bits = NDArray[np.bool_]
LEVELS: dict[Ecc, int] = {"L": 1, "M": 0, "Q": 3, "H": 2}
"""Error correction level -> its number in the format information."""
VERSIONS = range(1, 41)


@dataclass(frozen=True, slots=True)
class Block:
    """One Reed-Solomon block: the places of its codewords in the symbol's sequence, data first."""

    places: tuple[int, ...]
    data_count: int

    @property
    def correctable(self) -> int:
        """So many wrong codewords can be put right."""
        return (len(self.places) - self.data_count) // 2


@dataclass(frozen=True, eq=False)
class Symbol:
    """A payload as modules. `dark` (n, n) has n = 17 + 4 * version; the quiet zone is not part of it."""

    data: str
    version: int
    ecc: Ecc
    mask: int
    dark: Bits

    @property
    def modules(self) -> int:
        """Modules per side."""
        return len(self.dark)

    @cached_property
    def function(self) -> Bits:
        """(n, n): finder, timing and alignment patterns, format and version information: no data."""
        n, fixed = self.modules, np.zeros_like(self.dark)
        fixed[6, :] = fixed[:, 6] = True
        fixed[:9, :9] = fixed[:9, -8:] = fixed[-8:, :9] = True
        centres = util.pattern_position(self.version)
        for row in centres:
            for column in centres:
                if (row, column) not in ((6, 6), (6, n - 7), (n - 7, 6)):
                    fixed[row - 2 : row + 3, column - 2 : column + 3] = True
        if self.version >= 7:
            fixed[:6, -11:-8] = fixed[-11:-8, :6] = True
        return fixed

    @cached_property
    def path(self) -> NDArray[np.intp]:
        """(k, 2): row and column of each data module in the order of the bits."""
        return np.array(list(_zigzag(self.function)))

    @cached_property
    def masked(self) -> Bits:
        """(k,): whether the mask inverts the bit at each place of `path`."""
        inverts = util.mask_func(self.mask)
        return np.array([inverts(row, column) for row, column in self.path.tolist()])

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that the sequence of codewords interleaves."""
        sizes = base.rs_blocks(self.version, LEVELS[self.ecc])
        owners: list[list[int]] = [[] for _ in sizes]
        counter = iter(range(sum(size.total_count for size in sizes)))
        for i in range(max(size.data_count for size in sizes)):
            for owner, size in zip(owners, sizes, strict=True):
                if i < size.data_count:
                    owner.append(next(counter))
        for _ in range(sizes[0].total_count - sizes[0].data_count):
            for owner in owners:
                owner.append(next(counter))
        return tuple(Block(tuple(owner), size.data_count) for owner, size in zip(owners, sizes, strict=True))

    @cached_property
    def codewords(self) -> NDArray[np.uint8]:
        """The codewords in the order of `path`, unmasked."""
        bits = self.dark[tuple(self.path.T)] ^ self.masked
        return np.packbits(bits[: len(bits) // 8 * 8])

    def with_codewords(self, codewords: NDArray[np.uint8]) -> Symbol:
        """The symbol with these codewords in the place of its own."""
        bits = np.unpackbits(codewords).astype(bool)
        dark = self.dark.copy()
        dark[tuple(self.path[: len(bits)].T)] = bits ^ self.masked[: len(bits)]
        return Symbol(self.data, self.version, self.ecc, self.mask, dark)

    def damage(self, wrong: Bits) -> float:
        """Share of the error correction that these wrong modules (n, n) use up, in the worst block.

        Up to 1 the payload can be read, as far as it depends on the data modules; beyond it cannot.
        """
        bits = wrong[tuple(self.path.T)]
        broken: Bits = np.any(bits[: len(bits) // 8 * 8].reshape(-1, 8), axis=1)
        return max(float(broken[list(block.places)].sum()) / block.correctable for block in self.blocks)


def encode(data: str, version: int | None = None, ecc: Ecc = "M", mask: int | None = None) -> Symbol:
    """The symbol of a text: the smallest version that holds it, the mask of least penalty, unless given.

    ValueError says what would fit.
    """
    code: Any = qrcode.QRCode(version=version, error_correction=LEVELS[ecc], mask_pattern=mask)
    code.add_data(data, optimize=0)
    try:
        code.make(fit=version is None)
    except (DataOverflowError, ValueError):  # `best_fit` says ValueError beyond version 40
        raise ValueError(_what_fits(data, version, ecc)) from None
    dark = np.array(code.modules, dtype=bool)
    chosen = mask if mask is not None else _mask(dark)
    return Symbol(data, code.version, ecc, chosen, dark)


def needed_bits(data: str, version: int) -> int:
    """Bits of the payload with its header, without terminator and padding."""
    buffer, segment = util.BitBuffer(), util.QRData(data)
    buffer.put(segment.mode, 4)
    buffer.put(len(segment), util.length_in_bits(segment.mode, version))
    segment.write(buffer)
    return len(buffer)


def capacity_bits(version: int, ecc: Ecc) -> int:
    """Data bits that a symbol holds."""
    return 8 * sum(block.data_count for block in base.rs_blocks(version, LEVELS[ecc]))


def _what_fits(data: str, version: int | None, ecc: Ecc) -> str:
    size = len(util.to_bytestring(data))
    asked = f"a version {version} symbol" if version else "a QR symbol"
    for level in (ecc, "L"):
        for larger in VERSIONS[version or 0 :]:
            if needed_bits(data, larger) <= capacity_bits(larger, level):
                with_level = "" if level == ecc else f" with ecc {level!r}"
                return (
                    f"the payload of {size} bytes is too long for {asked} with ecc {ecc!r}; it fits version "
                    f"{larger}{with_level}"
                )
    return f"the payload of {size} bytes is too long for any QR symbol; a short link to it would fit"


def _zigzag(function: Bits) -> Iterator[tuple[int, int]]:
    """Columns in pairs from the right, up and down in turn, the timing column left out."""
    n = len(function)
    pairs = [*range(n - 1, 6, -2), *range(5, 0, -2)]
    for turn, right in enumerate(pairs):
        for row in range(n - 1, -1, -1) if turn % 2 == 0 else range(n):
            for column in (right, right - 1):
                if not function[row, column]:
                    yield row, column


def _mask(dark: Bits) -> int:
    """The mask number, read from the format information beside the upper left finder pattern."""
    high, middle, low = dark[8:9, 2:5].ravel().tolist()
    return (4 * high + 2 * middle + low) ^ 0b101
