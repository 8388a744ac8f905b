"""Curves that fill a plane: one value in two cells, or two values in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from memristore.codes.code import F32, AnalogCode, PlaneReader, PlaneWriter
from memristore.codes.repetition import Repetition
from memristore.config import check_number
from memristore.errors import SpecError

_RATIOS: Final = {"1:2": 2, "2:1": 1}
_CURVES: Final = ("rows", "spiral")


@dataclass(frozen=True, kw_only=True)
class ShannonKotelnikov(AnalogCode):
    """Shannon-Kotel'nikov maps: values go to places on a curve that fills a plane.

    ``"1:2"``: one value in two cells. The curve runs to and fro through the square of the two cells' states, so that
    noise along it moves the value little. Arms and windows are chosen by the error predicted for the noise at the end
    of the retention time; where repetition is predicted to be better, the values are repeated instead, and the side
    information says so. ``"2:1"``: two values in one cell. The curve runs through the plane of pairs of values; it
    starts as a spiral or as rows, whichever ends better, and is then fitted to the values' density and to the cell's
    noise. A stream of n values takes ceil(n / 2) cells; of an odd number the last has its cell for itself.

    Parameters
    ----------
    ratio : {"1:2", "2:1"}
        Values to cells; ``"1/2"`` and ``"2/1"`` are understood too, where a colon means something else.
    planes : int
        Cells of a symbol: 2 or more for ``"1:2"``, 1 or more for ``"2:1"``, further ones repeat coordinates, whose
        reads are averaged. 0 means 2 and 1.
    curve : {"rows", "spiral"}
        For ``"1:2"``: rows fill the square, which is better on cells, whose states are limited; two spirals of
        Archimedes fill the disc, which is better where mean power is limited.
    always : bool
        For ``"1:2"``: do not fall back to repetition.

    Raises
    ------
    SpecError
        If a field is not valid.

    Notes
    -----
    Decoded by the posterior mean over the curve given the reads (with the decoder ``"inverse"``: under a flat prior for
    ``"1:2"``). Curves are drawn in steps of the noise, so that it is alike everywhere. Side information is two planes'
    parameters for each stream, 144 bits. Source: C. E. Shannon, "Communication in the presence of noise", Proc. IRE 37
    (1949); V. A. Kotel'nikov, "The Theory of Optimum Noise Immunity" (1959); F. Hekland, P. A. Floor, T. A. Ramstad,
    "Shannon-Kotel'nikov mappings in joint source-channel coding", IEEE Trans. Commun. 57 (2009),
    doi:10.1109/TCOMM.2009.01.070075. The descent of ``"2:1"``: N. Farvardin, V. Vaishampayan, "On the performance and
    complexity of channel-optimized vector quantizers", IEEE Trans. Inf. Theory 37 (1991), doi:10.1109/18.61130.
    """

    name: ClassVar[str] = "shannon-kotelnikov"
    joint: ClassVar[bool] = True
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"ratio": "2:1"}, {"curve": "spiral", "always": True})
    ratio: str = "1:2"
    planes: int = 0
    curve: str = "rows"
    always: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.ratio, str):
            object.__setattr__(self, "ratio", self.ratio.replace("/", ":"))
        if self.ratio not in _RATIOS:
            raise SpecError(f"{self.name}: ratio must be one of {', '.join(_RATIOS)}, not {self.ratio!r}")
        if self.curve not in _CURVES:
            raise SpecError(f"{self.name}: curve must be one of {', '.join(_CURVES)}, not {self.curve!r}")
        if not isinstance(self.always, bool):
            raise SpecError(f"{self.name}: always must be true or false, not {self.always!r}")
        least = _RATIOS[self.ratio]
        if self.planes == 0 and not isinstance(self.planes, bool):
            object.__setattr__(self, "planes", least)
        check_number(self.name, "planes", self.planes, least, 16, integer=True)

    @property
    def _copies(self) -> tuple[int, int]:
        return self.planes - self.planes // 2, self.planes // 2

    def symbols(self, values: int) -> int:
        return values if self.ratio == "1:2" else -(-values // 2)

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        if self.ratio == "2:1":
            cells.fold(values, self.planes)
        elif self.always or cells.predicted(values, self._forced) < cells.predicted(values, self._plain):
            cells.spread(values, self._copies, self.curve)
        else:
            cells.write(values, averaged=self.planes)

    def decode(self, cells: PlaneReader) -> F32:
        if self.ratio == "2:1":
            return cells.fold(self.planes)
        return cells.spread(self._copies) if cells.writes > 1 else cells.estimate(0)

    @property
    def _plain(self) -> Repetition:
        return Repetition(planes=self.planes)

    @property
    def _forced(self) -> ShannonKotelnikov:
        return ShannonKotelnikov(planes=self.planes, curve=self.curve, always=True)

    def parts(self) -> Sequence[int]:
        return self.layout(2)

    def layout(self, writes: int) -> Sequence[int]:
        if self.ratio == "2:1":
            return (self.planes,)
        return self._copies if writes > 1 else (self.planes,)

    def with_planes(self, planes: int) -> AnalogCode:
        if self.ratio == "1:2" and planes < 2:
            return Repetition(planes=planes)
        return ShannonKotelnikov(ratio=self.ratio, planes=planes, curve=self.curve, always=self.always)
