"""Each further plane stores what the verify read of the earlier ones left over, as long as that helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memristore.codes.code import F32, AnalogCode, PlaneReader, PlaneWriter
from memristore.config import check_number


@dataclass(frozen=True, kw_only=True)
class Residual(AnalogCode):
    """Write, read back, store the remaining error, enlarged to fill the window, in the next plane.

    Parameters
    ----------
    planes : int
        At least 1.
    alone : int, optional
        Planes that are followed by one for the remaining error; the others repeat what is left then, and their reads
        are averaged. By default as many, for each stream, as give the least predicted error.

    Notes
    -----
    Errors fixed at the write cancel, those made at read time do not, so the gain over repetition shrinks as the share
    of read-time noise grows; averaging is better above a share of about 0.3. How many planes stand alone costs a bit
    of side information per write.
    """

    name: ClassVar[str] = "residual"
    planes: int = 2
    alone: int | None = None

    def __post_init__(self) -> None:
        check_number(self.name, "planes", self.planes, 1, 16, integer=True)
        if self.alone is not None:
            check_number(self.name, "alone", self.alone, 0, self.planes - 1, integer=True)

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        left = values
        alone = cells.alone(values, self.planes) if self.alone is None else self.alone
        for _ in range(alone):
            cells.write(left, followed=True)
            left = left - cells.recover()
        cells.write(left, averaged=self.planes - alone)

    def decode(self, cells: PlaneReader) -> F32:
        return cells.chained() if cells.writes > 1 else cells.estimate(0)

    def parts(self) -> Sequence[int]:
        return self.layout(self.planes if self.alone is None else self.alone + 1)

    def layout(self, writes: int) -> Sequence[int]:
        alone = min(max(writes, 1), self.planes) - 1
        return (*(1,) * alone, self.planes - alone)

    def with_planes(self, planes: int) -> Residual:
        return Residual(planes=planes, alone=None if self.alone is None else min(self.alone, planes - 1))
