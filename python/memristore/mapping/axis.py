"""A cell's range, measured in steps of the noise that reads have there: what maps over several cells are drawn on."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from memristore.devices.moments import Channel
from memristore.mapping.mapper import F32, F64, POSITIONS, UNIT, Mapper, PlaneParams

#: Steps of a cell with less noise than that: cells without noise have this many.
MOST_STEPS: Final = 128.0
#: Knots of the table from reads to distances.
_READ_KNOTS: Final = 2049


@dataclass(frozen=True, eq=False)
class Axis:
    """Reads of one coordinate against its window position.

    Parameters
    ----------
    position, mean, std : ndarray, shape (POSITIONS,)
        Window positions from 0 to 1, mean and spread of the soft value there.
    level : ndarray, shape (POSITIONS,)
        The mean, made monotone.
    distance : ndarray, shape (POSITIONS,)
        Integral of d(mean) / spread from position 0: noise is about 1 in these units, wherever the cell is.
    """

    position: F64
    mean: F64
    std: F64
    level: F64
    distance: F64

    @property
    def length(self) -> float:
        """Distance from end to end, in steps of the noise."""
        return float(self.distance[-1])

    def places(self, distance: F64) -> F64:
        """Window positions at distances."""
        return np.interp(distance, self.distance, self.position)

    def moments(self, position: F64) -> tuple[F64, F64]:
        """Mean and spread of reads at window positions."""
        return np.interp(position, self.position, self.mean), np.interp(position, self.position, self.std)

    def reads(self, distance: F64) -> F64:
        """Mean reads at distances, those beyond the ends in steps of the spread at the end."""
        sign = 1.0 if self.level[-1] >= self.level[0] else -1.0
        inside = np.interp(distance, self.distance, self.level)
        below, above = np.minimum(distance, 0.0), np.maximum(distance - self.length, 0.0)
        out: F64 = inside + sign * (below * self.std[0] + above * self.std[-1])
        return out

    def ruler(self, nodes: F64) -> tuple[F32, float, float]:
        """Table from reads to fractional indices of equally spaced distances `nodes`: values, start, 1 / step."""
        seen, index = self.reads(nodes), np.arange(nodes.size, dtype=np.float64)
        if seen[-1] < seen[0]:
            seen, index = seen[::-1], index[::-1]
        knots = np.linspace(seen[0], seen[-1], _READ_KNOTS)
        values: F32 = (np.round(np.interp(knots, seen, index) * 2.0**16) / 2.0**16).astype(np.float32)
        return values, float(knots[0]), (_READ_KNOTS - 1) / float(knots[-1] - knots[0])


def unit(mapper: Mapper) -> PlaneParams:
    """Window of width 1 in which values are window positions, but for its lower edge."""
    return mapper.frame(-0.5, 0.5) if mapper.symmetric else UNIT


@functools.lru_cache(maxsize=64)
def axis(mapper: Mapper, channel: Channel, copies: int) -> Axis:
    """Tabulate a coordinate that `copies` averaged symbols of a mapper hold."""
    position = np.linspace(0.0, 1.0, POSITIONS)
    mean, std = mapper.response(position, unit(mapper), channel)
    sign = 1.0 if mean[-1] >= mean[0] else -1.0
    level = np.maximum.accumulate(sign * mean)
    span = max(float(level[-1] - level[0]), 1e-30)
    std = np.maximum(std / math.sqrt(copies), span / MOST_STEPS)
    # Positions that age made alike keep a trace of distance, so that they stay a function of it.
    step = np.maximum(np.diff(level), 1e-6 * span / POSITIONS)
    distance = np.append(0.0, np.cumsum(step * 2.0 / (std[1:] + std[:-1])))
    return Axis(position, mean, std, sign * level, distance)
