"""The distribution of given values, such as a network's weights, as a density with few numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from memristore.errors import SpecError
from memristore.limits.sources import Source, Split
from memristore.streams import strided_sample

F64 = npt.NDArray[np.float64]

#: A density is made of a strided sample of at most this many values.
SAMPLE: Final[int] = 1 << 17
# Fewer values than this have no density: they are taken one by one.
_LEAST: Final[int] = 16
# So few different values, each repeated this often on average, are quantised ones.
_DISTINCT: Final[int] = 1024
_REPEATED: Final[int] = 8


@dataclass(frozen=True, kw_only=True)
class Empirical(Source):
    """A histogram whose bins hold about equally many values, fewer in the tails; and values that repeat exactly.

    Parameters
    ----------
    knots : tuple of float
        Edges of bins, rising.
    levels : tuple of float
        Share of the values with a density that lie below each knot: from 0 to 1.
    points, masses : tuple of float
        Values that repeat exactly, rising, and their probabilities.

    Raises
    ------
    SpecError
        If these describe no distribution.
    """

    knots: tuple[float, ...] = (-0.5, 0.5)
    levels: tuple[float, ...] = (0.0, 1.0)
    points: tuple[float, ...] = ()
    masses: tuple[float, ...] = ()

    name: ClassVar[str] = "empirical"

    def __post_init__(self) -> None:
        pairs = ((self.knots, self.levels), (self.points, self.masses))
        if any(len(a) != len(b) or not np.all(np.diff(a) > 0) for a, b in pairs) or not np.all(
            np.isfinite(np.concatenate([*pairs[0], *pairs[1]]))
        ):
            raise SpecError(f"{self.name}: knots and points must rise; each knot needs a level, each point a mass")
        if self.knots and not (self.levels[0] == 0 and self.levels[-1] == 1 and np.all(np.diff(self.levels) > 0)):
            raise SpecError(f"{self.name}: levels must rise from 0 to 1")
        total = sum(self.masses)
        if any(mass <= 0 for mass in self.masses) or total > 1 + 1e-9 or (not self.knots and total < 1 - 1e-9):
            raise SpecError(f"{self.name}: masses must be positive and sum to at most 1, to 1 if there are no knots")

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Empirical:
        """Describe given values; the same values give the same description.

        Parameters
        ----------
        values : array_like
            Finite numbers, any shape, at least two different ones. Of many, a strided sample of 131072 is looked at.

        Returns
        -------
        Empirical
            Exact zeros and other values that make up more than 0.2 % of the sample are repeated values, as are all of
            them if there are few different ones (quantised weights). The others get a density, whose entropy is good
            to about 0.01 bit from 10 000 values on and comes out too low for fewer.

        Raises
        ------
        SpecError
            If the values are not finite or all the same.
        """
        sample = strided_sample(np.asarray(values, dtype=np.float64).reshape(-1), SAMPLE)
        if not sample.size or not np.all(np.isfinite(sample)):
            raise SpecError(f"{cls.name}: needs finite values")
        distinct, counts = np.unique(sample, return_counts=True)
        if distinct.size < 2:
            raise SpecError(f"{cls.name}: all values are {distinct[0]:g}; a constant needs no cells")
        if distinct.size <= min(_DISTINCT, sample.size // _REPEATED):
            again = np.ones(distinct.size, dtype=bool)
        else:
            often = max(_REPEATED, sample.size // 512)
            again = (counts >= often) | ((distinct == 0) & (counts > 1))
        if distinct.size - np.count_nonzero(again) < _LEAST:
            again[:] = True
        knots, levels = _histogram(np.repeat(distinct[~again], counts[~again]))
        return cls(
            knots=tuple(knots.tolist()),
            levels=tuple(levels.tolist()),
            points=tuple(distinct[again].tolist()),
            masses=tuple((counts[again] / sample.size).tolist()),
        )

    @property
    def _moments(self) -> tuple[float, float]:
        """Mean and mean square."""
        points, masses = np.array(self.points), np.array(self.masses)
        first, second = float(masses @ points), float(masses @ np.square(points))
        if self.knots:
            share = self.split().share
            low, high, mass = np.array(self.knots[:-1]), np.array(self.knots[1:]), np.diff(self.levels)
            first += share * float(mass @ (low + high)) / 2
            second += share * float(mass @ (np.square(low) + low * high + np.square(high))) / 3
        return first, second

    @property
    def mean(self) -> float:
        return self._moments[0]

    @property
    def variance(self) -> float:
        first, second = self._moments
        return second - first * first

    @property
    def entropy(self) -> float:
        if self.points:
            return -math.inf
        mass = np.diff(self.levels)
        return float((special.entr(mass) + mass * np.log(np.diff(self.knots))).sum() / math.log(2))

    def density(self, x: F64) -> F64:
        if not self.knots:
            return np.zeros(x.shape)
        height = np.concatenate([[0.0], np.diff(self.levels) / np.diff(self.knots), [0.0]])
        found: F64 = self.split().share * height[np.searchsorted(self.knots, x, side="right")]
        return found

    def cdf(self, x: F64) -> F64:
        below = np.append(0.0, np.cumsum(self.masses))[np.searchsorted(self.points, x, side="right")]
        smooth = np.interp(x, self.knots, self.levels) if self.knots else np.zeros(x.shape)
        found: F64 = below + self.split().share * smooth
        return found

    def span(self, tail: float) -> tuple[float, float]:
        ends = [self.points[0], self.points[-1]] if self.points else []
        if self.knots:
            ends += np.interp([tail / 2, 1 - tail / 2], self.levels, self.knots).tolist()
        return min(ends), max(ends)

    def draw(self, choice: F64, level: F64) -> F64:
        which = np.searchsorted(np.cumsum(self.masses), choice, side="right")
        smooth = np.interp(level, self.levels, self.knots) if self.knots else np.full(level.shape, self.points[-1])
        return np.where(which < len(self.points), np.append(self.points, 0.0)[which], smooth)

    def split(self) -> Split:
        rest: Source | None = self
        if self.points:
            rest = Empirical(knots=self.knots, levels=self.levels) if self.knots else None
        return Split(np.array(self.points), np.array(self.masses), rest)


def _ranks(n: int) -> Iterator[int]:
    """Ranks of sorted values at which bins begin: sqrt(n) values in a bin, down to 4 towards the lower end."""
    most, rank = max(math.isqrt(n), n // 256, 4), 0
    while rank < n // 2:
        yield rank
        rank += min(max(4, rank // 8), most)


def _histogram(values: F64) -> tuple[F64, F64]:
    """Knots and levels for sorted values, shape (n,)."""
    n = values.size
    if n == 0:
        return np.zeros(0), np.zeros(0)
    lower = np.array(list(_ranks(n - 1)), dtype=np.int64)
    rank = np.unique(np.concatenate([lower, n - 1 - lower]))
    # Values of coarse types repeat: a knot keeps its last rank, so that no bin is without a width.
    knots, last = np.unique(values[rank][::-1], return_index=True)
    levels = rank[::-1][last] / (n - 1)
    levels[0] = 0.0
    return knots, levels
