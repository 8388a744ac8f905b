"""Quasi-cyclic LDPC codes: what a base matrix means, and the decoder's integer rules, one check at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]

LOUDEST, LOUDEST_OF_TWO, DITHER = 31, 63, 5
#: f(x) = round(4 ln(1 + exp(-x / 4))): what box-plus adds and takes off, in steps of a quarter nat.
STEP = np.array([round(4 * math.log1p(math.exp(-x / 4))) for x in range(257)])


class Base(NamedTuple):
    """Shift size, and column and shift of each entry of each row."""

    z: int
    rows: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def columns(self) -> int:
        return 1 + max(c for row in self.rows for c, _ in row)

    @property
    def data_bits(self) -> int:
        return (self.columns - len(self.rows)) * self.z


def parity_matrix(base: Base) -> npt.NDArray[np.int64]:
    """All checks: check i of a row covers bit (i + shift) mod z of each of its columns."""
    H = np.zeros((len(base.rows) * base.z, base.columns * base.z), dtype=np.int64)
    i = np.arange(base.z)
    for r, row in enumerate(base.rows):
        for column, shift in row:
            H[r * base.z + i, column * base.z + (i + shift) % base.z] = 1
    return H


def unpack(data: U8) -> npt.NDArray[np.int64]:
    """Bits, least significant bit of each byte first."""
    return np.unpackbits(data, axis=-1, bitorder="little").astype(np.int64)


def box_plus(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.minimum(a, b) + STEP[a + b] - STEP[abs(a - b)]


def dither(bits: int, attempt: int) -> npt.NDArray[np.int64]:
    """Disturbance of each bit, in [-DITHER, DITHER]."""
    x = np.arange(bits, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(attempt * 0x85EBCA6B & 0xFFFFFFFF)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    x = x ^ (x >> np.uint32(16))
    return (((x >> np.uint32(16)).astype(np.int64) * (2 * DITHER + 1)) >> 16) - DITHER


def channel_sums(base: Base, llr: I8, data_bits: int, attempt: int) -> npt.NDArray[np.int64]:
    """Ratios of one block in steps of a quarter nat, shape (columns * z,); bits that are not there are known zeros."""
    sums = np.full(base.columns * base.z, 127, dtype=np.int64)
    where = np.r_[0:data_bits, base.data_bits : sums.size]
    fine = llr.astype(np.int64)
    if attempt % 3:
        fine = np.sign(fine) * (3 * abs(fine) // 4)
    if attempt:
        fine += dither(sums.size, attempt)[where]
    sums[where] = np.sign(fine) * np.minimum((abs(fine) + 1) // 2, 63)
    return sums


def check_row(base: Base, row: int, sums: npt.NDArray[np.int64], said: list[npt.NDArray[np.int64]]) -> None:
    """Update the checks of one row: A-min*, `said` being what they told each of their columns before."""
    places = [c * base.z + (np.arange(base.z) + s) % base.z for c, s in base.rows[row]]
    heard = [np.clip(sums[p] - m, -128, 127) for p, m in zip(places, said, strict=True)]
    least, rest = np.full(base.z, 127), np.full(base.z, 127)
    for value in heard:
        rest = box_plus(rest, np.maximum(least, abs(value)))
        least = np.minimum(least, abs(value))
    together = box_plus(rest, least)
    odd = sum((value < 0).astype(int) for value in heard) % 2
    for k, (place, value) in enumerate(zip(places, heard, strict=True)):
        two = base.rows[row][k][0] > base.columns - len(base.rows)
        size = np.minimum(np.where(abs(value) == least, rest, together), LOUDEST_OF_TWO if two else LOUDEST)
        said[k] = np.where(odd ^ (value < 0), -size, size)
        sums[place] = np.clip(value + said[k], -128, 127)


def decode_block(base: Base, llr: I8, data_bits: int, iterations: int, attempts: int) -> tuple[U8, int]:
    """Decode one block, shape (data_bits + check bits,): its data bytes, and decisions changed or -1."""
    H = parity_matrix(base)
    where = np.r_[0:data_bits, base.data_bits : base.columns * base.z]
    bits, solved = np.zeros(base.columns * base.z, dtype=np.int64), False
    for attempt in range(attempts):
        sums = channel_sums(base, llr, data_bits, attempt)
        said = [[np.zeros(base.z, dtype=np.int64) for _ in row] for row in base.rows]
        for done in range(iterations + 1):
            bits = (sums < 0).astype(np.int64)
            solved = not (H @ bits % 2).any()
            if solved or done == iterations:
                break
            for row in range(len(base.rows)):
                check_row(base, row, sums, said[row])
        if solved:
            break
    changed = int(np.count_nonzero(bits[where] != (llr < 0)))
    data = np.packbits(bits[:data_bits].astype(np.uint8), bitorder="little")
    return data, changed if solved else -1


def decode(base: Base, llr: I8, data_bits: int, iterations: int, attempts: int) -> tuple[U8, I32]:
    """Decode blocks, shape (blocks, data_bits + check bits)."""
    pairs = [decode_block(base, block, data_bits, iterations, attempts) for block in llr]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs], dtype=np.int32)
