"""Rate-distortion functions for mean squared error, and the limit of analog and digital storage alike (OPTA).

Distortions are relative to the source's variance: 1 is what no bits give, 0.01 is an SDR of 20 dB. Rates are bits per
value. No code, whatever its length, reaches a distortion D with fewer than R(D) bits per value; with r cells of
capacity C per value none gets below D(r C), the optimum performance theoretically attainable (Berger, Rate Distortion
Theory, 1971).

Sources without a formula are computed point by point (`memristore.limits.blahut`), with cubics between points.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Final

from scipy import optimize

from memristore.config import check_number
from memristore.errors import SpecError
from memristore.limits.blahut import MOST, STEP_DB, Point, grid_size, point
from memristore.limits.composites import SpikeAndSlab
from memristore.limits.sources import Gaussian, Source

# Curves are computed from nearly no rate up to the first of _ENDS at which they have met their high-rate limit; indices
# of points, which are 1 dB apart.
_FIRST: Final = -30
_ENDS: Final = (30, 39, 48, 57)
_MET: Final = 5e-4
# Neighbours further apart than this in ln D get a point between them, but none closer than this in index.
_WIDEST: Final = 0.35
_CLOSEST: Final = 0.1


def sdr_db(distortion: float) -> float:
    """Signal-to-distortion ratio in dB of a distortion relative to the variance; infinite for 0."""
    return -10 * math.log10(distortion) if distortion > 0 else math.inf


def from_db(sdr: float) -> float:
    """Distortion relative to the variance of a signal-to-distortion ratio in dB."""
    return float(10 ** (-sdr / 10))


def entropy_gain(source: Source) -> float:
    """Bits per value that a source needs less than a Gaussian one at high rates: 1/2 log2(2 pi e variance) - entropy.

    Infinite where values repeat exactly.
    """
    return 0.5 * math.log2(2 * math.pi * math.e * source.variance) - source.entropy


def shannon_lower_bound(source: Source, distortion: float) -> float:
    """Shannon's lower bound on the rate, bits per value, at a distortion relative to the variance; at least 0.

    Tight at high rates where the source has a density; 0 where values repeat exactly.
    """
    _check_distortion(distortion)
    if distortion == 0:
        return 0.0 if math.isinf(source.entropy) else math.inf
    return max(-0.5 * math.log2(distortion) - entropy_gain(source), 0.0)


def zeros_apart(source: SpikeAndSlab, distortion: float) -> float:
    """Bits per value of storing where the zeros are exactly, then the kept values: H2(zeros) + (1 - zeros) R_kept.

    Never below :func:`rate`; the two meet at high rates.

    Parameters
    ----------
    source : SpikeAndSlab
    distortion : float
        Of all values, relative to their variance.
    """
    _check_distortion(distortion)
    keep = 1 - source.zeros
    choice = -keep * math.log2(keep) - source.zeros * math.log2(source.zeros)
    return choice + keep * rate(source.kept, distortion * source.variance / (keep * source.kept.variance))


def rate(source: Source, distortion: float) -> float:
    """Least bits per value for a distortion: R(D).

    Parameters
    ----------
    source : Source
    distortion : float
        Mean squared error relative to the variance, at least 0.

    Returns
    -------
    float
        Within 0.003 bit; the closed form for `Gaussian`. At distortion 0 the entropy of a source of which all values
        repeat, else infinite.

    Raises
    ------
    SpecError
        If the distortion is negative or not finite.
    """
    _check_distortion(distortion)
    if distortion >= 1:
        return 0.0
    if distortion == 0:
        split = source.split()
        return split.choice if split.rest is None else math.inf
    if isinstance(source, Gaussian):
        return -0.5 * math.log2(distortion)
    end = point(source, _end(source))
    if distortion <= end.distortion:
        return _beyond(source, end, math.log(distortion))
    before, after = _bracket(source, lambda p: p.distortion <= distortion, sdr_db(distortion) / STEP_DB)
    if before is None:
        return after.bits * (1 - distortion) / (1 - after.distortion)
    return max(_between(before, after, math.log(distortion)), 0.0)


def distortion(source: Source, bits: float) -> float:
    """Least distortion for a rate: D(R), the inverse of :func:`rate`.

    Parameters
    ----------
    source : Source
    bits : float
        Bits per value, at least 0; infinite where cells are without noise.

    Returns
    -------
    float
        Mean squared error relative to the variance.

    Raises
    ------
    SpecError
        If the rate is negative.
    """
    check_number("distortion", "bits", bits, 0.0, math.inf)
    if bits in (0, math.inf):
        return 1.0 if bits == 0 else 0.0
    if isinstance(source, Gaussian):
        return float(4.0**-bits)
    split = source.split()
    if split.rest is None and bits >= split.choice:
        return 0.0
    end = point(source, _end(source))
    if bits >= end.bits:
        return _invert_beyond(source, end, bits)
    before, after = _bracket(source, lambda p: p.bits >= bits, 6.02 * bits / STEP_DB)
    if before is None:
        return 1 - (1 - after.distortion) * bits / after.bits
    low, high = math.log(after.distortion), math.log(before.distortion)
    found = optimize.brentq(lambda x: _between(before, after, x) - bits, low, high, xtol=1e-9)
    return min(math.exp(found), 1.0)


def opta(source: Source, capacity_bits: float, cells_per_value: float) -> float:
    """Best SDR in dB of values kept in cells: sdr_db(D(cells_per_value * capacity_bits)).

    Parameters
    ----------
    source : Source
    capacity_bits : float
        Capacity of a cell, bits.
    cells_per_value : float
        Cells for each value.
    """
    return sdr_db(distortion(source, _storage(capacity_bits, cells_per_value)))


def efficiency(source: Source, sdr: float, capacity_bits: float, cells_per_value: float) -> float:
    """Share of the cells' capacity that an SDR in dB needs at least: R(D) / (cells_per_value * capacity_bits)."""
    bits = _storage(capacity_bits, cells_per_value)
    return rate(source, from_db(sdr)) / bits if bits > 0 else math.inf


