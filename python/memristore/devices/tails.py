"""Distribution of a read, given the target, with tails that stay right far below 1e-12: what bits are sized by."""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from memristore.devices.device import Device

F64 = npt.NDArray[np.float64]

_BINS: Final[int] = 512
_REACH: Final[float] = 8.0


def _mixture(device: Device, x: float, at: float) -> tuple[F64, F64, F64]:
    """Means, spreads and weights of Gaussians whose mixture is the distribution of a read of target `x`."""
    low, high = device.state_range
    mean = float(device.response(x))
    spread = math.hypot(float(device.write(x)), float(device.cell(x)))
    shift, growth = device.relaxation_at(at)
    age = device.log2_age(at)
    ages = age != 0 and bool(device.drift_mean or device.drift_std)
    fluctuates = bool(device.read) or (bool(device.relaxation) and growth > 0)
    if not ages and not fluctuates:
        return np.array([mean + shift]), np.array([spread]), np.ones(1)
    zp = np.linspace(-_REACH, _REACH, 81)
    wp = np.exp(-0.5 * zp * zp)
    programmed = np.clip(mean + spread * zp, *device.clip)
    u = np.maximum((programmed - low) / (high - low), 0.0)
    zd = np.linspace(-7.0, 7.0, 41) if ages and device.drift_std else np.zeros(1)
    wd = np.exp(-0.5 * zd * zd)
    state = programmed[:, None] + np.zeros(zd.size)
    if ages:
        nu = np.abs(device.drift_mean(u)[:, None] + device.drift_std(u)[:, None] * zd)
        conductance = device.domain == "conductance"
        state = state * np.exp2(-nu * age) if conductance else state + nu * (age * math.log10(2.0))
    read = (device.read_scale(at) * device.read(u))[:, None]
    variance = np.square(read * state if device.read_relative else read + np.zeros_like(state))
    variance = variance + np.square(growth * device.relaxation(u))[:, None]
    # Between nodes the mixture would show gaps: each node is widened by the distance to its neighbours. That adds 4 %
    # to the variance of the write, on the safe side.
    variance = variance + np.square(np.gradient(state, axis=0))
    if zd.size > 1:
        variance = variance + np.square(np.gradient(state, axis=1))
    weight = wp[:, None] * wd
    return (state + shift).ravel(), np.sqrt(variance).ravel(), (weight / weight.sum()).ravel()


def _masses(device: Device, edges: F64, x: float, at: float) -> F64:
    """Probability of each bin; bins at the ends hold what lies beyond them."""
    mean, spread, weight = _mixture(device, x, at)
    mean, spread = np.clip(mean, *device.clip), np.maximum(spread, 1e-9 * (edges[-1] - edges[0]))
    z = (edges[1:-1, None] - mean) / spread
    below, above = ndtr(z), ndtr(-z)
    # Differences of the smaller tail keep the digits of both tails.
    inner = np.where(z[:-1] + z[1:] > 0, above[:-1] - above[1:], below[1:] - below[:-1])
    mass = np.concatenate([below[:1], inner, above[-1:]])
    out: F64 = (mass * weight).sum(axis=1)
    return out


@functools.lru_cache(maxsize=512)
def level_errors(device: Device, at: float, x_zero: float, x_one: float, cells: int) -> tuple[float, float]:
    """Best threshold between two levels, and the raw bit error rate it gives.

    Parameters
    ----------
    device : Device
    at : float
        Seconds after programming.
    x_zero, x_one : float
        Targets of the two levels; x_one has the higher mean state.
    cells : int
        Reads averaged for one bit.

    Returns
    -------
    threshold, error : float
        State above which the mean read is taken as 1; mean of the two probabilities of error. Stuck cells are not part
        of it.
    """
    parts = [_mixture(device, x, at) for x in (x_zero, x_one)]
    low = min(float((m - _REACH * s).min()) for m, s, _ in parts)
    high = max(float((m + _REACH * s).max()) for m, s, _ in parts)
    low, high = max(low, device.clip[0]), min(high, device.clip[1])
    if high <= low:
        return low, 0.5
    edges = np.linspace(low, high, _BINS + 1)
    step = edges[1] - edges[0]
    zero, one = (_masses(device, edges, x, at) for x in (x_zero, x_one))
    sums = [zero, one]
    for _ in range(cells - 1):
        sums = [np.convolve(s, p) for s, p in zip(sums, (zero, one), strict=True)]
    # Bin k of a sum stands for the state low + step (k + cells / 2) / cells of the mean; thresholds lie between bins.
    above_zero = np.cumsum(sums[0][::-1])[::-1][1:]
    below_one = np.cumsum(sums[1])[:-1]
    errors = 0.5 * (above_zero + below_one)
    least = float(errors.min())
    # Where many thresholds are alike (noiseless devices), the middle one.
    alike = np.flatnonzero(errors <= least * (1 + 1e-9) + 1e-300)
    k = int(alike[alike.size // 2])
    return low + step * (k + 0.5 + cells / 2) / cells, least
