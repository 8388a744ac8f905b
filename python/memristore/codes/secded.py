"""SECDED (72, 64): corrects one wrong bit of a word and detects two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import binom

from memristore import _core
from memristore.channel import BitChannel
from memristore.codes.code import I32, U8, BitCode
from memristore.config import check_number
from memristore.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Secded(BitCode):
    """Extended Hamming code: 8 check bits per 64 data bits, overhead 12.5 %.

    Parameters
    ----------
    data_bits : int
        Data bits per word, a multiple of 8 up to 64.
    """

    name: ClassVar[str] = "secded"
    data_bits: int = 64

    def __post_init__(self) -> None:
        check_number(self.name, "data_bits", self.data_bits, 8, 64, integer=True)
        if self.data_bits % 8:
            raise SpecError(f"secded: data_bits must be a multiple of 8, not {self.data_bits}")

    @property
    def block_data_bits(self) -> int:
        return self.data_bits

    @property
    def check_bits(self) -> int:
        return 8

    def _words(self, data: U8) -> np.ndarray:
        # Missing data bits of a shortened word are zeros.
        if self.data_bits == 64 and data.flags.c_contiguous:
            return data.view("<u8").astype(np.uint64, copy=False).reshape(-1)
        wide = np.zeros((data.shape[0], 8), dtype=np.uint8)
        wide[:, : self.data_bits // 8] = data
        return wide.view("<u8").astype(np.uint64, copy=False).reshape(-1)

    def encode(self, data: U8, threads: int = 0) -> U8:
        check = np.empty(data.shape[0], dtype=np.uint8)
        _core.secded_encode(self._words(data), check, threads)
        return check.reshape(-1, 1)

    def decode(self, data: U8, check: U8, threads: int = 0) -> I32:
        words, found = self._words(data).copy(), check.reshape(-1).copy()
        status = np.empty(words.size, dtype=np.uint8)
        _core.secded_decode(words, found, status, threads)
        corrected = words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
        # A correction of a bit that a shortened word does not have is a detected failure.
        failed = (status == 2) | corrected[:, self.data_bits // 8 :].any(axis=1)
        data[~failed] = corrected[~failed, : self.data_bits // 8]
        check[~failed] = found[~failed].reshape(-1, 1)
        return np.where(failed, -1, status).astype(np.int32)

    def block_error(self, channel: BitChannel) -> float:
        return float(binom.sf(1, self.data_bits + 8, min(max(channel.raw_error, 0.0), 1.0)))

    def candidates(self, channel: BitChannel, block_error: float) -> Iterator[BitCode]:
        if self.block_error(channel) <= block_error:
            yield self
