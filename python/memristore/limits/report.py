"""How much of each source fits into a device's cells: rows for tables, plots and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from memristore.devices import Device
from memristore.errors import SpecError
from memristore.limits.capacity import capacity
from memristore.limits.rate_distortion import cells_for, opta
from memristore.limits.sources import Gaussian, Source
from memristore.units import Time, parse_time

if TYPE_CHECKING:
    from memristore.array import Write

#: Read times and cells per value that are looked at unless said otherwise.
TIMES: Final[tuple[Time, ...]] = (0, "1 hour", "1 day", "30 days", "1 year", "10 years")
CELLS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
#: SDR, dB, for which the fewest cells are given.
SDR: Final = 20.0


def rows(
    device: Device,
    times: Sequence[Time] = TIMES,
    cells_per_value: Sequence[float] = CELLS,
    sources: Sequence[Source] = (Gaussian(),),
    *,
    sdr: float = SDR,
    write: Write | None = None,
) -> list[dict[str, Any]]:
    """Limits of a device over time.

    Parameters
    ----------
    device : Device
    times : sequence of time
        Since programming.
    cells_per_value : sequence of float
        Cells for each stored value.
    sources : sequence of Source
        What the values are.
    sdr : float
        Signal-to-distortion ratio, dB, for which the fewest cells per value are given.
    write : Write, optional
        How cells are written; default: once, without verifying.

    Returns
    -------
    list of dict
        One for each time, source and number of cells: ``device``, ``at_seconds``, ``capacity_bits`` (bits per cell),
        ``source`` (its dict form), ``cells_per_value``, ``bits_per_value``, ``sdr_db`` (the best that any code could
        reach, infinite where the values can be kept exactly) and ``cells_for_sdr`` (cells per value for `sdr`,
        infinite without capacity).

    Raises
    ------
    SpecError
        If nothing is asked for, or a number is out of range.
    """
    if not (times and cells_per_value and sources):
        raise SpecError("limits need at least one time, one number of cells per value and one source")
    given: dict[str, Any] = {} if write is None else {"write": write}
    found = []
    for at in [parse_time(time) for time in times]:
        bits = max(float(capacity(device, at, **given).bits), 0.0)
        for source in sources:
            fewest = cells_for(source, sdr, bits)
            found += [
                {
                    "device": device.name,
                    "at_seconds": at,
                    "capacity_bits": bits,
                    "source": source.to_dict(),
                    "cells_per_value": float(cells),
                    "bits_per_value": bits * cells,
                    "sdr_db": opta(source, bits, cells),
                    "cells_for_sdr": fewest,
                }
                for cells in cells_per_value
            ]
    return found
