"""Each further plane stores what the verify read of the earlier ones left over."""

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

    Notes
    -----
    Errors fixed at the write cancel, those made at read time do not, so the gain over repetition shrinks as the share
    of read-time noise grows; averaging is better above a share of about 0.3.
    """

    name: ClassVar[str] = "residual"
    planes: int = 2

    def __post_init__(self) -> None:
        check_number(self.name, "planes", self.planes, 1, 16, integer=True)

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        left = values
        for plane in range(self.planes):
            cells.write(left, followed=plane + 1 < self.planes)
            if plane + 1 < self.planes:
                left = left - cells.recover()

    def decode(self, cells: PlaneReader) -> F32:
        # Earlier planes must be read as the encoder read them, without shrinking towards the prior: what the prior
        # would take off is not in the later planes. The last plane's error is nobody's reference, so it is estimated.
        total = cells.estimate(self.planes - 1)
        for plane in range(self.planes - 1):
            total = total + cells.recover(plane)
        return total

    def parts(self) -> Sequence[int]:
        return (1,) * self.planes
