"""Means and spreads of measured levels, and what time does to them: robust against outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.errors import DeviceError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Robust spreads from the median beyond which a read is an outlier: two in a thousand million of normal ones.
REACH: Final = 6.0
_FEWEST: Final = 3
_TO_SPREAD: Final = 1.4826


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelFit:
    """Statistics at each write parameter, arrays of shape (levels,).

    Parameters
    ----------
    parameter, mean : ndarray
        Write parameter; mean state.
    within, between : ndarray
        Spread of single writes, and of cells; state units.
    read : ndarray
        Spread of reads of one state, where times tell it from writes; else 0.
    count, outliers : ndarray of int
        Reads, and how many of them count as less far off than they are.
    """

    parameter: F64
    mean: F64
    within: F64
    between: F64
    read: F64
    count: I64
    outliers: I64


@dataclass(frozen=True, kw_only=True, eq=False)
class TimeFit:
    """Straight lines of states in ln((t + t0) / t0).

    Parameters
    ----------
    t0, until : float
        Reference time and the oldest read, seconds.
    start : ndarray, shape (tracks,)
        State of each track at t = 0; `place` and `cell` say of which level and cell.
    slope, slope_spread : ndarray, shape (levels,)
        Drift exponent and its spread over cells. Positive: conductance falls, resistance rises.
    read, start_error : ndarray, shape (levels,)
        Spread of reads about the lines, and the error of `start` that they make; state units.
    relative : bool
        Whether read noise goes with the state: conductances, whose lines are in logarithms.
    times : ndarray, shape (times,)
    shift, spread : ndarray, shape (times, levels)
        Mean and added spread at each time, state units.
    power_law : bool
        Whether the lines describe the data: no level moves the other way.
    notes : tuple of str
    """

    t0: float
    until: float
    start: F64
    place: I64
    cell: I64 | None
    slope: F64
    slope_spread: F64
    read: F64
    start_error: F64
    relative: bool
    times: F64
    shift: F64
    spread: F64
    power_law: bool
    notes: tuple[str, ...]


def tamed(values: F64) -> F64:
    """Values, shape (n,), those beyond six robust spreads from their median brought there.

    A slip of the instrument then decides nothing, and rare reads that are real still widen the spread.
    """
    middle = float(np.median(values))
    spread = _TO_SPREAD * float(np.median(np.abs(values - middle)))
    # More than half of the reads alike: a spread of zero would call all others outliers.
    return np.clip(values, middle - REACH * spread, middle + REACH * spread) if spread > 0 else values


def fit_levels(
    state: F64, place: I64, parameter: F64, cell: I64 | None, source: str, aged: TimeFit | None = None
) -> LevelFit:
    """Means and spreads of each level.

    Parameters
    ----------
    state, place, cell : ndarray, shape (n,)
        State, number of the level, and number of the cell if cells are named.
    parameter : ndarray, shape (levels,)
    source : str
        Named in errors.
    aged : TimeFit, optional
        Where states are those of lines over time: their error is taken off the spread of writes.

    Raises
    ------
    DeviceError
        If there are fewer than two levels, or fewer than three reads of one.
    """
    size = parameter.size
    count = np.bincount(place, minlength=size)
    if size < 2:
        raise DeviceError(f"{source}: needs at least two write parameters, not {size}")
    if count.min() < _FEWEST:
        level = int(np.argmin(count))
        raise DeviceError(
            f"{source}: {count[level]} reads at write parameter {parameter[level]:g}; a spread needs {_FEWEST} or more"
        )
    near = state.copy()
    mean, total = np.zeros(size), np.zeros(size)
    for level in range(size):
        rows = place == level
        near[rows] = mine = tamed(state[rows])
        mean[level], total[level] = mine.mean(), mine.var(ddof=1)
    within, between = total, np.zeros(size)
    if cell is not None:
        within, between = _by_cells(near, place, cell, mean, total)
    noise = np.zeros(size)
    if aged is not None:
        noise, within = aged.read, np.maximum(within - np.square(aged.start_error), 0.0)
    outliers = np.bincount(place[near != state], minlength=size)
    return LevelFit(
        parameter=parameter, mean=mean, within=np.sqrt(within), between=np.sqrt(between), read=noise,
        count=count.astype(np.int64), outliers=outliers.astype(np.int64),
    )  # fmt: skip


def _by_cells(state: F64, place: I64, cell: I64, mean: F64, total: F64) -> tuple[F64, F64]:
    """Variances within and between cells at each level."""
    size, cells = mean.size, int(cell.max()) + 1
    group = place * cells + cell
    number = np.bincount(group, minlength=size * cells).reshape(size, cells).astype(np.float64)
    sums = np.bincount(group, state, minlength=size * cells).reshape(size, cells)
    squares = np.bincount(group, np.square(state - mean[place]), minlength=size * cells).reshape(size, cells)
    means = np.divide(sums, number, out=np.zeros_like(sums), where=number > 0)
    offset = np.where(number > 0, means - mean[:, None], 0.0)
    degrees = np.maximum(number - 1, 0).sum(axis=1)
    present = (number > 0).sum(axis=1)
    if np.any(present < 2):
        # With one cell nothing tells its offset from the level's mean.
        return total, np.zeros(size)
    if np.all(degrees > 0):
        inside = np.maximum(squares - number * np.square(offset), 0.0).sum(axis=1) / degrees
        share = np.divide(1.0, number, out=np.zeros_like(number), where=number > 0).sum(axis=1) / present
        middle = offset.sum(axis=1) / present
        spread = (np.square(offset - middle[:, None]) * (number > 0)).sum(axis=1) / (present - 1)
        return inside, np.maximum(spread - inside * share, 0.0)
    # Written once at each level: the offset that a cell shows at all of them is its own.
    times = np.maximum((number > 0).sum(axis=0), 1)
    own = offset.sum(axis=0) / times
    rest = (np.square(offset - own) * (number > 0)).sum(axis=1) / np.maximum(present - 1, 1)
    cells_spread = max(float(own.var(ddof=1)) - float(rest.mean() / times.mean()), 0.0)
    between = np.minimum(np.full(size, cells_spread), total)
    return total - between, between


def monotone_branch(fit: LevelFit) -> tuple[int, int]:
    """First and last level of the run of levels that covers the most states and rises, or falls, all along.

    Steps back of two standard errors count as chance.
    """
    slack = 2.0 * np.hypot(fit.within, fit.between) / np.sqrt(np.maximum(fit.count, 1))
    best, widest = (0, fit.mean.size - 1), 0.0
    for values in (fit.mean, -fit.mean):
        for first in range(values.size - 1):
            top, last = values[first], first
            for k in range(first + 1, values.size):
                if values[k] >= top:
                    top, last = values[k], k
                elif top - values[k] > slack[k]:
                    break
            if top - values[first] > widest:
                widest, best = float(top - values[first]), (first, last)
    return best


def fit_time(state: F64, place: I64, cell: I64 | None, time: F64, domain: str, source: str) -> TimeFit:
    """Lines in ln((t + t0) / t0) through the states of each cell, or of each level where cells are not named.

    Raises
    ------
    DeviceError
        If a level was read at one time only.
    """
    positive = time[time > 0]
    if positive.size == 0 or np.ptp(time) == 0:
        raise DeviceError(f"{source}: all reads are of one time; leave the time column out")
    if domain == "conductance" and not state.min() > 0:
        raise DeviceError(f"{source}: conductances must be positive where times are given, to follow a power law")
    t0 = float(positive.min())
    age = np.log1p(time / t0)
    # A power law is a line in these coordinates; falling conductance and rising resistance have positive slopes.
    y = -np.log(state) if domain == "conductance" else state * np.log(10.0)
    size = int(place.max()) + 1
    for level in range(size):
        for moment in np.unique(time[place == level]):
            rows = (place == level) & (time == moment)
            y[rows] = tamed(y[rows]) if rows.sum() > 4 else y[rows]
    lines = _lines(y, age, place, cell)
    start = np.exp(-lines.start) if domain == "conductance" else lines.start / np.log(10.0)
    times = np.unique(time[time > 0])
    shift, spread = np.zeros((times.size, size)), np.zeros((times.size, size))
    for level in range(size):
        mine = start[lines.place == level]
        for k, moment in enumerate(times):
            rows = (place == level) & (time == moment)
            if rows.sum() > 1:
                shift[k, level] = state[rows].mean() - mine.mean()
                spread[k, level] = np.sqrt(max(state[rows].var(ddof=1) - mine.var(ddof=1), 0.0))
            elif k:
                shift[k, level], spread[k, level] = shift[k - 1, level], spread[k - 1, level]
    relative = domain == "conductance"
    scale = np.array([start[lines.place == level].mean() if relative else 1.0 / np.log(10.0) for level in range(size)])
    back_way = np.flatnonzero(lines.slope < -2.0 * lines.error)
    notes = []
    if back_way.size:
        notes.append(f"{back_way.size} levels move against the power law: ageing is kept as tables over time")
    if cell is None:
        notes.append("no cells are named: the spread of drift is what the spread of levels gained")
    return TimeFit(
        t0=t0, until=float(time.max()), start=start, place=lines.place, cell=lines.cell,
        slope=np.maximum(lines.slope, 0.0) if not back_way.size else lines.slope, slope_spread=lines.slope_spread,
        read=lines.rest * scale, start_error=lines.error_of_start * scale, relative=relative,
        times=times, shift=shift, spread=spread, power_law=not back_way.size, notes=tuple(notes),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lines:
    """Lines through tracks: starts by track; slopes, their errors and spreads and what is left by level."""

    start: F64
    place: I64
    cell: I64 | None
    slope: F64
    error: F64
    slope_spread: F64
    rest: F64
    error_of_start: F64


def _lines(y: F64, age: F64, place: I64, cell: I64 | None) -> _Lines:
    size = int(place.max()) + 1
    tracks = place if cell is None else place * (int(cell.max()) + 1) + cell
    starts: list[F64] = []
    places: list[I64] = []
    cells: list[I64] = []
    slope, error, spread, rest, error_of_start = (np.zeros(size) for _ in range(5))
    for level in range(size):
        mine = place == level
        slopes, offsets, owner, lever, reach = [], [], [], [], []
        squares, degrees = 0.0, 0
        for track in np.unique(tracks[mine]):
            rows = mine & (tracks == track)
            middle = age[rows].mean()
            power = float(np.square(age[rows] - middle).sum())
            if power <= 0:
                continue
            own = float(((age[rows] - middle) * y[rows]).sum() / power)
            offset = float(y[rows].mean() - own * middle)
            squares += float(np.square(y[rows] - offset - own * age[rows]).sum())
            degrees += max(int(rows.sum()) - 2, 0)
            slopes.append(own)
            offsets.append(offset)
            lever.append(1.0 / power)
            reach.append(1.0 / float(rows.sum()) + middle**2 / power)
            owner.append(-1 if cell is None else int(cell[rows][0]))
        if not slopes:
            raise DeviceError(f"level {level + 1} was read at one time only; leave its rows or the time column out")
        noise = squares / degrees if degrees else 0.0
        slope[level] = float(np.mean(slopes))
        if cell is None:
            variance, gained = _growth(y[mine], age[mine], slope[level])
            spread[level] = np.sqrt(gained)
            error[level] = np.sqrt(noise * lever[0])
            # No tracks to take the start of: every read goes back along the mean line.
            starts.append(offsets[0] + (y[mine] - offsets[0] - slope[level] * age[mine]) * np.sqrt(variance))
            places.append(np.full(int(mine.sum()), level))
        else:
            rest[level] = np.sqrt(noise)
            error_of_start[level] = np.sqrt(noise * float(np.mean(reach)))
            own_noise = noise * float(np.mean(lever))
            total = float(np.var(slopes, ddof=1)) if len(slopes) > 1 else 0.0
            spread[level] = np.sqrt(max(total - own_noise, 0.0))
            error[level] = np.sqrt(max(total, own_noise) / len(slopes))
            starts.append(np.array(offsets))
            places.append(np.full(len(offsets), level))
            cells.append(np.array(owner))
    return _Lines(
        start=np.concatenate(starts), place=np.concatenate(places),
        cell=np.concatenate(cells) if cells else None,
        slope=slope, error=error, slope_spread=spread, rest=rest, error_of_start=error_of_start,
    )  # fmt: skip


def _growth(y: F64, age: F64, slope: float) -> tuple[F64, float]:
    """Share of the variance about the mean line that is there at the start, for each read; variance of slopes."""
    square = np.square(y - y.mean() - slope * (age - age.mean()))
    a = np.stack([np.ones_like(age), np.square(age)], axis=1)
    first, gained = np.linalg.lstsq(a, square, rcond=None)[0]
    first, gained = max(float(first), 1e-12 * float(square.mean())), max(float(gained), 0.0)
    return first / (first + gained * np.square(age)), gained
