"""A source density in three bytes, so that the decoder's prior is counted like everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

# Scale over window width, 6 bits, and shape, 4 bits; then one bit for each edge at which values were clipped.
_WIDTHS: Final[F64] = np.geomspace(0.01, 8.0, 64)
_SHAPES: Final[F64] = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.4, 3.0, 4.0, 8.0])
_LOWER: Final[int] = 1 << 10
_UPPER: Final[int] = 1 << 11
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
        16 bits: scale index (6), shape index (4), values clipped at the lower edge, at the upper edge, 3 bits unused,
        flat.
    """

    centre: int = _AT_ZERO
    code: int = _FLAT

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
        width, shape = _WIDTHS[self.code & 63], _SHAPES[(self.code >> 6) & 15]
        energy = -np.power(np.abs(grid - _centre(self.centre, lo, hi)) / width, shape)
        weight = np.exp(energy - energy.max())
        moment = weight * grid
        mass, first = weight[below : below + points].copy(), moment[below : below + points].copy()
        mass[0] += weight[:below].sum()
        first[0] += moment[:below].sum()
        mass[-1] += weight[below + points :].sum()
        first[-1] += moment[below + points :].sum()
        return mass, first

    @classmethod
    def fit(cls, values: npt.NDArray[np.float32], lo: float, hi: float) -> Density:
        """Choose the member of maximum likelihood for a sample, shape (n,), of which [lo, hi] may clip the ends."""
        if values.size < _LEAST or hi <= lo:
            return cls()
        position = (values.astype(np.float64) - lo) / (hi - lo)
        lower, upper = bool(position.min() < 0), bool(position.max() > 1)
        start, stop = (-_TAIL if lower else 0), (1 + _TAIL if upper else 1)
        edges = np.linspace(start, stop, _BINS * (stop - start) + 1)
        counts = np.histogram(np.clip(position, start, stop), bins=edges)[0].astype(np.float64)
        grid = 0.5 * (edges[1:] + edges[:-1])
        middle = round(float(np.clip(np.median(position), 0.0, 1.0)) * 254)
        # Values of one sign may pile up at zero, or lie about a middle of their own.
        centres = (middle,) if lo < 0 < hi else (_AT_ZERO, middle)
        found = [_likeliest(grid, counts, c, lo, hi) for c in centres]
        best = int(np.argmax([likelihood for likelihood, _ in found]))
        return cls(centres[best], found[best][1] | (_LOWER if lower else 0) | (_UPPER if upper else 0))


def _likeliest(grid: F64, counts: F64, centre: int, lo: float, hi: float) -> tuple[float, int]:
    """Best log-likelihood of counts on a grid of window positions about a centre, and its shape code."""
    distance = np.abs(grid - _centre(centre, lo, hi))
    total = counts.sum()
    best, chosen = -float(total * np.log(grid.size)), _FLAT
    seen = counts > 0

    def likelihoods(shape: float, widths: npt.NDArray[np.int64]) -> F64:
        energy = -np.power(distance / _WIDTHS[widths, None], shape)
        energy -= energy.max(axis=1, keepdims=True)
        out: F64 = (energy[:, seen] * counts[seen]).sum(axis=1) - total * np.log(np.exp(energy).sum(axis=1))
        return out

    for s, shape in enumerate(_SHAPES):
        # The likelihood has one peak in the scale: every fourth first, then those around the best.
        coarse = np.arange(0, _WIDTHS.size, 4)
        middle = int(coarse[np.argmax(likelihoods(shape, coarse))])
        widths = np.arange(max(middle - 3, 0), min(middle + 4, _WIDTHS.size))
        found = likelihoods(shape, widths)
        k = int(np.argmax(found))
        # More than rounding is required of a better member.
        if found[k] > best + 1e-6 * total:
            best, chosen = float(found[k]), int(widths[k]) + 64 * s
    return best, chosen


def _centre(code: int, lo: float, hi: float) -> float:
    return -lo / (hi - lo) if code == _AT_ZERO else code / 254
