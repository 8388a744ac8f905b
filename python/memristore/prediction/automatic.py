"""Chooses protections, code and mapper for given values, by predicted efficiency, and says why."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from memristore import devices
from memristore.array import F32, OneShot, Write
from memristore.codes import AnalogCode, Densest, Repetition, Residual, Uncoded
from memristore.compress import RateDistortion
from memristore.config import check_number
from memristore.devices import Device
from memristore.errors import SpecError, TensorError
from memristore.limits import Empirical, Source, capacity, efficiency, opta
from memristore.mapping import Companded, Linear, Mapper
from memristore.prediction.sampling import as_values, predict
from memristore.protect import AdaptiveRange, Protection, Sign
from memristore.spec import StorageSpec
from memristore.streams import strided_sample
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    from rich.table import Table

#: Values that candidates are judged by, at most, and as many as are drawn from a source.
MOST: Final = 1 << 20
DRAWN: Final = 1 << 17
_PROTECTIONS: Final[tuple[tuple[Protection, ...], ...]] = ((), (Sign(),), (Sign(), AdaptiveRange()))
_CODES: Final[tuple[AnalogCode, ...]] = (
    Uncoded(),
    *(Repetition(planes=planes) for planes in (2, 3, 4)),
    *(Residual(planes=planes) for planes in (2, 3, 4)),
)
#: A number of cells may be exceeded by this share: side information of short streams.
_SLACK: Final = 1e-3
#: Steps of the search for the digital recipe that takes a number of cells.
_STEPS: Final = 5
#: Differences below this, dB, say nothing.
_CLEAR: Final = 0.05


@dataclass(frozen=True)
class Candidate:
    """A recipe and what is predicted for it.

    Parameters
    ----------
    spec : StorageSpec
    words : str
        Protections, code and mapper.
    cells_per_value : float
        Everything counted.
    sdr_db : float
    efficiency : float
        Bits per value that the SDR needs at least, over the capacity of the cells.
    """

    spec: StorageSpec
    words: str
    cells_per_value: float
    sdr_db: float
    efficiency: float

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict; null stands for an infinite SDR."""
        found = {"words": self.words, "cells_per_value": self.cells_per_value, "efficiency": self.efficiency}
        return found | {"sdr_db": self.sdr_db if math.isfinite(self.sdr_db) else None, "spec": self.spec.to_dict()}


