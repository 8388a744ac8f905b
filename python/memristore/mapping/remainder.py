"""Values and what their cells left of them, read together: a correction to the sum of both estimates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from memristore import _core
from memristore.devices.curve import Curve
from memristore.devices.moments import Channel, one_shot
from memristore.mapping.mapper import F32, F64, Mapper, PlaneParams

_VALUES: Final = 161
_REACH: Final = 4.5
_FARTHEST: Final = 6.0
#: Nodes of reads per spread, and of remainders; at most so many.
_PER_SPREAD: Final = 2.0
_MOST: Final = 384
# Read noise below this share of the spread would fall between nodes.
_LEAST: Final = 0.2
#: Least spread of an estimate, in steps of the remainders' grid, and longest way through a window, in steps of noise.
_COARSEST: Final = 2.25
_LONGEST: Final = 40.0
_GRAIN: Final = 2.0**-20


@dataclass(frozen=True, eq=False)
class Correction:
    """What to add to the sum, by the read of the first write and by what is known of the remainder.

    Parameters
    ----------
    values : ndarray of float32, shape (k, l)
    start, inv_step : (float, float)
        Of both arguments.
    spread : float
        Root mean square error expected of the corrected sum.
    """

    values: F32
    start: tuple[float, float]
    inv_step: tuple[float, float]
    spread: float

    def add(self, first: F32, second: F32, total: F32, threads: int = 0) -> F32:
        """Add to `total`, shape (n,), in place."""
        at = []
        for given, start, inv_step, size in zip(
            (first, second), self.start, self.inv_step, self.values.shape, strict=True
        ):
            at.append(np.empty_like(given))
            _core.affine(given, inv_step, -start * inv_step, 0.0, size - 1.0, at[-1], threads)
        _core.lookup_plane(at[0], at[1], self.values.reshape(-1), self.values.shape[1], at[0], threads)
        total += at[0]
        return total


@dataclass(frozen=True)
class Remainder:
    """What is known of a remainder: the soft read of a last write, or an estimate with normal error.

    Parameters
    ----------
    params : PlaneParams or None
        Of the last write, averaged over `copies`; None for an estimate.
    copies : int
    spread : float
        Of an estimate's error.
    """

    params: PlaneParams | None
    copies: int = 1
    spread: float = 0.0


@functools.lru_cache(maxsize=64)
def correction(
    mapper: Mapper, params: PlaneParams, verify: Channel, believed: Channel, remainder: Remainder
) -> Correction | None:
    """Correction for a write followed by what its verify read left over; None where noise is too small to correct.

    Parameters
    ----------
    mapper : Mapper
    params : PlaneParams
        Of the write.
    verify, believed : Channel
        Of the verify read, and of the read to decode.
    remainder : Remainder
    """
    first = _First.of(mapper, params, verify, believed)
    if first is None:
        return None
    e = first.remainders(params)
    # An estimate that the grid of remainders hardly resolves would be made worse; there is little to correct then.
    if remainder.params is None and remainder.spread < _COARSEST * float(e[1] - e[0]):
        return None
    nodes, likelihood, base = _seen(mapper, remainder, believed, e)
    reads = _grid(first.later, first.later_std)
    mass, moment, square = (np.empty((reads.size, e.size)) for _ in range(3))
    x = params.lo + params.width * first.position
    fixed, expected = first.before(x[:, None] - e, params)
    fixed += first.prior[:, None]
    for k, read in enumerate(reads):
        # Positions that such a read hardly ever comes from are left out.
        near = np.abs(read - first.later) < _FARTHEST * first.later_std
        weight = np.exp(fixed[near] - 0.5 * np.square((read - expected[near]) / first.left[near, None]))
        mass[k] = weight.sum(axis=0)
        moment[k] = x[near] @ weight
        square[k] = np.square(x[near]) @ weight
    floor = np.finfo(np.float64).tiny
    total, mean = mass @ likelihood, moment @ likelihood
    error = np.maximum(square @ likelihood - mean * mean / np.maximum(total, floor), 0.0).sum() / total.sum()
    table = mapper.table(params, believed, 1, "inverse")(reads.astype(np.float32)).astype(np.float64)
    added = mean / np.maximum(total, floor) - table[:, None] - base
    # Where no read is to be expected, nothing is added.
    added[total < 1e-12 * total.max()] = 0.0
    grain = params.width * _GRAIN
    return Correction(
        (np.round(added / grain) * grain).astype(np.float32),
        (float(reads[0]), float(nodes[0])),
        (1.0 / float(reads[1] - reads[0]), 1.0 / float(nodes[1] - nodes[0])),
        math.sqrt(float(error)),
    )


def _grid(mean: F64, std: F64) -> F64:
    low, high = float((mean - _REACH * std).min()), float((mean + _REACH * std).max())
    count = min(max((high - low) / float(std.min()) * _PER_SPREAD, 24), _MOST)
    return np.linspace(low, high, int(count))


def _seen(mapper: Mapper, remainder: Remainder, believed: Channel, e: F64) -> tuple[F64, F64, F64]:
    """Nodes of what is known, its likelihood for each remainder, shape (e, nodes), and the plain estimate at nodes."""
    if remainder.params is None:
        mean, std = e, np.full(e.size, remainder.spread)
    else:
        part = remainder.params
        place = np.clip((e - part.lo) / part.width, 0.0, 1.0)
        position = np.linspace(0.0, 1.0, 257)
        mean, std = mapper.response(position, mapper.form(part), believed)
        std = np.maximum(std / math.sqrt(remainder.copies), 1e-3 * abs(mean[-1] - mean[0]))
        mean, std = np.interp(place, position, mean), np.interp(place, position, std)
    nodes = _grid(mean, std)
    z = (nodes - mean[:, None]) / std[:, None]
    likelihood = np.exp(-0.5 * z * z)
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    if remainder.params is None:
        return nodes, likelihood, nodes
    table = mapper.table(remainder.params, believed, remainder.copies, "mmse")
    return nodes, likelihood, table(nodes.astype(np.float32)).astype(np.float64)


def _prior(params: PlaneParams) -> tuple[F64, F64]:
    """Window positions, also beyond edges at which values were clipped, and the logarithm of their density there."""
    position = np.linspace(-1.0, 2.0, 3 * (_VALUES - 1) + 1)
    below, above = params.density.clipped
    position = position[((position > -1e-9) | below) & ((position < 1.0 + 1e-9) | above)]
    energy = params.density.energy(position, params.lo, params.hi)
    return position, np.maximum(energy.min() - energy, math.log(1e-12))


@dataclass(frozen=True, eq=False)
class _First:
    """Reads of the first write at window positions: at the verify read and later.

    `mean`, `std` are of the verify read, `later`, `later_std` of the read to decode; `pull` is what a deviation of the
    former moves the latter by, `left` the spread of the latter that remains. Positions go beyond the window where
    values were clipped, `prior` is the logarithm of their density. All have shape (k,), but for `inside`: the mean
    verify read at `_VALUES` positions of the window.
    """

    position: F64
    prior: F64
    inside: F64
    mean: F64
    std: F64
    later: F64
    later_std: F64
    pull: F64
    left: F64

    @classmethod
    def of(cls, mapper: Mapper, params: PlaneParams, verify: Channel, believed: Channel) -> _First | None:
        form, inside = mapper.form(params), np.linspace(0.0, 1.0, _VALUES)
        position, prior = _prior(params)
        respond: Callable[[Channel], tuple[F64, F64]] = functools.partial(
            mapper.response, np.clip(position, 0.0, 1.0), form
        )
        (mean, std), (later, later_std) = respond(verify), respond(believed)
        span = abs(float(mean[-1] - mean[0]))
        if float(np.median(std)) * _LONGEST < span or float(later_std.min()) < 1e-4 * abs(float(later[-1] - later[0])):
            return None
        # What was made at the verify read alone tells nothing of later reads.
        device = verify.device
        noise = 0.0
        if device.read:
            loud, quiet = one_shot(device, verify.at), one_shot(device.replace(read=Curve()), verify.at)
            noise = np.maximum(np.square(respond(loud)[1]) - np.square(respond(quiet)[1]), 0.0)
        kept = np.clip(1.0 - noise / np.square(std), 0.0, 1.0)
        window = mapper.response(inside, form, verify)[0]
        rise, before = np.gradient(mapper.response(inside, form, believed)[0]), np.gradient(window)
        slope = np.interp(position, inside, rise / np.where(before == 0.0, 1e-30, before))
        # No more than the later spread allows.
        most = 0.999 * later_std / std
        pull = np.clip(slope * kept, -most, most)
        left = np.sqrt(np.maximum(np.square(later_std) - np.square(pull * std), (_LEAST * later_std) ** 2))
        return cls(position, prior, window, mean, std, later, later_std, pull, left)

    def remainders(self, params: PlaneParams) -> F64:
        """Grid of remainders, in units of values."""
        slope = np.abs(np.gradient(self.inside, 1.0 / (_VALUES - 1))) / params.width
        slope = np.interp(self.position, np.linspace(0.0, 1.0, _VALUES), slope)
        widest = float(np.max(self.std / np.maximum(slope, 0.1 * slope.mean())))
        finest = float(np.min(self.std / np.maximum(slope, 1e-30)))
        count = min(max(2 * _REACH * widest / finest * 4.5, 48), 168)
        return np.linspace(-_REACH * widest, _REACH * widest, int(count))

    def before(self, recovered: F64, params: PlaneParams) -> tuple[F64, F64]:
        """Log-likelihood of what the verify read gave, shape (_VALUES, e), and the later read expected then."""
        position = (recovered - params.lo) / params.width * (_VALUES - 1)
        low = np.clip(position.astype(np.int64), 0, _VALUES - 2)
        rise = np.diff(self.inside)[low]
        read = self.inside[low] + (position - low) * rise
        off = read - self.mean[:, None]
        found = -0.5 * np.square(off / self.std[:, None]) + np.log(np.maximum(np.abs(rise), 1e-30))
        found -= np.log(self.std * self.left)[:, None]
        return found, self.later[:, None] + self.pull[:, None] * off
