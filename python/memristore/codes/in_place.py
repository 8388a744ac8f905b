"""No check bits outside the data: its words bring SECDED along, as `memristore.ZeroSpace` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import binom

from memristore.channel import BitChannel
from memristore.codes.code import I32, U8, BitCode
from memristore.config import check_number
from memristore.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class InPlace(BitCode):
    """Store 64-bit words as they are; the compressor that made them corrects one wrong bit of each when it decodes.

    Parameters
    ----------
    data_bits : int
        Bits per word, a multiple of 8 up to 64; fewer only at the end of an area.
    """

    name: ClassVar[str] = "in-place"
    data_bits: int = 64

    def __post_init__(self) -> None:
        check_number(self.name, "data_bits", self.data_bits, 8, 64, integer=True)
        if self.data_bits % 8:
            raise SpecError(f"in-place: data_bits must be a multiple of 8, not {self.data_bits}")

    @property
    def block_data_bits(self) -> int:
        return self.data_bits

    @property
    def check_bits(self) -> int:
        return 0

    def encode(self, data: U8, threads: int = 0) -> U8:
        return np.empty((data.shape[0], 0), dtype=np.uint8)

    def decode(self, data: U8, check: U8, threads: int = 0) -> I32:
        return np.zeros(data.shape[0], dtype=np.int32)

    def block_error(self, channel: BitChannel) -> float:
        """Probability of two wrong bits or more, which is what the SECDED inside the word cannot correct."""
        return float(binom.sf(1, self.data_bits, min(max(channel.raw_error, 0.0), 1.0)))

    def candidates(self, channel: BitChannel, block_error: float) -> Iterator[BitCode]:
        if self.block_error(channel) <= block_error:
            yield self
