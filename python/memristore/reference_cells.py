"""Reference cells: a few cells of known targets tell the decoder how far the array has drifted."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.array import F32, Write
from memristore.array import channel as channel_at
from memristore.config import Configurable, check_number
from memristore.devices.device import Device

# Ages are told in steps of 1/64 octave of (t + t0) / t0: finer than the reference cells resolve, coarse enough that
# decoding tables are made once.
_STEPS: Final[int] = 64
_OLDEST: Final[float] = 100 * 31536000.0  # seconds


@dataclass(frozen=True, kw_only=True)
class ReferenceCells(Configurable):
    """Cells at known targets whose mean read, against its value at programming, gives the array's age.

    Parameters
    ----------
    count : int
        Cells per array; all of them are counted. Their mean at programming is kept as 32 stored bits.

    Notes
    -----
    The decoder is not told the time. It finds the age at which the device's model predicts the change that the
    reference cells show, and decodes with the tables of that age.
    """

    name: ClassVar[str] = "reference-cells"
    count: int = 256

    def __post_init__(self) -> None:
        check_number(self.name, "count", self.count, 1, 2**20, integer=True)

    def targets(self) -> F32:
        """Targets, shape (count,): spread over the upper part of the range, where drift shows against noise."""
        return np.linspace(0.3, 1.0, self.count, dtype=np.float32)

    def statistic(self, reads: F32) -> float:
        """Mean of the reads, exactly rounded, so that it does not depend on the order of summation."""
        return float(np.float32(math.fsum(reads.tolist()) / max(reads.size, 1)))

    def age(self, device: Device, write: Write, start: float, now: float) -> float:
        """Estimate seconds since programming from the statistic then and now; 0 where it did not move as drift does."""
        octaves, shift = _prediction(device, write, self.count)
        if device.domain == "conductance":
            ratio = now / start if math.isfinite(start) and start > 0 else math.nan
            seen = math.log2(ratio) if ratio > 0 else -math.inf if ratio == 0 else math.nan
        else:
            seen = now - start
        if math.isnan(seen):  # a damaged start value
            return 0.0
        rising = shift if shift[-1] >= shift[0] else -shift
        wanted = seen if shift[-1] >= shift[0] else -seen
        envelope = np.maximum.accumulate(rising)
        octave = float(np.interp(wanted, envelope, octaves))
        octave = round(octave * _STEPS) / _STEPS
        return float(device.drift_t0 * (2.0**octave - 1.0))


@functools.lru_cache(maxsize=32)
def _prediction(device: Device, write: Write, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ages in octaves and the change of the mean reference read that the device's model predicts at each."""
    x = np.linspace(0.3, 1.0, min(count, 9))
    octaves = np.arange(0, math.ceil(device.log2_age(_OLDEST)) + 1, dtype=np.float64)
    means = [channel_at(device, write, device.drift_t0 * (2.0**o - 1.0)).at_targets(x)[0].mean() for o in octaves]
    mean = np.array(means)
    return octaves, np.log2(mean / mean[0]) if device.domain == "conductance" else mean - mean[0]
