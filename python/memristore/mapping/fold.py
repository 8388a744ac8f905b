"""Two values in one cell: a curve that fills the plane of pairs (Shannon-Kotel'nikov map 2:1)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.devices.moments import Channel
from memristore.mapping.axis import axis
from memristore.mapping.mapper import F32, F64, KNOTS, Mapper, PlaneParams, Table

#: Curves that the descent starts from: spirals by the distance of their arms in standard deviations, and rows.
STARTS: Final = (("rows", 1.0), ("rows", 2.0), ("rows", 3.0), ("rows", 4.0), ("spiral", 3.0), ("spiral", 2.3),
                 ("spiral", 1.9), ("spiral", 1.6), ("spiral", 1.3), ("spiral", 1.0))  # fmt: skip
#: Steps of the descent; those after which only the best starts go on, and how many.
_STEPS: Final = 60
_FIRST_STEPS: Final = 10
_KEPT: Final = 3
# Bins of one value; points of the curve per step of the noise, and at least and most.
_BINS: Final = 56
_PER_STEP: Final = 3.0
_POINTS: Final = (24, 400)
_MASSES: Final = 2049
_TAILS: Final = 5.0
_REACH: Final = 4.5
_TILT: Final = 0.3
_GRAIN: Final = 2.0**-20


@dataclass(frozen=True, eq=False)
class Fold:
    """A curve through the plane of pairs, by equally spaced points of a cell. Values are positions in the window.

    Parameters
    ----------
    position : ndarray, shape (k,)
        Window position of the cell at each point.
    centre, offset : ndarray of float32, shapes (2, k), (k,)
        The pair x goes to the point with the least ``offset - x . centre``: half the expected squared error, but for
        what is the same for all points.
    mass, moment : ndarray, shapes (k,), (2, k)
        Probability that a pair goes to each point, and its mean pair times that.
    error : float
        Expected squared error per value.
    """

    position: F64
    centre: F32
    offset: F32
    mass: F64
    moment: F64
    error: float

    def encode(self, values: F32, params: PlaneParams, threads: int = 0) -> F32:
        """Window positions of the cells of values, shape (n,): of ceil(n / 2) pairs, the last filled with the mean."""
        half = -(-values.size // 2)
        pairs = np.empty((2, half), np.float32)
        pairs[0] = values[0::2]
        pairs[1, : values.size // 2] = values[1::2]
        pairs -= np.float32(params.lo)
        pairs *= np.float32(1.0 / params.width)
        pairs[1, values.size // 2 :] = np.float32(self.moment[1].sum())
        where = np.empty(half, np.uint16)
        _core.nearest_points(pairs[0], pairs[1], self.centre[0], self.centre[1], self.offset, where, threads)
        out: F32 = self.position.astype(np.float32)[where]
        return out


def fold(mapper: Mapper, channel: Channel, copies: int, params: PlaneParams, start: int) -> Fold:
    """Curve for pairs of values with the prior of `params`, in a cell whose reads `channel` describes."""
    return _fold(mapper, channel, copies, _form(params), min(max(start, 0), len(STARTS) - 1), _STEPS)


def best_start(mapper: Mapper, channel: Channel, copies: int, params: PlaneParams) -> int:
    """Number of the start from which the descent ends lowest."""
    form = _form(params)
    first = [_fold(mapper, channel, copies, form, start, _FIRST_STEPS).error for start in range(len(STARTS))]
    kept = sorted(sorted(range(len(STARTS)), key=lambda start: first[start])[:_KEPT])
    errors = {start: fold(mapper, channel, copies, params, start).error for start in kept}
    # More than rounding is required of a better one.
    return next(start for start in kept if errors[start] <= min(errors.values()) * (1 + 1e-9))


def tables(made: Fold, mapper: Mapper, copies: int, params: PlaneParams, seen: Channel) -> tuple[Table, Table]:
    """Decoding tables of both values of a pair: posterior means given a read of a channel."""
    coordinate = axis(mapper, seen, copies)
    ends = coordinate.reads(np.array([-_TAILS, coordinate.length + _TAILS]))
    low, high = float(ends.min()), float(ends.max())
    mean, std = coordinate.moments(made.position)
    knots = np.linspace(low, high, KNOTS)
    z = (knots[:, None] - mean) / std
    likelihood = np.exp(-0.5 * z * z) / std
    mass = likelihood @ made.mass
    out = []
    for moment in made.moment:
        position = (likelihood @ moment) / np.maximum(mass, np.finfo(np.float64).tiny)
        grain = params.width * _GRAIN
        values: F32 = (np.round((params.lo + params.width * position) / grain) * grain).astype(np.float32)
        out.append(Table(values, low, (KNOTS - 1) / (high - low), False))
    return out[0], out[1]


def _form(params: PlaneParams) -> PlaneParams:
    """Parameters that are equal wherever curves are: of a window of width 1."""
    density = params.density.with_curve(0)
    return PlaneParams(density.normalised(params.lo, params.hi)[0], 1.0, density)


@functools.lru_cache(maxsize=256)
def _fold(mapper: Mapper, channel: Channel, copies: int, form: PlaneParams, start: int, steps: int) -> Fold:
    coordinate = axis(mapper, channel, copies)
    x, mass, within = _bins(form)
    pairs = np.stack([np.repeat(x, x.size), np.tile(x, x.size)])
    weight = np.outer(mass, mass).reshape(-1)
    points = 8 * int(min(max(_PER_STEP * coordinate.length, _POINTS[0]), _POINTS[1]) / 8)
    position = np.round(coordinate.places(np.linspace(0.0, coordinate.length, points)) / _GRAIN) * _GRAIN
    node = np.arange(-_TAILS, coordinate.length + _TAILS, 0.5)
    read = coordinate.reads(node)
    mean, std = coordinate.moments(position)
    z = (read - mean[:, None]) / std[:, None]
    likelihood = np.exp(-0.5 * z * z) * np.abs(np.gradient(read)) / (std[:, None] * math.sqrt(2.0 * math.pi))
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    spread = math.sqrt(float(mass @ np.square(x - mass @ x)))
    ideal = _start(STARTS[start], points, float(mass @ x), spread)
    near = np.argmin(0.5 * np.square(ideal).sum(axis=0) - pairs.T @ ideal, axis=1)
    return _descend(position, likelihood, pairs, weight, near, within, steps)


def _descend(
    position: F64, likelihood: F64, pairs: F64, weight: F64, near: npt.NDArray[np.intp], within: float,
    steps: int = _STEPS, price: float | F64 = 0.0,
) -> Fold:  # fmt: skip
    """Improve decoder and encoder in turn, each the best for the other, as vector quantisers for noisy channels are.

    `price` is what the points cost, where not all cost alike: on cells, whose states are limited, they do.
    """
    points, before = position.size, math.inf
    power = float(weight @ np.square(pairs).sum(axis=0))
    for _ in range(steps):
        mass: F64 = np.bincount(near, weight, points).astype(np.float64)
        moment: F64 = np.stack([np.bincount(near, weight * part, points) for part in pairs]).astype(np.float64)
        seen = mass @ likelihood
        decoded = (moment @ likelihood) / np.maximum(seen, np.finfo(np.float64).tiny)
        error = power - float(seen @ np.square(decoded).sum(axis=0))
        cost = error + float((mass * price).sum())
        centre = decoded @ likelihood.T
        offset = 0.5 * (likelihood @ np.square(decoded).sum(axis=0) + price)
        if cost > before * (1 - 1e-5):
            break
        before = cost
        near = np.argmin(offset - pairs.T @ centre, axis=1)
    return Fold(position, centre.astype(np.float32), offset.astype(np.float32), mass, moment, 0.5 * error + within)


def _bins(form: PlaneParams) -> tuple[F64, F64, float]:
    """Means and masses of the bins of one value, narrower where values are common, and the variance within them."""
    mass, first = form.density.masses(_MASSES, form.lo, form.hi)
    mass, first = mass / mass.sum(), first / mass.sum()
    share = np.cumsum(np.cbrt(mass))
    index = np.minimum((share / share[-1] * _BINS * (1 - 1e-9)).astype(np.intp), _BINS - 1)
    total: F64 = np.bincount(index, mass, _BINS).astype(np.float64)
    kept = total > 0
    x = np.bincount(index, first, _BINS)[kept] / total[kept]
    position = np.linspace(0.0, 1.0, _MASSES)
    square = np.bincount(index, mass * position * position, _BINS)[kept]
    middle = np.bincount(index, mass * position, _BINS)[kept] / total[kept]
    return x, total[kept], float(np.maximum(square - total[kept] * middle * middle, 0.0).sum())


def _start(start: tuple[str, float], points: int, middle: float, spread: float) -> F64:
    """Points of a curve to start from, shape (2, points)."""
    kind, size = start
    share = np.linspace(0.0, 1.0, points)
    if kind == "rows":
        # One row holds the first value of each pair only.
        row = np.minimum(np.floor(share * size), size - 1.0)
        along = share * size - row
        along = np.where(row % 2 == 0, along, 1.0 - along)
        flat = np.stack([2.0 * along - 1.0, (2.0 * row + 1.0) / size - 1.0])
        return middle + 0.55 * _REACH * spread * flat
    turn = _REACH * math.pi / size
    angle = np.linspace(0.0, turn, 4000)
    arm = size / math.pi * angle * np.stack([np.cos(angle + _TILT), np.sin(angle + _TILT)])
    both = np.concatenate([-arm[:, ::-1], arm[:, 1:]], axis=1)
    slow = np.exp(-0.1 * np.square(both).sum(axis=0))
    step = np.sqrt(np.square(np.diff(both, axis=1)).sum(axis=0)) * 0.5 * (slow[1:] + slow[:-1])
    along = np.append(0.0, np.cumsum(step))
    found = np.stack([np.interp(share * along[-1], along, part) for part in both])
    return middle + spread * found


def window(mapper: Mapper, values: F32, channel: Channel, threads: int = 0) -> PlaneParams:
    """Choose window and prior: wide, since the window only bounds what the prior knows of."""
    return mapper.window(values, channel, 16, "inverse", 1.0, threads)


def interleave(first: F32, second: F32, n: int) -> F32:
    """Pairs as a row of `n` values."""
    out = np.empty(2 * first.size, np.float32)
    out[0::2], out[1::2] = first, second
    return out[:n]


def decode(pair: tuple[Table, Table], soft: F32, n: int, threads: int = 0) -> F32:
    """Values, shape (n,), of soft reads, shape (ceil(n / 2),)."""
    return interleave(pair[0](soft, threads), pair[1](soft, threads), n)
