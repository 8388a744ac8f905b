"""Points of rate-distortion curves for mean squared error, by Blahut's algorithm with bounds on what it still misses.

Blahut, IEEE Transactions on Information Theory 18, 1972. Grid points are a quarter or an eighth of the error's
standard deviation apart; values that repeat exactly keep their own places. The iteration stops when upper and lower
bound are 0.001 bit apart.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from memristore.errors import SpecError
from memristore.limits.sources import Source

F64 = npt.NDArray[np.float64]

#: Slopes of neighbouring points are so many dB of distortion apart where Shannon's lower bound is tight.
STEP_DB: Final = 1.0
#: Most points of a grid.
MOST: Final = 1 << 18
# Bits between the bounds at which the iteration stops, its most rounds, and the power of its multiplicative step
# (plain Blahut is 1; below 2 it still converges, in nearly half the rounds at 1.8).
_GAP: Final = 1e-3
_ROUNDS: Final = 20_000
_POWER: Final = 1.8
# Grid points per standard deviation of the error, h of them: a few best reproductions, as low rates and repeated values
# have them, may lie half a step off the grid, which costs up to 1 / (8 h^2) nats; where they are spread the sums are
# exact. Last index that counts as low; probability left outside the grid.
_POINTS: Final = (4, 8)
_LOW: Final = 15
_TAIL: Final = 1e-6
# Reach of the error's density, in its standard deviations.
_REACH: Final = 7.0


@dataclass(frozen=True)
class Point:
    """A point of a rate-distortion curve.

    Parameters
    ----------
    distortion : float
        Relative to the variance.
    bits : float
        Rate that reaches it, bits per value; the least one lies at most `gap` below.
    slope : float
        Bits that a factor e in distortion costs: -dR / d ln D.
    gap : float
        Bits between the upper and the lower bound.
    """

    distortion: float
    bits: float
    slope: float
    gap: float


@functools.lru_cache(maxsize=4096)
def point(source: Source, k: float) -> Point:
    """Point k of a source's curve, at the slope that a Gaussian source has at k * STEP_DB dB.

    The rare values outside the grid are a source of their own, coded at the same slope; telling them apart costs less
    than 3e-5 bit.

    Raises
    ------
    SpecError
        If the bounds do not meet.
    """
    theta, step = _theta(source, k), _grid_step(source, k)
    grid = _grid(source, step, grid_size(source, k))
    inside = float(grid.cells.sum() + grid.masses.sum())
    error, nats, gap = _blahut(grid, inside, step / theta)
    error, bits = inside * error * theta**2, inside * nats / math.log(2)
    outside = 1 - inside
    if outside > 1e-12:
        power = float(grid.cells @ np.square(grid.places - source.mean))
        power += float(grid.masses @ np.square(grid.points - source.mean))
        variance = max((source.variance - power) / outside, 1e-9 * theta**2)
        error += outside * min(variance, theta**2)
        bits += outside * max(0.5 * math.log2(variance / theta**2), 0.0)
    return Point(error / source.variance, bits, 0.5 * error / theta**2 / math.log(2), gap)


def _theta(source: Source, k: float) -> float:
    """Standard deviation that the error has at point k where Shannon's lower bound is tight."""
    return math.sqrt(source.variance) * float(10 ** (-STEP_DB * k / 20))


def _grid_step(source: Source, k: float) -> float:
    points = _POINTS[1 if k <= _LOW or source.split().points.size > 1 else 0]
    return min(_theta(source, k), 0.5 * math.sqrt(source.variance)) / points


def grid_size(source: Source, k: float) -> int:
    """Points of the grid that :func:`point` needs."""
    low, high = source.span(_TAIL)
    return math.ceil((high - low) / _grid_step(source, k)) + 3


@dataclass(frozen=True, eq=False)
class _Grid:
    """Probabilities of cells at equally spaced places, and of values that repeat exactly at places of their own."""

    places: F64
    cells: F64
    points: F64
    masses: F64


def _grid(source: Source, step: float, size: int) -> _Grid:
    """Cells whose sums with smooth functions are integrals over the density."""
    split = source.split()
    low, _ = source.span(_TAIL)
    # The commonest repeated value, such as zero, lies on the grid.
    origin = float(split.points[np.argmax(split.masses)]) if split.points.size else source.mean
    places = origin + step * np.arange(size) + step * (math.floor((low - origin) / step) - 1)
    cells: F64 = np.zeros(size)
    if split.rest is not None:
        cells = split.share * np.diff(split.rest.cdf(np.append(places - 0.5 * step, places[-1] + 0.5 * step)))
        # A cell's mass moved to its middle adds step^2 / 12 to the variance; moving a share back to larger neighbours
        # undoes that.
        most = 0.25 * np.minimum(cells[1:], cells[:-1])
        flow = np.clip(np.diff(cells) / 24, -most, most)
        cells[1:] += flow
        cells[:-1] -= flow
    cells = np.maximum(cells, 0.0)
    return _Grid(places.astype(np.float64, copy=False), cells, split.points, split.masses)