def cells_for(source: Source, sdr: float, capacity_bits: float) -> float:
    """Fewest cells per value for an SDR in dB: R(D) / capacity_bits."""
    return efficiency(source, sdr, capacity_bits, 1.0)


def _storage(capacity_bits: float, cells_per_value: float) -> float:
    check_number("opta", "capacity_bits", capacity_bits, 0.0, math.inf)
    check_number("opta", "cells_per_value", cells_per_value, 0.0, 1e6, open_low=True)
    return capacity_bits * cells_per_value


def _check_distortion(value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise SpecError(f"a distortion is relative to the variance, finite and at least 0, not {value!r}")


def _between(before: Point, after: Point, x: float) -> float:
    """Bits at ln distortion x, by the cubic through two points with their slopes."""
    low, high = math.log(after.distortion), math.log(before.distortion)
    width = high - low
    t = (x - low) / width if width > 0 else 0.0
    a, b = after.bits, before.bits
    da, db = -after.slope * width, -before.slope * width
    return a + t * (da + t * (3 * (b - a) - 2 * da - db + t * (2 * (a - b) + da + db)))


def _bracket(source: Source, reached: Callable[[Point], bool], start: float) -> tuple[Point | None, Point]:
    """Neighbouring points before and after something is reached; None if the first point is past it."""
    last = _end(source)
    k = math.floor(min(max(start, _FIRST), last))
    while k < last and not reached(point(source, k)):
        k += 1
    while k > _FIRST and reached(point(source, k - 1)):
        k -= 1
    if k == _FIRST:
        return None, point(source, k)
    before, after, low, high = point(source, k - 1), point(source, k), k - 1.0, float(k)
    # Where the curve is nearly straight, as between two clusters of values, small changes of the slope are wide steps.
    while math.log(before.distortion / after.distortion) > _WIDEST and high - low > _CLOSEST:
        middle = 0.5 * (low + high)
        if reached(between := point(source, middle)):
            after, high = between, middle
        else:
            before, low = between, middle
    return before, after


def _limit(source: Source, x: float) -> float:
    """Bits at ln distortion x towards high rates: which value repeats, and Shannon's lower bound for the rest."""
    split = source.split()
    if split.rest is None:
        return split.choice
    error = math.log2(2 * math.pi * math.e * source.variance / split.share) + x / math.log(2)
    return split.choice + split.share * (split.rest.entropy - 0.5 * error)


def _beyond(source: Source, end: Point, x: float) -> float:
    """Bits at ln distortion x beyond the last point: what that lies off the limit fades with the square root of D."""
    last = math.log(end.distortion)
    return _limit(source, x) + (end.bits - _limit(source, last)) * math.exp(min(0.5 * (x - last), 0.0))


def _invert_beyond(source: Source, end: Point, bits: float) -> float:
    high = math.log(end.distortion)
    low = high - 1.0
    while _beyond(source, end, low) < bits:
        low = high - 2 * (high - low)
        if low < -1e5:
            return 0.0
    return math.exp(optimize.brentq(lambda x: _beyond(source, end, x) - bits, low, high, xtol=1e-9))


@functools.lru_cache(maxsize=256)
def _end(source: Source) -> int:
    """Index of the last point that is computed."""
    for k in _ENDS:
        if k > _ENDS[0] and grid_size(source, k) > MOST:
            break
        last, reached = k, point(source, k)
        if abs(reached.bits - _limit(source, math.log(reached.distortion))) < _MET:
            break
    return last
