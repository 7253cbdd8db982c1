"""Another symbol of the same payload that looks more like a picture.

What stands behind a payload's terminator is padding that no reader looks at. Its bits are free, and the
error correction follows them linearly over GF(2); so as many modules as there are free bits can be chosen,
the most important ones first, by elimination. The payload and the strength of the correction stay whole.

Source: R. Cox, "QArt Codes", 2012 (the method); arXiv 2409.06355 uses such a target.
Deviates: the padding is used, where Cox appends digits to a URL; so the text read is exactly the one asked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qrcode import base

from guidance.qr.symbol import Block, Symbol, needed_bits

Bytes = NDArray[np.uint8]
EXP = np.array([base.gexp(i) for i in range(255)] * 2)
LOG = np.array([0, *(base.glog(i) for i in range(1, 256))])


def follow(symbol: Symbol, luminance: NDArray[np.floating]) -> Symbol:
    """The symbol whose data modules are nearest to `luminance` (n, n), 0 to 1: dark below a half.

    Modules far from a half are set first.
    """
    order = np.argsort(-np.abs(luminance - 0.5)[tuple(symbol.path.T)], kind="stable")
    wanted = (luminance < 0.5)[tuple(symbol.path.T)] ^ symbol.masked
    codewords = symbol.codewords.copy()
    used = -(-min(needed_bits(symbol.data, symbol.version) + 4, 8 * _data_count(symbol)) // 8)
    begin = 0
    for block in symbol.blocks:
        places = np.array(block.places)
        bits = (places[:, None] * 8 + np.arange(8)).ravel()
        rank = np.empty(len(symbol.path), int)
        rank[order] = np.arange(len(order))
        fixed = min(max(used - begin, 0), block.data_count)
        codewords[places] = _nearest(codewords[places], block, fixed, wanted[bits], np.argsort(rank[bits]))
        begin += block.data_count
    return symbol.with_codewords(codewords)


def distance(symbol: Symbol, luminance: NDArray[np.floating]) -> float:
    """How far the data modules are from `luminance` (n, n): the sum of what those of the other bit lack."""
    other = (luminance < 0.5) != symbol.dark
    return float((np.abs(luminance - 0.5) * other)[~symbol.function].sum())


def parity(data: Bytes, count: int) -> Bytes:
    """`count` Reed-Solomon codewords (rows, count) for the data codewords (rows, k), over GF(256)/0x11D."""
    generator = np.array([1])
    for i in range(count):
        generator = np.append(generator, 0) ^ np.insert(_times(generator, int(EXP[i])), 0, 0)
    rest = np.zeros((len(data), count), dtype=int)
    for column in data.T:
        lead = column ^ rest[:, 0]
        rest = np.append(rest[:, 1:], np.zeros((len(data), 1), int), axis=1)
        rest ^= np.stack([_times(lead, int(factor)) for factor in generator[1:]], axis=1)
    return rest.astype(np.uint8)


def _nearest(
    codeword: Bytes, block: Block, fixed: int, wanted: NDArray[np.bool_], order: NDArray[np.intp]
) -> Bytes:
    """The block's codeword that has the wanted bits, in this order of importance, as far as it is free.

    `fixed`: data codewords that stay as they are.
    """
    free = 8 * (block.data_count - fixed)
    units = np.zeros((free, 8 * block.data_count), dtype=np.uint8)
    units[np.arange(free), 8 * fixed + np.arange(free)] = 1
    data = np.packbits(units, axis=1)
    words = np.concatenate([data, parity(data, len(codeword) - block.data_count)], axis=1)
    basis = np.unpackbits(words, axis=1).astype(bool)
    bits = np.unpackbits(codeword).astype(bool)
    for bit in order:
        able = np.flatnonzero(basis[:, bit])
        if not len(able):
            continue
        pivot = basis[able[0]].copy()
        basis[able] ^= pivot  # the pivot becomes zero and is not used again
        if bits[bit] != wanted[bit]:
            bits ^= pivot
    return np.packbits(bits)


def _times(values: NDArray[np.int_], factor: int) -> NDArray[np.int_]:
    return np.where((values == 0) | (factor == 0), 0, EXP[LOG[values] + LOG[factor]])


def _data_count(symbol: Symbol) -> int:
    return sum(block.data_count for block in symbol.blocks)
