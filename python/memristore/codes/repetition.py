"""The same symbol in several cells; the decoder averages their reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memristore.codes.code import F32, AnalogCode, PlaneReader, PlaneWriter
from memristore.config import check_number


@dataclass(frozen=True, kw_only=True)
class Repetition(AnalogCode):
    """Repeat each symbol; noise variance falls as 1/planes.

    Parameters
    ----------
    planes : int
        Copies, at least 1.
    """

    name: ClassVar[str] = "repetition"
    planes: int = 3

    def __post_init__(self) -> None:
        check_number(self.name, "planes", self.planes, 1, 64, integer=True)

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        cells.write(values, averaged=self.planes)

    def decode(self, cells: PlaneReader) -> F32:
        return cells.estimate(0)

    def parts(self) -> Sequence[int]:
        return (self.planes,)
