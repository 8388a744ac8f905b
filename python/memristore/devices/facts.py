"""Figures of a device that do not enter the simulation: endurance, energy and time of a pulse, area of a cell."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from memristore.errors import DeviceError

#: What may be told, with the units it is told in.
QUANTITIES: Final = {
    "endurance": "writes",
    "pulse_time": "s",
    "pulse_energy": "J",
    "pulse_current": "uA",
    "pulses_per_write": "pulses",
    "cell_area": "F^2",
    "retention": "years",
}
_MARKS: Final = ("sourced", "computed", "recalled")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A figure or the range that a survey found, with its source.

    Parameters
    ----------
    what : str
        One of `QUANTITIES`, which gives the unit.
    low, high : float
        Equal for a single figure.
    mark : {"sourced", "computed", "recalled"}
    source : str
        Where it is from, and what it holds for: often a technology, and not this device.

    Raises
    ------
    DeviceError
        If the quantity or the mark is unknown, or the range is none.
    """

    what: str
    low: float
    high: float
    mark: str
    source: str

    def __post_init__(self) -> None:
        if self.what not in QUANTITIES:
            raise DeviceError(f"facts: unknown quantity {self.what!r}; there are {', '.join(QUANTITIES)}")
        if self.mark not in _MARKS:
            raise DeviceError(f"facts: {self.what}: unknown mark {self.mark!r}; there are {', '.join(_MARKS)}")
        numbers = all(isinstance(v, (int, float)) for v in (self.low, self.high))
        if not (numbers and 0 <= self.low <= self.high < math.inf):
            raise DeviceError(f"facts: {self.what}: needs finite numbers 0 <= low <= high")
        if not self.source:
            raise DeviceError(f"facts: {self.what}: needs a source")

    def __str__(self) -> str:
        span = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{span} {QUANTITIES[self.what]} ({self.mark}: {self.source})"

    def to_dict(self) -> dict[str, Any]:
        """Return the form that device files use, without its name."""
        out = asdict(self)
        del out["what"]
        return out


def facts_from_dict(data: Any, where: str) -> tuple[Fact, ...]:
    """Read the table ``facts`` of a device file; `where` names it in errors."""
    if not isinstance(data, dict):
        raise DeviceError(f"{where}: a table of quantities, not {data!r}")
    try:
        return tuple(Fact(what=what, **figures) for what, figures in data.items())
    except TypeError as error:
        raise DeviceError(f"{where}: each takes low, high, mark and source ({error})") from None
