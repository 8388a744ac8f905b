"""Times: seconds or words such as ``"1 hour"`` and ``"10 years"``. Units inside the library are uS, seconds, kelvin."""

from __future__ import annotations

import math
import re
from typing import Final

from memristore.errors import SpecError

#: Seconds per unit. A month is 30 days and a year 365 days, as retention times are usually quoted.
SECONDS: Final[dict[str, float]] = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "week": 604800.0,
    "month": 2592000.0,
    "year": 31536000.0,
}
_SHORT: Final[dict[str, str]] = {
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "y": "year",
    "yr": "year",
}
_PATTERN: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*")

Time = float | int | str


def parse_time(time: Time) -> float:
    """Turn a time into seconds.

    Parameters
    ----------
    time : float, int or str
        Seconds, or a number and a unit: ``"30 s"``, ``"1 hour"``, ``"10 years"``.

    Returns
    -------
    float
        Seconds, finite and not negative.

    Raises
    ------
    SpecError
        If the time is negative, not finite, or not understood.
    """
    if isinstance(time, str):
        match = _PATTERN.fullmatch(time)
        if match is None:
            raise SpecError(f"cannot read the time {time!r}; write for example '1 hour', '10 years' or '3600'")
        unit = match[2].lower() or "second"
        unit = _SHORT.get(unit, unit)
        unit = unit if unit in SECONDS else unit.removesuffix("s")
        if unit not in SECONDS:
            raise SpecError(f"unknown unit in the time {time!r}; units are {', '.join(SECONDS)}")
        seconds = float(match[1]) * SECONDS[unit]
    else:
        try:
            seconds = math.nan if isinstance(time, bool) else float(time)
        except (TypeError, ValueError):
            raise SpecError(f"a time is seconds or a string such as '1 year', not {time!r}") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise SpecError(f"a time must be finite and not negative, not {time!r}")
    return seconds


def format_time(seconds: float) -> str:
    """Write seconds in the largest unit that divides them evenly, else with three digits.

    Parameters
    ----------
    seconds : float
        A time, seconds.

    Returns
    -------
    str
        For example ``"1 year"``, ``"90 seconds"``, ``"2.5 hours"``.
    """
    if seconds == 0:
        return "0"
    best = "second"
    for unit, size in SECONDS.items():
        if seconds >= size:
            best = unit
        if unit not in {"week", "month"} and seconds >= size and seconds % size == 0:
            best = unit
    if best in ("week", "month"):
        best = "day"
    value = seconds / SECONDS[best]
    text = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{text} {best}" + ("" if text == "1" else "s")