@dataclass(frozen=True, eq=False)
class _Kernel:
    """exp(-error / 2) between values and reproductions, and sums with it; errors in theta^2."""

    taps: F64
    errors: F64
    near_points: Any
    point_errors: Any

    def seen(self, reproduction: F64, *, error: bool = False) -> F64:
        """Sums over reproductions at each place, then at each repeated value; weighted by the error on demand."""
        taps = self.taps * self.errors if error else self.taps
        grid: F64 = ndimage.convolve1d(reproduction, taps, mode="constant")
        if not self.near_points.shape[0]:
            return grid
        points = self.near_points.multiply(self.point_errors) if error else self.near_points
        return np.concatenate([grid, points @ reproduction])

    def back(self, weights: F64) -> F64:
        """Sums over values, as `seen` orders them, at each reproduction."""
        size = self.near_points.shape[1]
        found: F64 = ndimage.convolve1d(weights[:size], self.taps, mode="constant")
        return found + self.near_points.T @ weights[size:] if weights.size > size else found


def _kernel(grid: _Grid, step: float) -> _Kernel:
    """Kernel of a grid, `step` in units of theta."""
    size = grid.places.size
    reach = min(math.ceil(_REACH / step), size - 1)
    offsets = np.arange(-reach, reach + 1)
    errors = np.square(offsets * step)
    position = (grid.points - grid.places[0]) / (grid.places[1] - grid.places[0])
    columns = np.rint(position).astype(np.int64)[:, None] + offsets
    distances = np.square((columns - position[:, None]) * step)
    rows = np.broadcast_to(np.arange(position.size)[:, None], columns.shape)
    inside = (columns >= 0) & (columns < size)
    where = (rows[inside], columns[inside])
    shape = (position.size, size)
    near = sparse.csr_array((np.exp(-0.5 * distances[inside]), where), shape=shape)
    return _Kernel(np.exp(-0.5 * errors), errors, near, sparse.csr_array((distances[inside], where), shape=shape))


def _blahut(grid: _Grid, inside: float, step: float) -> tuple[float, float, float]:
    """Minimise rate + error / 2 over the distribution of reproductions on the grid.

    Parameters
    ----------
    grid : _Grid
    inside : float
        Its probabilities' sum.
    step : float
        In units of theta, where -dR/dD = 1 / (2 theta^2) nats.

    Returns
    -------
    error, nats, gap : float
        Mean squared error in theta^2; rate; bits between upper and lower bound.

    Raises
    ------
    SpecError
        If the bounds do not meet.
    """
    kernel = _kernel(grid, step)
    masses = np.concatenate([grid.cells, grid.masses]) / inside
    # A place that starts without probability never gets any.
    spread = kernel.back(masses)
    reproduction = grid.cells + 1e-4 * spread / spread.sum()
    nearest = np.rint((grid.points - grid.places[0]) / (grid.places[1] - grid.places[0])).astype(np.int64)
    np.add.at(reproduction, nearest, grid.masses)
    reproduction /= reproduction.sum()
    gap = math.inf
    for turn in range(_ROUNDS):
        seen = np.maximum(kernel.seen(reproduction), 1e-300)
        ratio = masses / seen
        factor = kernel.back(ratio)
        if turn % 5 == 0:
            gap = _gap(kernel, masses, ratio, factor, nearest, step)
            if gap < _GAP:
                error = float(ratio @ kernel.seen(reproduction, error=True))
                return error, -float(masses @ np.log(seen)) - 0.5 * error, gap
        reproduction *= factor**_POWER
        reproduction /= reproduction.sum()
    raise SpecError(f"the rate-distortion bounds are still {gap:.4f} bit apart after {_ROUNDS} rounds")


def _gap(kernel: _Kernel, masses: F64, ratio: F64, factor: F64, nearest: npt.NDArray[np.int64], step: float) -> float:
    """Bits by which the rate may exceed the least one (Berger's dual bound).

    Any lambda(x) >= 0 with sum_x p(x) lambda(x) kernel(x - y) <= 1 for every y bounds the minimum from below by
    sum p ln lambda. Dividing the usual choice, ratio / p, by the largest factor nearby rather than by the largest of
    all weighs far tails by their probability.
    """
    local = np.maximum(ndimage.maximum_filter1d(factor, 2 * math.ceil(3 / step) + 1), 1e-3)
    near = np.concatenate([local, local[nearest]])
    excess = float(kernel.back(ratio / near).max())
    bound = float(masses @ np.log(near)) + math.log(excess)
    return min(bound, math.log(float(factor.max()))) / math.log(2)
