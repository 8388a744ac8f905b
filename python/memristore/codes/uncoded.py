"""One plane, no redundancy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memristore.codes.code import F32, AnalogCode, PlaneReader, PlaneWriter
from memristore.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Uncoded(AnalogCode):
    """Each symbol in one plane."""

    name: ClassVar[str] = "uncoded"
    planes: ClassVar[int] = 1  # type: ignore[misc]

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        cells.write(values)

    def decode(self, cells: PlaneReader) -> F32:
        return cells.estimate(0)

    def parts(self) -> Sequence[int]:
        return (1,)

    def with_planes(self, planes: int) -> Uncoded:
        raise SpecError("uncoded storage has one plane; allocate planes with 'repetition' or 'residual'")
