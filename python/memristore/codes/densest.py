"""The densest of the bit codes: whichever family holds the most bits on the cells at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from memristore.channel import BitChannel
from memristore.codes.bch import Bch
from memristore.codes.code import BitCode
from memristore.codes.ldpc import Ldpc
from memristore.codes.secded import Secded
from memristore.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Densest(BitCode):
    """Choose between BCH codes, LDPC codes and SECDED by the fewest cells; :func:`memristore.sized_for` settles it."""

    name: ClassVar[str] = "densest"

    @property
    def families(self) -> tuple[BitCode, ...]:
        return (Bch(), Ldpc(), Secded())

    @property
    def check_bits(self) -> int:
        raise SpecError("densest: no code is chosen yet; use memristore.sized_for(Densest(), device, retention).code")

    @property
    def block_data_bits(self) -> int:
        return self.check_bits

    def candidates(self, channel: BitChannel, block_error: float) -> Iterator[BitCode]:
        for family in self.families:
            yield from family.candidates(channel, block_error)
