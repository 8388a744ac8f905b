"""A device from a user's own table of writes and reads."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from memristore import _core
from memristore.devices.device import Device
from memristore.devices.law import along_time, tabulated
from memristore.devices.level_fit import F64, LevelFit, TimeFit, fit_levels, fit_time, monotone_branch
from memristore.errors import DeviceError

_ROLES: Final = {
    "write": "write parameter",
    "read": "read value",
    "cell": "cell",
    "time": "time since the write in seconds",
}
_TIMES: Final = {"time", "time_s", "seconds", "t_s", "t", "age", "age_s", "delay_s"}
_CELLS: Final = {"cell", "cell_id", "device", "device_id"}
#: Endings of a column's name: domain, factor to uS or ohm, unit of a state that is neither.
_UNITS: Final[dict[str, tuple[str, float, str]]] = {
    "ohm": ("log-resistance", 1.0, ""),
    "kohm": ("log-resistance", 1e3, ""),
    "mohm": ("log-resistance", 1e6, ""),
    "us": ("conductance", 1.0, ""),
    "ms": ("conductance", 1e3, ""),
    "ns": ("conductance", 1e-3, ""),
    "s": ("conductance", 1e6, ""),
    "na": ("conductance", 1.0, "nA"),
    "ua": ("conductance", 1.0, "uA"),
    "v": ("conductance", 1.0, "V"),
}
#: Distinct write parameters beyond which they are sorted into as many bins.
_BINS: Final = 48


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """Writes and reads, one row each.

    Parameters
    ----------
    parameter, state : ndarray, shape (n,)
        Write parameter as measured; read state, uS, log10(ohm) or `unit`.
    cell : ndarray of int, shape (n,), or None
        Number of the cell.
    time : ndarray, shape (n,), or None
        Seconds since the write.
    domain, unit : str
    source : str
        Where the table is from.
    columns : dict
        Name of the column that plays each role.
    """

    parameter: F64
    state: F64
    cell: npt.NDArray[np.int64] | None
    time: F64 | None
    domain: str
    unit: str
    source: str
    columns: dict[str, str]


def read_table(
    table: str | os.PathLike[str] | pd.DataFrame,
    *,
    write: str | None = None,
    read: str | None = None,
    cell: str | None = None,
    time: str | None = None,
    domain: str | None = None,
) -> Measurements:
    """Read a table of measurements.

    Parameters
    ----------
    table : path or DataFrame
        A CSV file with a heading (any delimiter), or its columns. The first column is the write parameter and the next
        the read value, unless they are named; columns called ``cell`` or ``device``, and ``time`` or ``time_s``, are
        found by name. The ending of the read column's name gives its unit: ``_ohm``, ``_kohm``, ``_Mohm`` (states are
        log10(ohm)), ``_S``, ``_mS``, ``_uS``, ``_nS`` (uS), ``_nA``, ``_uA``, ``_V``; without one, states are uS.
    write, read, cell, time : str, optional
        Names of columns.
    domain : {"conductance", "log-resistance"}, optional
        Overrides what the unit says; ``log-resistance`` takes the logarithm of ohms.

    Returns
    -------
    Measurements

    Raises
    ------
    DeviceError
        If the table cannot be read, lacks a column, or holds a value that cannot be used; it names the row.
    """
    frame, source = _frame(table)
    names = {str(name).strip().lower(): name for name in frame.columns}
    columns: dict[str, Any] = {"write": write, "read": read, "cell": cell, "time": time}
    for role, name in columns.items():
        if name is not None and name not in frame.columns:
            raise DeviceError(f"{source}: no column {name!r} for the {_ROLES[role]}; there are {_listed(frame)}")
    for role, known in (("cell", _CELLS), ("time", _TIMES)):
        if columns[role] is None:
            columns[role] = next((names[k] for k in names if k in known), None)
    for role in ("write", "read"):
        taken = {name for name in columns.values() if name is not None}
        if columns[role] is None:
            columns[role] = next((name for name in frame.columns if name not in taken), None)
        if columns[role] is None:
            raise DeviceError(f"{source}: no column for the {_ROLES[role]}; there are {_listed(frame)}")
    ending = str(columns["read"]).rsplit("_", 1)[-1].strip().lower()
    kind, factor, unit = _UNITS.get(ending, ("conductance", 1.0, ""))
    if domain not in (None, "conductance", "log-resistance"):
        raise DeviceError(f"{source}: unknown domain {domain!r}; there are conductance, log-resistance")
    if domain == "log-resistance" and kind == "conductance":
        factor, unit = 1.0, ""
    kind = domain or kind
    state = _numbers(frame, columns["read"], source, above=0.0 if kind == "log-resistance" else None) * factor
    seconds = None if columns["time"] is None else _numbers(frame, columns["time"], source, least=0.0)
    cells = None
    if columns["cell"] is not None:
        cells = pd.factorize(frame[columns["cell"]])[0].astype(np.int64)
        if np.any(cells < 0):
            raise DeviceError(f"{source}: row {int(np.argmax(cells < 0)) + 2} names no cell")
    return Measurements(
        parameter=_numbers(frame, columns["write"], source),
        state=np.log10(state) if kind == "log-resistance" else state,
        cell=cells,
        time=seconds,
        domain=kind,
        unit=unit,
        source=source,
        columns={role: str(name) for role, name in columns.items() if name is not None},
    )


def _listed(frame: pd.DataFrame) -> str:
    return ", ".join(map(str, frame.columns)) or "none"


def _frame(table: str | os.PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if isinstance(table, pd.DataFrame):
        frame, source = table.reset_index(drop=True), "table"
    else:
        path = Path(table)
        source = path.name
        try:
            frame = pd.read_csv(path, sep=_delimiter(path), comment="#", skipinitialspace=True)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"{path}: not a table that can be read ({error}); give a CSV file with a heading"
            ) from None
    if frame.empty:
        raise DeviceError(f"{source}: the table has no rows")
    return frame, source


def _delimiter(path: Path) -> str:
    """The commonest of the usual ones in the heading."""
    with path.open(encoding="utf-8") as file:
        heading = next((line for line in file if line.strip() and not line.startswith("#")), "")
    return max((",", ";", "\t"), key=heading.count)


def _numbers(
    frame: pd.DataFrame, column: Any, source: str, *, above: float | None = None, least: float | None = None
) -> F64:
    values: F64 = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
    wrong, wanted = ~np.isfinite(values), "a finite number"
    if above is not None:
        wrong, wanted = wrong | ~(values > above), f"a number above {above:g}"
    if least is not None:
        wrong, wanted = wrong | ~(values >= least), f"a number from {least:g} on"
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise DeviceError(f"{source}: row {row + 2}, column {column}: {frame[column].iloc[row]!r} is not {wanted}")
    return values


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredDevice:
    """A device and what it was made from.

    Parameters
    ----------
    device : Device
        Its `branch` is where the mean response is monotone; linear maps use that, levels and capacities all of it.
    measurements : Measurements
    levels : LevelFit
        Mean and spreads at each write parameter.
    aged : TimeFit or None
        What time does, where times are given.
    notes : tuple of str
        What a reader should know of the fit.
    """

    device: Device
    measurements: Measurements
    levels: LevelFit
    aged: TimeFit | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as plain numbers: one row for each level."""
        fit, aged = self.levels, self.aged
        rows = []
        for k in range(fit.parameter.size):
            row = {
                "parameter": float(fit.parameter[k]),
                "mean": float(fit.mean[k]),
                "write_spread": float(fit.within[k]),
                "cell_spread": float(fit.between[k]),
                "reads": int(fit.count[k]),
                "outliers": int(fit.outliers[k]),
            }
            if aged is not None:
                row |= {"drift_mean": float(aged.slope[k]), "drift_spread": float(aged.slope_spread[k])}
            rows.append(row)
        low, high = self.device.branch
        span = fit.parameter[-1] - fit.parameter[0]
        return {
            "device": self.device.name,
            "source": self.measurements.source,
            "columns": self.measurements.columns,
            "unit": self.device.unit,
            "branch": [float(fit.parameter[0] + low * span), float(fit.parameter[0] + high * span)],
            "levels": rows,
            "notes": list(self.notes),
        }


