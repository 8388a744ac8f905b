"""Mean and spread of what a read returns, given the target: the device's noise integrated by quadrature."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.devices.device import Device

F64 = npt.NDArray[np.float64]

# Steps between the targets at which moments are tabulated, at least.
_STEPS: Final[int] = 64


def target_grid(device: Device) -> F64:
    """Targets at which moments are tabulated: every knot of a measured response is one of them."""
    knots = len(device.response.values) - 1 if device.response.form == "table" else 1
    return np.linspace(0.0, 1.0, knots * -(-_STEPS // knots) + 1)


def _normal_nodes(count: int, reach: float) -> tuple[F64, F64]:
    # Trapezoid in the normal density: insensitive to the kinks that clipping makes, unlike Gauss-Hermite.
    z = np.linspace(-reach, reach, count)
    w = np.exp(-0.5 * z * z)
    return z, w / w.sum()


@dataclass(frozen=True, eq=False)
class Channel:
    """What a decoder knows of one cell at one age: mean and spread of a read against the target.

    Parameters
    ----------
    device : Device
    at : float
        Seconds after programming.
    x : ndarray, shape (k,)
        Targets, rising from 0 to 1.
    mean, std : ndarray, shape (k,)
        Of the read state over cells, writes and reads; uS or log10(ohm).
    """

    device: Device
    at: float
    x: F64
    mean: F64
    std: F64

    def at_targets(self, x: npt.ArrayLike) -> tuple[F64, F64]:
        """Interpolate mean and spread at targets of any shape."""
        where = np.asarray(x, dtype=np.float64)
        return np.interp(where, self.x, self.mean), np.interp(where, self.x, self.std)


def state_moments(device: Device, mean: F64, std: F64, at: float) -> tuple[F64, F64]:
    """Mean and spread of a read, given mean and spread of the programmed state.

    Parameters
    ----------
    device : Device
    mean, std : ndarray, shape (k,)
        Of the programmed state, before the physical clip.
    at : float
        Seconds after programming.

    Returns
    -------
    mean, std : ndarray, shape (k,)
        Of the read state. The programmed state, the drift exponent, relaxation and read noise are integrated over
        normal densities cut at 4.5, 4 and 4 standard deviations; clips are applied where the device applies them.
    """
    device = device.aged(at)
    low, high = device.state_range
    zp, wp = _normal_nodes(31, 4.5)
    programmed = np.clip(mean[:, None] + std[:, None] * zp, *device.clip)
    u = np.maximum((programmed - low) / (high - low), 0.0)
    state = programmed[:, :, None]
    weight = np.broadcast_to(wp[:, None], (zp.size, 1))
    age = device.log2_age(at)
    if age != 0 and (device.drift_mean or device.drift_std):
        zd, wd = _normal_nodes(15, 4.0) if device.drift_std else (np.zeros(1), np.ones(1))
        nu = np.abs(device.drift_mean(u)[:, :, None] + device.drift_std(u)[:, :, None] * zd)
        conductance = device.domain == "conductance"
        state = state * np.exp2(-nu * age) if conductance else state + nu * (age * math.log10(2.0))
        weight = wp[:, None] * wd
    shift, growth = device.relaxation_at(at)
    spread = np.square(growth * device.relaxation(u))[:, :, None] + np.zeros_like(state)
    state = state + shift + growth * device.relaxation_shift(u)[:, :, None]
    read = (device.read_scale(at) * device.read(u))[:, :, None]
    spread = np.sqrt(spread + np.square(read * state if device.read_relative else read))
    total = np.zeros(mean.size)
    square = np.zeros(mean.size)
    zr, wr = _normal_nodes(13, 4.0) if np.any(spread > 0) else (np.zeros(1), np.ones(1))
    for z, w in zip(zr, wr, strict=True):
        seen = np.clip(state + spread * z, *device.clip)
        total += w * np.sum(seen * weight, axis=(1, 2))
        # Centred on the mean response, so that the difference below keeps its digits.
        square += w * np.sum(np.square(seen - mean[:, None, None]) * weight, axis=(1, 2))
    return total, np.sqrt(np.maximum(square - np.square(total - mean), 0.0))


@functools.lru_cache(maxsize=256)
def one_shot(device: Device, at: float) -> Channel:
    """Moments of a read of one-shot writes, `at` seconds after programming."""
    x = target_grid(device)
    spread = np.sqrt(np.square(device.write(x)) + np.square(device.cell(x)))
    mean, std = state_moments(device, device.response(x), spread, at)
    return Channel(device, at, x, mean, std)
