"""What time does to states, as tables at the times of measurement, and what lies between them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memristore.devices.curve import Curve, curve_from_dict
from memristore.errors import DeviceError

F64 = npt.NDArray[np.float64]

_KNOTS: Final = 65


@dataclass(frozen=True, kw_only=True)
class AgedAt:
    """Shift and spread that states have gained by one time.

    Parameters
    ----------
    at : float
        Seconds after programming.
    shift, spread : Curve
        u to the mean shift and to the added spread; state units.

    Raises
    ------
    DeviceError
        If the time is not positive and finite.
    """

    at: float
    shift: Curve = field(default_factory=Curve)
    spread: Curve = field(default_factory=Curve)

    def __post_init__(self) -> None:
        if not (isinstance(self.at, (int, float)) and 0 < self.at < math.inf):
            raise DeviceError(f"ageing: 'at' must be a positive time in seconds, not {self.at!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the form that device files use."""
        out: dict[str, Any] = {"at": self.at}
        for name in ("shift", "spread"):
            if curve := getattr(self, name):
                out[name] = curve.to_dict()
        return out


def series_from_list(data: Any, where: str) -> tuple[AgedAt, ...]:
    """Read the list ``ageing`` of a device file; `where` names it in errors."""
    if not isinstance(data, (list, tuple)) or not all(isinstance(item, dict) for item in data):
        raise DeviceError(f"{where}: a list of tables with 'at', 'shift' and 'spread', not {data!r}")
    known = {item.name for item in dataclasses.fields(AgedAt)}
    out = []
    for number, item in enumerate(data, 1):
        if unknown := sorted(set(item) - known):
            raise DeviceError(
                f"{where} {number}: unknown key {', '.join(unknown)}; keys are {', '.join(sorted(known))}"
            )
        curves = {k: curve_from_dict(item[k], f"{where} {number}: {k}") for k in ("shift", "spread") if k in item}
        out.append(AgedAt(at=item.get("at", math.nan), **curves))
    return tuple(out)


def check_series(name: str, series: tuple[AgedAt, ...]) -> None:
    """Raise `DeviceError` unless times rise."""
    times = [item.at for item in series]
    if any(late <= early for early, late in itertools.pairwise(times)):
        raise DeviceError(f"{name}: the times of 'ageing' must rise, not {times}")


@functools.lru_cache(maxsize=256)
def between(series: tuple[AgedAt, ...], t0: float, at: float) -> tuple[Curve, Curve]:
    """Shift and spread that states have gained by a time.

    Shift and variance are straight lines in ln(1 + t / t0), from nothing at t = 0 through the times of the series;
    after the last of them they stay as they are.

    Parameters
    ----------
    series : tuple of AgedAt
        In order of time.
    t0 : float
        Seconds.
    at : float
        Seconds after programming.

    Returns
    -------
    shift, spread : Curve
        Against u; state units.
    """
    for item in series:
        if item.at == at:
            return item.shift, item.spread
    if at >= series[-1].at:
        return series[-1].shift, series[-1].spread
    late = next(k for k, item in enumerate(series) if item.at > at)
    after, before = series[late], series[late - 1] if late else None
    start = math.log1p(before.at / t0) if before else 0.0
    share = (math.log1p(at / t0) - start) / (math.log1p(after.at / t0) - start)

    def mixed(name: str, power: int) -> Curve:
        pair = [getattr(item, name) if item else Curve() for item in (before, after)]
        if not any(pair):
            return Curve()
        tables = [curve for curve in pair if curve.form == "table"]
        ends = (tables[0].start, tables[0].stop) if tables else (0.0, 1.0)
        knots = max((len(curve.values) for curve in tables), default=_KNOTS)
        u = np.linspace(*ends, knots)
        values = (1.0 - share) * pair[0](u) ** power + share * pair[1](u) ** power
        return Curve(form="table", values=tuple(float(v) for v in values ** (1.0 / power)), start=ends[0], stop=ends[1])

    return mixed("shift", 1), mixed("spread", 2)
