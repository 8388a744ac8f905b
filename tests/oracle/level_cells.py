"""Coded words on cells with a few levels: labels, cells and decisions one group at a time, in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oracle import cells

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Groups:
    """Groups of `cells` cells that carry `bits` label bits each.

    Parameters
    ----------
    bits, cells : int
    word_bits : int
        Bits of a word; a superblock is `bits` words.
    """

    bits: int
    cells: int
    word_bits: int

    def labels(self, words: U8) -> I64:
        """Label of each group of packed words, shape (words, bytes): (superblocks, word_bits).

        Bit i of the label of group g is bit g of word (i + g) mod bits of the superblock.
        """
        bits = np.unpackbits(words, axis=1, bitorder="little")[:, : self.word_bits]
        blocks = bits.reshape(-1, self.bits, self.word_bits)
        out = np.zeros((blocks.shape[0], self.word_bits), dtype=np.int64)
        for g in range(self.word_bits):
            for i in range(self.bits):
                out[:, g] |= blocks[:, (i + g) % self.bits, g].astype(np.int64) << i
        return out

    def words(self, labels: I64) -> U8:
        """Packed words of labels: the inverse of `labels`."""
        return np.packbits(self.rows((labels[..., None] >> np.arange(self.bits)) & 1), axis=1, bitorder="little")

    def rows(self, of_bits: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """What belongs to each label bit, shape (superblocks, word_bits, bits), word by word: (words, word_bits)."""
        out = np.empty((of_bits.shape[0], self.bits, self.word_bits), dtype=of_bits.dtype)
        for g in range(self.word_bits):
            for i in range(self.bits):
                out[:, (i + g) % self.bits, g] = of_bits[:, g, i]
        return out.reshape(-1, self.word_bits)


@dataclass(frozen=True)
class Decision:
    """Tables from bins of reads to labels and ratios; pairs of cells go through coarse bins."""

    start: float
    inv_step: float
    bins: int
    pair_bins: int
    cell_bin: U8
    label: U8
    llr: I8

    def indices(self, reads: F64, groups: Groups) -> I64:
        """Index of each group, shape (n,), of mean reads, shape (n * cells,); arithmetic in float32."""
        t = (reads.astype(np.float32) - np.float32(self.start)) * np.float32(self.inv_step)
        bin_of = np.clip(t, 0, self.bins - 1).astype(np.int64)
        if groups.cells == 1:
            return bin_of
        pairs = self.cell_bin[bin_of].astype(np.int64).reshape(-1, 2)
        return pairs[:, 0] * self.pair_bins + pairs[:, 1]


class StoredLevels(NamedTuple):
    """Packed hard decisions, ratios (words, word_bits), wrong hard bits, and the mean read of each cell."""

    hard: U8
    soft: I8
    errors: int
    mean: F64


def decide(groups: Groups, decision: Decision, mean: F64, words: U8) -> StoredLevels:
    """Decide on mean reads of all cells."""
    index = decision.indices(mean, groups).reshape(-1, groups.word_bits)
    hard = groups.words(decision.label[index].astype(np.int64))
    soft = groups.rows(decision.llr.reshape(-1, groups.bits)[index])
    valid = np.packbits(np.ones(groups.word_bits, np.uint8), bitorder="little")
    return StoredLevels(hard, soft.astype(np.int8), int(np.bitwise_count((hard ^ words) & valid).sum()), mean)


def store_levels(
    device: cells.Device,
    time: cells.ReadTime,
    key: int,
    write_event: int,
    purpose: int,
    read_event: int,
    first: int,
    plane_stride: int,
    planes: int,
    words: U8,
    targets: F32,
    level_of: U8,
    groups: Groups,
    decision: Decision,
) -> StoredLevels:
    """Write words one-shot, age and read the cells, decide by the mean over the planes.

    Cell j of group g of superblock s has address ``first + (s * word_bits + g) * cells + j``, plus the plane's.
    """
    level = level_of.reshape(-1, groups.cells)[groups.labels(words)]
    x = targets[level].astype(np.float64).ravel()
    total = np.zeros(x.size)
    for plane in range(planes):
        start = first + plane * plane_stride
        total += cells.program_age_read(device, time, key, write_event, purpose, read_event, start, x)
    return decide(groups, decision, total / planes, words)
