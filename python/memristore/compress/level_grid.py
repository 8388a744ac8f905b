"""Tensors whose values lie on a grid, as a network has them that was trained with quantised weights: coded exactly."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.compress.level_stream import MAX_LIMIT, LevelCoder, write_levels
from memristore.compress.trellis_fit import STEPS, Source, context_coder

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

#: Fewer values than this for each magnitude make no grid worth looking for.
_VALUES_EACH: Final = 4
#: The step may be the least difference between magnitudes over one of these.
_PARTS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
#: Steps tried around the quotient of the largest magnitude and its level, in units in the last place.
_LAST_PLACES: Final = 4


def grid_of(values: F32) -> tuple[np.float32, I32] | None:
    """Find the step of which all values are multiples, as float32 rounds them.

    Parameters
    ----------
    values : ndarray, shape (n,), float32
        Finite.

    Returns
    -------
    float32, ndarray of int32
        The step and the level of each value, at most `MAX_LIMIT`; None if there is no such step, or if values are too
        few for their levels.
    """
    magnitude = np.abs(values)
    sample = np.unique(magnitude[: 16 * MAX_LIMIT])
    if not 0 < sample.size <= min(MAX_LIMIT + 1, values.size / _VALUES_EACH):
        return None
    distinct = sample if values.size <= 16 * MAX_LIMIT else np.unique(magnitude)
    if not 0 < distinct.size <= MAX_LIMIT + 1 or distinct[-1] == 0:
        return None
    points = distinct.astype(np.float64)
    least = float(np.diff(np.r_[0.0, points])[np.r_[points[0] > 0, np.full(points.size - 1, True)]].min())
    for part in _PARTS:
        step = _step(distinct, points, least / part)
        if step is not None:
            return step, np.rint(values / np.float64(step)).astype(np.int32)
    return None


def _step(distinct: F32, points: F64, near: float) -> np.float32 | None:
    """Return the float32 step close to `near` whose multiples are exactly these magnitudes."""
    level = np.rint(points / near)
    if not 0 < level[-1] <= MAX_LIMIT:
        return None
    # Least squares first: the difference of two rounded numbers is a poor step.
    level = np.rint(points * (float(level @ level) / float(level @ points)))
    if not 0 < level[-1] <= MAX_LIMIT:
        return None
    found = np.float32(points[-1] / level[-1])
    for up in range(-_LAST_PLACES, _LAST_PLACES + 1):
        step = found
        for _ in range(abs(up)):
            step = np.nextafter(step, np.float32(np.inf if up > 0 else 0))
        if STEPS[0] < step / 2 < STEPS[1] and np.array_equal(level.astype(np.float32) * step, distinct):
            return step
    return None


def grid_coder(values: F32) -> tuple[LevelCoder, I32] | None:
    """Find the uniform quantiser of values that lie on a grid.

    Parameters
    ----------
    values : ndarray, shape (n,), float32
        Finite.

    Returns
    -------
    LevelCoder, ndarray of int32
        A coder without tables that gives exactly these values (-0 as 0), and their levels; None if they lie on no grid.
    """
    found = grid_of(values)
    if found is None:
        return None
    step, levels = found
    # Points of a quantiser with one state are even multiples of half its step.
    return LevelCoder(1, np.float32(step / 2), ()), levels


def write_grid(values: F32, threads: int) -> bytes | None:
    """Code values that lie on a grid, with tables.

    Parameters
    ----------
    values : ndarray, shape (n,), float32
        Finite.
    threads : int
        For kernels; 0 means all.

    Returns
    -------
    bytes
        For :func:`memristore.compress.level_stream.read_levels`; None if they lie on no grid.
    """
    found = grid_coder(values)
    if found is None:
        return None
    coder, levels = found
    source = Source(values, (slice(0, values.size),), threads)
    return write_levels(context_coder(source, levels, coder), levels, None, values.size)
