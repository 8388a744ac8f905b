"""SECDED (72, 64): corrects one wrong bit of a word and detects two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memristore import _core
from memristore.codes.code import U8, U64, BitCode


@dataclass(frozen=True, kw_only=True)
class Secded(BitCode):
    """Extended Hamming code: 8 check bits per 64 data bits, overhead 12.5 %."""

    name: ClassVar[str] = "secded"
    check_bits: ClassVar[int] = 8  # type: ignore[misc]

    def encode(self, words: U64, threads: int = 0) -> U8:
        check = np.empty(words.size, dtype=np.uint8)
        _core.secded_encode(words, check, threads)
        return check

    def decode(self, words: U64, check: U8, threads: int = 0) -> tuple[int, int]:
        status = np.empty(words.size, dtype=np.uint8)
        _core.secded_decode(words, check, status, threads)
        return int(np.count_nonzero(status == 1)), int(np.count_nonzero(status == 2))

    def block_error(self, bit_error: float) -> float:
        # P(two or more of 72 wrong), summed from the leading term so that it stays exact far below 1e-16.
        n, total, term = 72, 0.0, 1.0
        p = min(max(bit_error, 0.0), 1.0)
        if p >= 1.0:
            return 1.0
        for k in range(1, n + 1):
            term *= (n - k + 1) / k * p / (1.0 - p)
            if k >= 2:
                total += term
        return float(min(1.0, total * (1.0 - p) ** n))