@dataclass(frozen=True, eq=False)
class Choice:
    """What :func:`auto` chose.

    Parameters
    ----------
    best : Candidate
    candidates : list of Candidate
        All that were tried, by cells per value, then SDR.
    digital : Candidate, optional
        The same values as trellis-coded, entropy-coded bits in the densest code, for the same cells (or SDR); a line to
        compare with, never chosen. None where no such recipe was found.
    limit_db : float
        SDR that no recipe can exceed with the cells of the best, dB.
    capacity_bits : float
        Capacity of a cell, bits.
    at_seconds : float
    wanted : str
        What was asked for, in words.
    """

    best: Candidate
    candidates: list[Candidate]
    digital: Candidate | None
    limit_db: float
    capacity_bits: float
    at_seconds: float
    wanted: str

    @property
    def spec(self) -> StorageSpec:
        """The recipe chosen."""
        return self.best.spec

    @property
    def why(self) -> str:
        """The reason, in sentences."""
        best = self.best
        lines = [
            f"{best.words}: {best.sdr_db:.2f} dB with {best.cells_per_value:.3f} cells per value, "
            f"{100 * best.efficiency:.0f} % of what the cells could hold (limit {self.limit_db:.2f} dB); {self.wanted}."
        ]
        lines += [line for line in (self._without(kind) for kind in ("protect", "code", "mapper")) if line]
        if self.digital is not None:
            other = self.digital
            lines.append(
                f"The line to compare with, {other.words}: {other.sdr_db:.2f} dB with {other.cells_per_value:.3f} "
                f"cells per value, {100 * other.efficiency:.0f} %"
                + (
                    "; it uses the cells better, but a wrong bit costs it a block of values."
                    if other.efficiency > best.efficiency
                    else "."
                )
            )
        return "\n".join(lines)

    def _without(self, kind: str) -> str:
        """What the best alternative in one part would give."""
        mine = {part: _name(getattr(self.spec, part)) for part in ("protect", "code", "mapper")}

        def alike(other: Candidate) -> bool:
            names = {part: _name(getattr(other.spec, part)) for part in mine}
            return all((names[part] == mine[part]) != (part == kind) for part in mine)

        others = [c for c in self.candidates if alike(c)]
        if not others:
            return ""
        # Of other codes the one with about as many cells says most.
        near = min(others, key=lambda c: (abs(c.cells_per_value - self.best.cells_per_value) > 0.5, -c.efficiency))
        more = near.sdr_db - self.best.sdr_db
        change = "the same SDR" if abs(more) < _CLEAR else f"{more:+.2f} dB"
        return (
            f"With {_name(getattr(near.spec, kind))} instead of {mine[kind]}: {change}, "
            f"{near.cells_per_value - self.best.cells_per_value:+.2f} cells per value, {100 * near.efficiency:.0f} %."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict; its ``spec`` is the recipe chosen."""
        return {
            "spec": self.spec.to_dict(),
            "why": self.why,
            "wanted": self.wanted,
            "at_seconds": self.at_seconds,
            "capacity_bits": self.capacity_bits,
            "limit_db": self.limit_db if math.isfinite(self.limit_db) else None,
            "best": self.best.to_dict(),
            "digital": None if self.digital is None else self.digital.to_dict(),
            "candidates": [c.to_dict() for c in self.candidates],
        }

    def table(self) -> Table:
        """Return a table of all candidates for the terminal."""
        from rich.table import Table

        title = f"predicted on {self.spec.cell.name} after {format_time(self.at_seconds)}, {self.wanted}"
        table = Table(title=title, title_justify="left")
        for heading in ("protection, code, mapper", "cells/value", "SDR dB", "efficiency"):
            table.add_column(heading, justify="left" if heading.startswith("protection") else "right")
        rows = [*self.candidates, *([] if self.digital is None else [self.digital])]
        for row in rows:
            style = "bold" if row is self.best else "dim" if row is self.digital else ""
            table.add_row(
                row.words, f"{row.cells_per_value:.3f}", f"{row.sdr_db:.2f}", f"{row.efficiency:.3f}", style=style
            )
        return table

    def __repr__(self) -> str:
        return f"Choice({self.why})"


def auto(
    values: npt.ArrayLike | Source,
    device: Device | str,
    at: Time = "10 years",
    *,
    cells: float | None = None,
    sdr: float | None = None,
    write: Write | None = None,
    threads: int = 0,
) -> Choice:
    """Choose protections, code and mapper for values on a device, by predicted efficiency.

    Parameters
    ----------
    values : array_like or Source
        Values to be stored together, any shape, or what they are drawn from. Of more than 1,048,576 a strided sample is
        looked at.
    device : Device or str
    at : float or str
        Retention time; the SDR is that of a read at its end.
    cells : float, optional
        Cells per value, everything counted, that must not be exceeded by more than 0.1 %: the recipe with the most SDR
        is chosen.
    sdr : float, optional
        SDR in dB that must be reached: the recipe with the fewest cells is chosen. Without `cells` and `sdr`, the
        recipe that uses its cells best.
    write : Write, optional
        One-shot by default.
    threads : int
        Threads for kernels; 0 means all. Results do not depend on it.

    Returns
    -------
    Choice
        ``spec``, ``why``, ``table()`` and all candidates: no protection, `Sign`, `Sign` and `AdaptiveRange`; `Uncoded`,
        `Repetition` and `Residual` with up to four planes; `Linear` and `Companded`. About 3 s.

    Raises
    ------
    SpecError
        If both `cells` and `sdr` are given, or no candidate does it (the message says what the best one gives).
    TensorError
        If there are no values, or all are the same, or some are not finite.

    Examples
    --------
    >>> import memristore as ms
    >>> from memristore.limits import Laplacian
    >>> ms.auto(Laplacian(), "awgn/12", cells=1.2).best.words
    'no protection, uncoded, companded'
    """
    if cells is not None and sdr is not None:
        raise SpecError("auto: give cells or sdr, not both")
    for what, number, high in (("cells", cells, 1e3), ("sdr", sdr, 200.0)):
        if number is not None:
            check_number("auto", what, number, 0.0, high, open_low=True)
    cell = devices.get(device) if isinstance(device, str) else device
    if not isinstance(cell, Device):
        raise SpecError(f"auto: device must be a Device or a name, not {device!r}")
    source, sample = _values(values)
    base = StorageSpec(device=cell, bits=Densest(), retention=at, write=OneShot() if write is None else write)
    seconds = parse_time(at)
    judge = _Judge(source, sample, float(capacity(cell, seconds, base.write).bits), threads)
    found = sorted(judge.candidates(base), key=lambda c: (round(c.cells_per_value, 2), c.sdr_db))
    best, wanted = _best(found, cells, sdr)
    digital = judge.digital(base, best.cells_per_value if sdr is None else None, sdr)
    limit = opta(source, judge.capacity, best.cells_per_value)
    return Choice(best, found, digital, limit, judge.capacity, seconds, wanted)


def _values(values: npt.ArrayLike | Source) -> tuple[Source, F32]:
    if isinstance(values, Source):
        return values, values.sample(DRAWN).astype(np.float32)
    flat = as_values(values)
    if not flat.size or float(flat.min()) == float(flat.max()):
        raise TensorError("auto: needs values that differ; a constant takes no cells")
    if not np.isfinite(flat).all():
        raise TensorError("auto: values must be finite as float32")
    sample = np.ascontiguousarray(strided_sample(flat, MOST))
    return Empirical.of(sample), sample


def _best(found: list[Candidate], cells: float | None, sdr: float | None) -> tuple[Candidate, str]:
    """Return the candidate that does what is wanted, and that in words."""
    if cells is not None:
        able = [c for c in found if c.cells_per_value <= cells * (1 + _SLACK)]
        if not able:
            least = min(found, key=lambda c: c.cells_per_value)
            raise SpecError(
                f"auto: no recipe takes {cells:g} cells per value or fewer; {least.words} takes "
                f"{least.cells_per_value:.3f}. Fewer take compression: RateDistortion, Prune"
            )
        return max(
            able, key=lambda c: (c.sdr_db, -c.cells_per_value)
        ), f"most SDR with at most {cells:g} cells per value"
    if sdr is not None:
        able = [c for c in found if c.sdr_db >= sdr]
        if not able:
            most = max(found, key=lambda c: c.sdr_db)
            raise SpecError(
                f"auto: no recipe with up to four planes reaches {sdr:g} dB; {most.words} reaches "
                f"{most.sdr_db:.2f} dB. More take more planes, program-and-verify, or bits: RateDistortion"
            )
        return min(able, key=lambda c: (c.cells_per_value, -c.sdr_db)), f"fewest cells for at least {sdr:g} dB"
    return max(found, key=lambda c: (c.efficiency, -c.cells_per_value)), "best use of its cells"


class _Judge:
    """Predicts recipes for one source."""

    def __init__(self, source: Source, values: F32, capacity_bits: float, threads: int) -> None:
        self.source = source
        self.values = values
        self.capacity = capacity_bits
        self.threads = threads

    def judge(self, spec: StorageSpec, words: str) -> Candidate:
        """Predict one recipe."""
        found = predict(self.values, spec, threads=self.threads)
        cells = found.cells_per_value
        # Exact values, as on ideal cells, need as many bits as numbers of that precision.
        used = efficiency(self.source, min(found.sdr_db, 140.0), self.capacity, cells) if cells > 0 else math.inf
        return Candidate(spec, words, cells, found.sdr_db, used)

    def candidates(self, base: StorageSpec) -> Iterable[Candidate]:
        """Try all recipes that the device can take."""
        mappers: tuple[Mapper, ...] = (Linear(), Companded(at=base.retention))
        for protect in _PROTECTIONS:
            for code in _CODES:
                for mapper in mappers:
                    spec = dataclasses.replace(base, protect=protect, code=code, mapper=mapper)
                    yield self.judge(spec, ", ".join(_name(part) for part in (protect, code, mapper)))

    def digital(self, base: StorageSpec, cells: float | None, sdr: float | None) -> Candidate | None:
        """Predict trellis-coded bits of an SDR, or of the SDR that takes as many cells."""

        def tried(wanted: float) -> Candidate:
            spec = dataclasses.replace(base, compress=(RateDistortion(sdr=round(wanted, 3)),))
            return self.judge(spec, f"bits: rate-distortion to {wanted:.1f} dB, densest code")

        try:
            if cells is None:
                return tried(sdr or 0.0)
            # Cells are nearly straight in dB: secants, from what Shannon would allow.
            limit = opta(self.source, self.capacity, cells)
            if not math.isfinite(limit):
                return None
            low, high = tried(max(0.8 * limit, 0.5)), tried(max(0.9 * limit, 1.0))
            for _ in range(_STEPS):
                if abs(high.cells_per_value / cells - 1) < 0.005 or high.cells_per_value == low.cells_per_value:
                    break
                slope = (high.sdr_db - low.sdr_db) / (high.cells_per_value - low.cells_per_value)
                low, high = high, tried(min(max(high.sdr_db + slope * (cells - high.cells_per_value), 0.5), 100.0))
        except SpecError:
            return None
        return high


def _name(part: Any) -> str:
    """Name of a part, or of several, with its planes."""
    if isinstance(part, tuple):
        return " + ".join(p.name for p in part) or "no protection"
    planes = f" {part.planes}" if isinstance(part, (Repetition, Residual)) else ""
    return f"{part.name}{planes}"