def fit_measurements(
    table: str | os.PathLike[str] | pd.DataFrame | Measurements,
    *,
    name: str | None = None,
    title: str | None = None,
    technology: str = "unknown",
    citation: str | None = None,
    **columns: Any,
) -> MeasuredDevice:
    """Make a device from a table of measurements.

    Reads further than six robust spreads (1.4826 times the median distance) from the median of their write parameter
    count as outliers, and as six spreads away. Where cells are named, the spread between cells is kept
    apart from that of writes (one-way analysis of variance at each parameter; where each cell was written once at each,
    from its mean offset over all of them). Where times are given, power laws in (t + t0) / t0 are fitted, t0 the
    earliest time above zero, to each cell where cells are named; where states move the other way, tables over time.

    Parameters
    ----------
    table : path, DataFrame or Measurements
        See `read_table`, which takes the keywords `write`, `read`, `cell`, `time` and `domain` from here.
    name, title, technology, citation : str, optional
        Of the device; by default the file's name without its ending.

    Returns
    -------
    MeasuredDevice

    Raises
    ------
    DeviceError
        If the table cannot be used: see `read_table`; or has fewer than two levels, fewer than three reads of one, or
        means that do not depend on the write parameter.
    """
    data = table if isinstance(table, Measurements) else read_table(table, **columns)
    notes: list[str] = []
    place, parameter = _levels(data.parameter, notes)
    aged = None if data.time is None else fit_time(data.state, place, data.cell, data.time, data.domain, data.source)
    if aged is None:
        levels = fit_levels(data.state, place, parameter, data.cell, data.source)
    else:
        levels = fit_levels(aged.start, aged.place, parameter, aged.cell, data.source, aged)
        notes += aged.notes
    if not float(np.ptp(levels.mean)) > 0:
        raise DeviceError(f"{data.source}: the reads do not depend on the write parameter")
    span = float(parameter[-1] - parameter[0])
    x = (parameter - parameter[0]) / span
    low, high = monotone_branch(levels)
    key = name or Path(data.source).stem
    rare = int(levels.outliers.sum())
    if rare:
        notes.append(
            f"{rare} of {int(levels.count.sum())} reads are outliers, and count as six robust spreads from their median"
        )
    if data.cell is None:
        notes.append("no cells are named: all spread counts as that of single writes")
    if data.time is None:
        notes.append("no data on time: states are taken as constant")
    unit = data.unit or ("log10(ohm)" if data.domain == "log-resistance" else "uS")
    told = [f"x = ({data.columns['write']} - {parameter[0]:g}) / {span:g}; states in {unit}", *notes]
    device = Device(
        name=key,
        title=title or f"Measured cells of {data.source}",
        technology=technology,
        citation=citation or f"computed from the measurements of {data.source}",
        mark="computed",
        domain=data.domain,
        state_unit=data.unit,
        state_range=(float(levels.mean.min()), float(levels.mean.max())),
        clip=(0.0, math.inf) if data.domain == "conductance" and data.state.min() >= 0 else (-math.inf, math.inf),
        samples=int(levels.count.min()),
        branch=(float(x[low]), float(x[high])),
        response=tabulated(x, levels.mean),
        write=tabulated(x, levels.within),
        cell=tabulated(x, levels.between),
        time_data=data.time is not None,
        notes=" ".join(f"{note[0].upper() if k else note[0]}{note[1:]}." for k, note in enumerate(told)),
        **({} if aged is None else along_time(levels, aged)),
    )
    return MeasuredDevice(device=device, measurements=data, levels=levels, aged=aged, notes=tuple(notes))


def _levels(values: F64, notes: list[str]) -> tuple[npt.NDArray[np.int64], F64]:
    """Number of each row's level, and the write parameter of each level."""
    parameter, place = np.unique(values, return_inverse=True)
    if parameter.size > _core.MAX_KNOTS:
        edges = np.linspace(parameter[0], parameter[-1], _BINS + 1)
        bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
        kept, place = np.unique(bins, return_inverse=True)
        notes.append(f"{parameter.size} write parameters are sorted into {kept.size} equal bins")
        parameter = 0.5 * (edges[kept] + edges[kept + 1])
    return place.reshape(-1).astype(np.int64), parameter
