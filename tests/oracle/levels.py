"""Errors of cells with few levels: each cell of a byte moves up or down one level by its level's own chances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oracle import philox

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


def level_errors(key: int, event: int, first: int, bits: int, level_of: U8, up: F32, down: F32, symbols: U8) -> U8:
    """Bytes as they are read back from cells of `bits` bits each; the lowest bits are cell 0.

    The weight's word of purpose `level`, as a fraction, tells the first cell in error: the chances that cell c is the
    first are laid end to end. The cells after it are drawn afresh: from block `weight` of purpose `level more`,
    event * 256 + c / 2, cell c takes words 2 (c % 2), error or not, and the next, up or down.

    Parameters
    ----------
    level_of : uint8 array, shape (2**bits,)
        Level that each label is stored as.
    up, down : float32 arrays, shape (2**bits,)
        Chance that a cell at a level is read as the next higher, next lower level.
    symbols : uint8 array
        The bytes stored: weight first, first + 1, ...
    """
    label_of = np.argsort(level_of).astype(np.uint8)
    rise, fall = up.astype(np.float64), down.astype(np.float64)
    u = philox.words(key, philox.LEVEL, event, first, len(symbols)) * 2.0**-32
    clean, hit = np.ones(len(symbols)), np.zeros(len(symbols), dtype=bool)
    out = symbols.copy()
    mask = np.uint8((1 << bits) - 1)
    for cell in range(8 // bits):
        shift = np.uint8(cell * bits)
        level = level_of[(symbols >> shift) & mask]
        chance = rise[level] + fall[level]
        clean = clean * (1.0 - chance)
        begins = ~hit & (u < 1.0 - clean)
        touched = np.flatnonzero(hit | begins)
        block = np.uint64(first) + touched.astype(np.uint64)
        pair = 2 * (cell % 2)
        words = philox.blocks(key, philox.LEVEL_MORE, event * 256 + cell // 2, block)[:, pair : pair + 2] * 2.0**-32
        wrong = begins[touched] | (words[:, 0] < chance[touched])
        rises = words[:, 1] * chance[touched] < rise[level[touched]]
        at = touched[wrong]
        to = np.where(rises[wrong], level[at] + 1, level[at] - 1)
        out[at] = (out[at] & ~(mask << shift)) | (label_of[to] << shift)
        hit |= begins
    return out
