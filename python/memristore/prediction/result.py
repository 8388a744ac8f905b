"""What a prediction says: tensors, streams, cells, and the share of the Shannon limit."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from memristore.array import F32
from memristore.limits import Empirical, Gaussian, Source, capacity, from_db, rate, sdr_db
from memristore.spec import StorageSpec
from memristore.units import format_time

if TYPE_CHECKING:
    from rich.table import Table

#: Fewer values than this are taken for Gaussian ones in rates: a density could not be told from them.
_DENSITY: Final = 1024
#: Exact copies of real numbers count as this good, dB: about what float32 holds.
_EXACT: Final = 140.0


@dataclass(frozen=True)
class Part:
    """Prediction for a stream, for a tensor, or for all of them.

    Parameters
    ----------
    tensor, stream : str
        The tensor, and the part of it; an empty stream for the whole tensor.
    items : int
        Values, or bits of a bit stream.
    cells : float
        Cells. Those of a code's check bits and padding are shared out by bits.
    power, error : float
        Sums over the values of squared differences from their mean, and of squared errors; NaN for bits.
    exact_bits : int
        Bits of a tensor that is kept bit by bit; 0 for others.
    """

    tensor: str
    stream: str
    items: int
    cells: float
    power: float
    error: float
    exact_bits: int = 0

    @property
    def sdr_db(self) -> float:
        """Signal-to-distortion ratio, dB; infinite where nothing is lost, NaN for bits."""
        return _sdr(self.power, self.error)

    @property
    def cells_per_value(self) -> float:
        """Cells for each value (or bit)."""
        return self.cells / self.items if self.items else 0.0


class Prediction:
    """What :func:`predict` found.

    Parameters
    ----------
    spec : StorageSpec
    at_seconds : float
        Time of the read.
    tensors, streams : list of Part
        Tensors with all of their cells, and the streams that they are kept in.
    shared_cells : float
        Cells that serve all tensors: reference cells, directory.
    weights : int
        Parameters of the network.
    block_error : float
        Probability that a block of bits comes back wrong at that time.
    sources : dict
        Values of each tensor, shape (n,), of which its density is made.
    note : str
        How the numbers were found.
    """

    def __init__(
        self, spec: StorageSpec, at_seconds: float, tensors: list[Part], streams: list[Part], shared_cells: float,
        weights: int, block_error: float, sources: dict[str, F32], note: str,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.at_seconds = at_seconds
        self.tensors = tensors
        self.streams = streams
        self.shared_cells = shared_cells
        self.weights = weights
        self.block_error = block_error
        self.note = note
        self._sources = sources

    @property
    def cells(self) -> float:
        """All cells."""
        return sum(t.cells for t in self.tensors) + self.shared_cells

    @property
    def cells_per_value(self) -> float:
        """All cells over all weights; NaN without weights."""
        return self.cells / self.weights if self.weights else math.nan

    @property
    def sdr_db(self) -> float:
        """Signal-to-distortion ratio of all floating tensors together, dB; each one's power is about its own mean."""
        known = [t for t in self.tensors if not math.isnan(t.power)]
        return _sdr(sum(t.power for t in known), sum(t.error for t in known))

    @functools.cached_property
    def capacity_bits(self) -> float:
        """Capacity of a cell at the time of the read, bits."""
        return float(capacity(self.spec.cell, self.at_seconds, self.spec.write).bits)

    @functools.cached_property
    def efficiency(self) -> float:
        """Share of the cells' capacity that the distortions of the tensors need at least; computed when asked for.

        A tensor needs R(D) bits per value for its distortion D, its values taken as independent draws from their own
        distribution (of fewer than 1024 values, from a Gaussian one); exact tensors need all their bits. Cells without
        noise have no finite capacity: theirs is that of 1024 bins of reads, and the share may exceed 1.
        """
        needed = sum(self.bits_needed(tensor) for tensor in self.tensors)
        room = self.capacity_bits * self.cells
        return needed / room if room > 0 else math.inf if needed else 0.0

    def bits_needed(self, tensor: Part) -> float:
        """Fewest bits that the distortion of a tensor takes, whatever the code."""
        if tensor.exact_bits or not tensor.power > 0:
            return float(tensor.exact_bits)
        values = self._sources[tensor.tensor]
        source: Source = Gaussian() if values.size < _DENSITY else Empirical.of(values)
        distortion = max(tensor.error / tensor.power, from_db(_EXACT))
        return tensor.items * rate(source, distortion)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict; null stands for what is infinite or not a number."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        def row(part: Part) -> dict[str, Any]:
            found = {"tensor": part.tensor, "stream": part.stream, "items": part.items, "cells": part.cells}
            return found | {"cells_per_value": part.cells_per_value, "sdr_db": finite(part.sdr_db)}

        return {
            "spec": self.spec.to_dict(),
            "at_seconds": self.at_seconds,
            "sdr_db": finite(self.sdr_db),
            "cells": self.cells,
            "cells_per_value": finite(self.cells_per_value),
            "capacity_bits": self.capacity_bits,
            "efficiency": finite(self.efficiency),
            "block_error": self.block_error,
            "tensors": [row(t) for t in self.tensors],
            "streams": [row(s) for s in self.streams],
            "note": self.note,
        }

    def table(self) -> Table:
        """Return a table of tensors and streams for the terminal."""
        from rich.table import Table

        table = Table(
            title=f"predicted on {self.spec.cell.name} after {format_time(self.at_seconds)}", caption=self.note
        )
        for heading in ("tensor", "stream", "items", "cells per item", "SDR dB"):
            table.add_column(heading, justify="left" if heading in ("tensor", "stream") else "right")
        for tensor in self.tensors:
            mine = [s for s in self.streams if s.tensor == tensor.tensor]
            for part in (tensor, *mine):
                quality = "" if math.isnan(part.sdr_db) else f"{part.sdr_db:.2f}"
                first = "" if part.stream else part.tensor
                table.add_row(first, part.stream, f"{part.items:,}", f"{part.cells_per_value:.3f}", quality)
        total = f"{self.weights:,}", f"{self.cells_per_value:.3f}", f"{self.sdr_db:.2f}"
        table.add_row("all", "", *total, style="bold")
        return table

    def __repr__(self) -> str:
        return (
            f"Prediction({self.sdr_db:.2f} dB with {self.cells_per_value:.4g} cells per weight on "
            f"{self.spec.cell.name} after {format_time(self.at_seconds)}; {self.note})"
        )


def _sdr(power: float, error: float) -> float:
    if math.isnan(power):
        return math.nan
    return math.inf if error <= 0 else -math.inf if power <= 0 else sdr_db(error / power)
