"""Errors of cells with few levels: which cells of a byte are read one level too high or too low."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oracle import philox

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

LEVEL, LEVEL_MORE = 10, 11
BYTE = 8


@dataclass(frozen=True)
class LevelModel:
    """Cells of 2^bits levels, 8 / bits of them to a byte, the first in the low bits.

    Parameters
    ----------
    bits : int
        1, 2 or 4.
    level_of : uint8 array, shape (2^bits,)
        The level that stands for each label, which is what the byte holds.
    up, down : float32 arrays, shape (2^bits,)
        By level, the probability that a read finds the next level above or below.
    """

    bits: int
    level_of: U8
    up: F32
    down: F32

    @property
    def cells(self) -> int:
        """Cells in a byte."""
        return BYTE // self.bits

    @property
    def label_of(self) -> U8:
        """The label of each level."""
        return np.argsort(self.level_of).astype(np.uint8)

    def levels(self, symbols: U8) -> npt.NDArray[np.int64]:
        """Levels of the cells of each byte, shape (n, cells)."""
        shift = self.bits * np.arange(self.cells)
        return self.level_of[symbols[:, None] >> shift & (2**self.bits - 1)].astype(np.int64)

    def symbols(self, levels: npt.NDArray[np.int64]) -> U8:
        """Bytes of levels, the inverse of `levels`."""
        shift = self.bits * np.arange(self.cells)
        return np.bitwise_or.reduce(self.label_of[levels].astype(np.int64) << shift, axis=1).astype(np.uint8)


def gray(bits: int) -> U8:
    """Level of each label where neighbouring levels differ in one bit."""
    level = np.arange(2**bits)
    out = np.empty(2**bits, dtype=np.uint8)
    out[level ^ level >> 1] = level
    return out


def natural(bits: int) -> U8:
    """Level of each label where the label is the level's own number."""
    return np.arange(2**bits, dtype=np.uint8)


def level_errors(model: LevelModel, key: int, event: int, first: int, symbols: U8) -> U8:
    """Read back bytes, cell i being byte `first` + i.

    One word per byte, laid over the chances of its cells, end to end, tells the first cell in error. For it and every
    cell after it, two words of the cell's own tell whether it is in error (known for the first) and in which direction.
    """
    cell = np.uint64(first) + np.arange(len(symbols), dtype=np.uint64)
    word = philox.words(key, LEVEL, event, first, len(symbols)) * 2.0**-32
    levels = model.levels(symbols)
    up = model.up.astype(np.float64)[levels]
    chance = up + model.down.astype(np.float64)[levels]
    clean = np.cumprod(1.0 - chance, axis=1)  # no error so far
    before = np.concatenate([np.ones((len(symbols), 1)), clean[:, :-1]], axis=1)
    within = word[:, None] < 1.0 - before * (1.0 - chance)
    at = np.flatnonzero(within[:, -1])  # the others have no error
    own = np.empty((len(at), model.cells, 2))
    for pair in range(-(-model.cells // 2)):
        drawn = philox.blocks(key, LEVEL_MORE, event * 256 + pair, cell[at]) * 2.0**-32
        own[:, 2 * pair : 2 * pair + 2] = drawn.reshape(-1, 2, 2)
    opened = within[at]
    leads = opened & ~np.roll(opened, 1, axis=1)
    leads[:, 0] = opened[:, 0]
    wrong = leads | opened & (own[..., 0] < chance[at])
    rises = own[..., 1] * chance[at] < up[at]
    levels[at] += np.where(wrong, np.where(rises, 1, -1), 0)
    return model.symbols(levels)


def outcomes(model: LevelModel, symbol: int) -> F64:
    """Probability of each of the 256 bytes that a read of `symbol` may give: a product over its cells."""
    (written,) = model.levels(np.array([symbol], dtype=np.uint8))
    found = model.levels(np.arange(256, dtype=np.uint8))
    chances = np.zeros((256, model.cells))
    for c, level in enumerate(written):
        up, down = float(model.up[level]), float(model.down[level])
        steps = found[:, c] - level
        chances[:, c] = np.select([steps == 0, steps == 1, steps == -1], [1.0 - up - down, up, down], 0.0)
    return np.asarray(chances.prod(axis=1))
