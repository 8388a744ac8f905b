"""Philox4x32-10 (Salmon et al., SC'11) and the normals drawn from it, by absolute block and cell number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

WRITE, CELL, DRIFT, RELAX, READ, FAULT, VERIFY_READ, PULSE, USER, LEVEL, LEVEL_MORE = range(1, 12)

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
GROUP, LANES, PER_BLOCK = 64, 16, 4


def blocks(key: int, purpose: int, event: int, block: U64) -> U32:
    """Words of any blocks.

    Parameters
    ----------
    key : int
        64-bit key, low word first.
    purpose, event : int
        Counter words 2 and 3.
    block : uint64 array, shape (n,)
        Block numbers: counter words 0 (low half) and 1 (high half).

    Returns
    -------
    uint32 array, shape (n, 4)
    """
    c0, c1 = block & LOW, block >> HALF
    c2, c3 = np.full_like(block, purpose), np.full_like(block, event)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ np.uint64(k0), p1 & LOW, (p0 >> HALF) ^ c3 ^ np.uint64(k1), p0 & LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def philox(key: int, purpose: int, event: int, first_block: int, count: int) -> U32:
    """Words of `count` consecutive blocks, flat: word k of block b is item 4 * (b - first_block) + k."""
    return blocks(key, purpose, event, np.uint64(first_block) + np.arange(count, dtype=np.uint64)).reshape(-1)


def box_muller(words: U32) -> tuple[F64, F64]:
    """Four normals per block, and the radius that each came from.

    Parameters
    ----------
    words : uint32 array, shape (..., 4)

    Returns
    -------
    normals, radii : float64 arrays, shape (..., 4)
    """
    u = (words[..., 0::2] >> np.uint32(1)) * 2.0**-31 + 2.0**-32
    radius = np.sqrt(-2.0 * np.log(u))
    angle = words[..., 1::2] * (2.0 * np.pi / 2.0**32)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return z.reshape(words.shape), np.repeat(radius, 2, axis=-1)


def groups(key: int, purpose: int, event: int, first: int, count: int) -> U32:
    """Words of every group of 64 cells that [first, first + count) touches, shape (groups, 16 lanes, 4)."""
    low, high = first // GROUP, -(-(first + count) // GROUP)
    number = max(high - low, 0)
    return philox(key, purpose, event, low * LANES, number * LANES).reshape(number, LANES, PER_BLOCK)


def by_cell(values: npt.NDArray[np.generic], first: int, count: int) -> npt.NDArray[np.generic]:
    """Put per-block values, shape (groups, 16, 4), into cell order: cell i owns value (i // 16) % 4 of block i % 16."""
    return values.transpose(0, 2, 1).reshape(-1)[first % GROUP :][:count]


def words(key: int, purpose: int, event: int, first: int, count: int) -> U32:
    """One raw word per cell, shape (count,)."""
    return np.asarray(by_cell(groups(key, purpose, event, first, count), first, count), dtype=np.uint32)


def normals(key: int, purpose: int, event: int, first: int, count: int) -> F64:
    """One standard normal per cell, shape (count,)."""
    z, _ = box_muller(groups(key, purpose, event, first, count))
    return np.asarray(by_cell(z, first, count), dtype=np.float64)


def radii(key: int, purpose: int, event: int, first: int, count: int) -> F64:
    """Box-Muller radius of each cell's normal: a float32 kernel is least exact where it is small."""
    _, r = box_muller(groups(key, purpose, event, first, count))
    return np.asarray(by_cell(r, first, count), dtype=np.float64)


def pulse_normals(key: int, event: int, cell: U64, pair: int) -> F64:
    """Normals of program-and-verify steps 2 * pair and 2 * pair + 1: verify, pulse, verify, pulse; shape (n, 4)."""
    z, _ = box_muller(blocks(key, PULSE, (event * 256 + pair) & 0xFFFFFFFF, cell))
    return z
