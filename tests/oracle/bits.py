"""The (72, 64) extended Hamming code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

WORD = 64
#: Hamming position of each data bit: 1..71 without the powers of two, which are the check bits' own.
POSITIONS = np.array([p for p in range(1, 72) if p & (p - 1)], dtype=np.uint8)
#: For each of the seven Hamming check bits, the data bits that it covers.
COVERS = [np.uint64(sum(1 << j for j, p in enumerate(POSITIONS.tolist()) if p >> k & 1)) for k in range(7)]
CLEAN, CORRECTED, FAILED = 0, 1, 2


def parity(words: U64 | U8) -> U8:
    """1 where a word has an odd number of ones."""
    return np.asarray(np.bitwise_count(words) & np.uint8(1))


def secded_encode(words: U64) -> U8:
    """Check byte of each word: bits 0..6 Hamming checks, bit 7 makes the parity of all 72 bits even."""
    check = np.zeros(len(words), dtype=np.uint8)
    for k, cover in enumerate(COVERS):
        check |= parity(words & cover) << np.uint8(k)
    return check | (parity(words) ^ parity(check)) << np.uint8(7)


def secded_decode(words: U64, check: U8) -> tuple[U64, U8, U8]:
    """Correct one wrong bit of each 72, detect two.

    Returns
    -------
    words, check : corrected copies; left as they are where the error cannot be corrected
    status : uint8, `CLEAN`, `CORRECTED` or `FAILED`
    """
    syndrome = (secded_encode(words) ^ check) & np.uint8(0x7F)
    odd = (parity(words) ^ parity(check)).astype(bool)
    bit_at = np.full(128, -1)
    bit_at[POSITIONS] = np.arange(WORD)
    data = bit_at[syndrome]
    # A check bit is its own power-of-two position; position 0 is the parity bit itself.
    own = (syndrome & (syndrome - np.uint8(1))) == 0
    fix_data, fix_check = odd & (data >= 0), odd & own
    flip = np.where(fix_data, np.uint64(1) << np.maximum(data, 0).astype(np.uint64), np.uint64(0))
    checks = np.where(fix_check, np.where(syndrome == 0, np.uint8(0x80), syndrome), np.uint8(0))
    status = np.where(fix_data | fix_check, CORRECTED, np.where(odd | (syndrome > 0), FAILED, CLEAN))
    return words ^ flip, check ^ checks, status.astype(np.uint8)
