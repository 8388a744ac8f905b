"""The window with the least predicted error, and the masses of generalised Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

ENDS, REACHES = 32, 25


@dataclass(frozen=True)
class Search:
    """What `best_window` takes; `density` of shape (positions, knots), empty for the inverted mean."""

    low: float
    high: float
    count: float
    clip: float
    clip_cost: float
    symmetric: bool
    inverse_variance: F64
    density: F64
    step: float


def condense(sample: F32) -> tuple[F64, F64]:
    """Extremes one by one, the middle in groups: values and weights."""
    values = sample.astype(np.float64)
    weights = np.ones(values.size)
    if values.size > 4 * ENDS:
        middle = values[ENDS:-ENDS]
        starts = np.arange(0, middle.size, max(1, middle.size // 256))
        counts = np.diff(np.append(starts, middle.size))
        means = np.add.reduceat(middle, starts) / counts
        values = np.concatenate([values[:ENDS], means, values[-ENDS:]])
        weights = np.concatenate([np.ones(ENDS), counts, np.ones(ENDS)])
    return values, weights / weights.sum()


def edges(s: Search, centre: float, reach: float) -> tuple[float, float]:
    """Edges that keep what lies within `reach`; values of one sign keep their inner edge."""
    if s.symmetric:
        edge = min(reach, max(-s.low, s.high))
        return -edge, edge
    if s.low >= 0:
        inner = 0.0 if s.low < 0.02 * s.high else s.low
        return inner, min(s.high, inner + reach)
    if s.high <= 0:
        inner = 0.0 if s.high > 0.02 * s.low else s.high
        return max(s.low, inner - reach), inner
    return max(s.low, centre - reach), min(s.high, centre + reach)


def family(s: Search, values: F64, weights: F64, centre: float, centred: bool) -> F64:
    """Windows of rising reach, shape (k, 2)."""
    window: Callable[[float], tuple[float, float]] = lambda reach: (  # noqa: E731
        (max(s.low, centre - reach), min(s.high, centre + reach)) if centred else edges(s, centre, reach)
    )
    inner, outer = window(math.inf)
    one_sided = not centred and (s.low >= 0 or s.high <= 0)
    origin = centre if not one_sided else inner if s.low >= 0 else outer
    full = outer - inner if one_sided else max(outer - origin, origin - inner)
    if math.isinf(s.clip):
        return np.array([window(full)])
    if s.clip:
        mean = 0.0 if one_sided else float(np.sum(weights * values))
        spread = math.sqrt(float(np.sum(weights * np.square(values - mean))))
        reach = max(s.clip * spread - (abs(origin) if one_sided else 0.0), 1e-3 * full)
        return np.array([window(min(full, reach))])
    distance = np.abs(values - origin)
    rank = np.argsort(distance, kind="stable")
    unit = float(distance[rank][np.searchsorted(np.cumsum(weights[rank]), 0.68)])
    return np.array([window(float(r)) for r in np.geomspace(max(min(unit, full), 1e-6 * full), full, REACHES)])


def judge(s: Search, values: F64, weights: F64, lo: float, hi: float) -> float:
    """Predicted squared error per value in a window."""
    grid = np.linspace(0.0, 1.0, s.inverse_variance.size)
    true = (values - lo) / (hi - lo)
    position = np.clip(true, 0.0, 1.0)
    if s.density.size == 0:
        noise = np.interp(position, grid, s.inverse_variance)
        error = float(np.sum((noise + s.clip_cost * np.square(true - position)) * weights))
    else:
        # Each value shared between the two positions beside it.
        share = np.maximum(1.0 - np.abs(position[:, None] - grid) * (grid.size - 1), 0.0) * weights[:, None]
        total, mean = share.sum(axis=0) @ s.density, (share * true[:, None]).sum(axis=0) @ s.density
        error = float(np.sum(np.square(true) * weights) - np.sum(np.square(mean) / np.maximum(total, 1e-300)) * s.step)
        error = max(error, 1e-14)
    missed = max(lo - s.low, 0.0) ** 2 + max(s.high - hi, 0.0) ** 2
    return (hi - lo) ** 2 * error + missed / s.count


def best_window(s: Search, sample: F32) -> tuple[float, float, float]:
    """Lower edge, upper edge and predicted error of the best window tried, for a sample in rising order."""
    values, weights = condense(sample)
    centre = float(values[np.searchsorted(np.cumsum(weights), 0.5)])
    best = (s.low, s.high, math.inf)
    away = s.low > 0.02 * s.high if s.low > 0 else s.high < 0.02 * s.low
    for centred in (False, True) if away and s.clip == 0 else (False,):
        tried = family(s, values, weights, centre, centred)
        middle = 3 * int(np.argmin([judge(s, values, weights, *w) for w in tried[::3]]))
        for lo, hi in tried[max(middle - 2, 0) : middle + 3]:
            error = judge(s, values, weights, lo, hi)
            if error < best[2]:
                best = (float(lo), float(hi), error)
    return best


def shape_masses(powers: F64, scales: F64) -> F64:
    """Sums of exp(-scale * power) by row and scale."""
    return np.asarray(np.exp(-scales[:, :, None] * powers[:, None, :]).sum(axis=2))
