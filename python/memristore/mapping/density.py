"""A source density in three bytes, so that the decoder's prior is counted like everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore import _core

F64 = npt.NDArray[np.float64]

# Scale over window width, 6 bits, and shape, 4 bits; then one bit for each edge at which values were clipped, and three
# for the number of a curve.
_WIDTHS: Final[F64] = np.geomspace(0.01, 8.0, 64)
_SHAPES: Final[F64] = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.4, 3.0, 4.0, 8.0])
# width^-shape, by shape and width.
_SCALES: Final[F64] = np.power(_WIDTHS, -_SHAPES[:, None])
_LOWER: Final[int] = 1 << 10
_UPPER: Final[int] = 1 << 11
_CURVE_SHIFT: Final[int] = 12
#: Any code with this bit means a flat prior.
_FLAT: Final[int] = 1 << 15
#: Centre code of a density centred on the value zero, wherever the window lies.
_AT_ZERO: Final[int] = 255
#: Fewer values than this do not pin a shape down: a flat prior is used.
_LEAST: Final[int] = 32
# Tails are followed for this many windows beyond an edge at which values were clipped.
_TAIL: Final[int] = 3
_BINS: Final[int] = 64


@dataclass(frozen=True)
class Density:
    """Generalised Gaussian p(v) ~ exp(-|(v - centre) / scale|^shape), cut at the window's edges or clipped there.

    Parameters
    ----------
    centre : int
        0..254: position in the window in steps of 1/254; 255: the value zero.
    code : int
        16 bits: scale index (6), shape index (4), values clipped at the lower edge, at the upper edge, curve (3), flat.
    """

    centre: int = _AT_ZERO
    code: int = _FLAT

    @property
    def curve(self) -> int:
        """Number of the curve by which a mapper places values, 0..7; it is no part of the prior."""
        return self.code >> _CURVE_SHIFT & 7

    @property
    def clipped(self) -> tuple[bool, bool]:
        """Whether values were clipped at the lower and at the upper edge; a flat prior knows of none."""
        if self.code & _FLAT:
            return False, False
        return bool(self.code & _LOWER), bool(self.code & _UPPER)

    def middle(self, lo: float, hi: float) -> float:
        """Value that the density is centred on."""
        return lo + (hi - lo) * _centre(self.centre, lo, hi)

    def with_curve(self, curve: int) -> Density:
        """Return the same prior with another curve, 0..7."""
        return Density(self.centre, self.code & ~(7 << _CURVE_SHIFT) | curve << _CURVE_SHIFT)

    def energy(self, position: F64, lo: float, hi: float) -> F64:
        """Negative logarithm of the density at window positions, but for a constant; 0 of a flat one."""
        if self.code & _FLAT or hi <= lo:
            return np.zeros(position.shape)
        width, shape = _WIDTHS[self.code & 63], _SHAPES[(self.code >> 6) & 15]
        found: F64 = np.power(np.abs(position - _centre(self.centre, lo, hi)) / width, shape)
        return found

    def normalised(self, lo: float, hi: float) -> tuple[float, float, Density]:
        """Edges of a window of width 1, and the density in it, that give the same :meth:`energy` and curve."""
        start = lo / (hi - lo) if self.centre == _AT_ZERO and not self.code & _FLAT else 0.0
        code = self.code & ~(_LOWER | _UPPER)
        return start, start + 1.0, Density(self.centre, code)

    def masses(self, points: int, lo: float, hi: float) -> tuple[F64, F64]:
        """Probability masses at equally spaced window positions, and their first moments.

        Values beyond a clipped edge lie at that edge with their own moment, since that is where the encoder put them.

        Parameters
        ----------
        points : int
            Number of positions, from 0 (lo) to 1 (hi).
        lo, hi : float
            The window.

        Returns
        -------
        mass, first : ndarray, shape (points,)
        """
        position = np.linspace(0.0, 1.0, points)
        if self.code & _FLAT or hi <= lo:
            return np.ones(points), position
        step = position[1]
        below = _TAIL * (points - 1) if self.code & _LOWER else 0
        above = _TAIL * (points - 1) if self.code & _UPPER else 0
        grid = np.arange(-below, points + above) * step
        energy = self.energy(grid, lo, hi)
        weight = np.exp(energy.min() - energy)
        moment = weight * grid
        mass, first = weight[below : below + points].copy(), moment[below : below + points].copy()
        mass[0] += weight[:below].sum()
        first[0] += moment[:below].sum()
        mass[-1] += weight[below + points :].sum()
        first[-1] += moment[below + points :].sum()
        return mass, first

    @classmethod
    def fit(cls, sample: npt.NDArray[np.float32], lo: float, hi: float) -> Density:
        """Choose the member of maximum likelihood for a sample in rising order, of which [lo, hi] may clip the ends."""
        if sample.size < _LEAST or hi <= lo:
            return cls()
        position = (sample.astype(np.float64) - lo) / (hi - lo)
        lower, upper = bool(position[0] < 0), bool(position[-1] > 1)
        start, stop = (-_TAIL if lower else 0), (1 + _TAIL if upper else 1)
        edges = np.linspace(start, stop, _BINS * (stop - start) + 1)
        ends = np.searchsorted(position, edges)
        # Values beyond the grid count at its ends.
        ends[0], ends[-1] = 0, position.size
        counts = np.diff(ends).astype(np.float64)
        grid = 0.5 * (edges[1:] + edges[:-1])
        half = position.size // 2
        median = 0.5 * float(position[half] + position[(position.size - 1) // 2])
        middle = round(min(max(median, 0.0), 1.0) * 254)
        # Values of one sign may pile up at zero, or lie about a middle of their own.
        centres = (middle,) if lo < 0 < hi else (_AT_ZERO, middle)
        found = [_likeliest(grid, counts, c, lo, hi) for c in centres]
        best = int(np.argmax([likelihood for likelihood, _ in found]))
        return cls(centres[best], found[best][1] | (_LOWER if lower else 0) | (_UPPER if upper else 0))


def _likeliest(grid: F64, counts: F64, centre: int, lo: float, hi: float) -> tuple[float, int]:
    """Best log-likelihood of counts on a grid of window positions about a centre, and its shape code."""
    distance = np.abs(grid - _centre(centre, lo, hi))
    powers = np.power(distance, _SHAPES[:, None])
    powers -= powers.min(axis=1, keepdims=True)
    total = counts.sum()
    sums = (powers * counts).sum(axis=1)

    def likelihoods(widths: npt.NDArray[np.int64]) -> F64:
        # One row of width indices for each shape. Energies are relative to the least, which cancels.
        scale = np.take_along_axis(_SCALES, widths, axis=1)
        masses = np.empty(scale.size)
        _core.shape_masses(powers.reshape(-1), scale.reshape(-1), masses, _SHAPES.size)
        out: F64 = -scale * sums[:, None] - total * np.log(masses).reshape(scale.shape)
        return out

    # The likelihood has one peak in the scale: every fourth first, then those around the best.
    coarse = np.broadcast_to(np.arange(0, _WIDTHS.size, 4), (_SHAPES.size, _WIDTHS.size // 4))
    middle = 4 * np.argmax(likelihoods(coarse), axis=1)
    first = np.maximum(middle - 3, 0)
    widths = np.minimum(first[:, None] + np.arange(7), np.minimum(middle + 3, _WIDTHS.size - 1)[:, None])
    found = likelihoods(widths)
    k = np.argmax(found, axis=1)
    best, chosen = -float(total * np.log(grid.size)), _FLAT
    for s in range(_SHAPES.size):
        # More than rounding is required of a better member.
        if found[s, k[s]] > best + 1e-6 * total:
            best, chosen = float(found[s, k[s]]), int(widths[s, k[s]]) + 64 * s
    return best, chosen


def _centre(code: int, lo: float, hi: float) -> float:
    return -lo / (hi - lo) if code == _AT_ZERO else code / 254
