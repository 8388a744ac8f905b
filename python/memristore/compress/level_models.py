"""How probable each level of a trellis-coded quantiser is: tables that take few bytes and mean the same everywhere.

Tables hold the logarithm of a frequency in eighths of a bit below the largest, one byte per knot: knots lie at every
place near zero, then four to the octave, with straight lines between. All of it is integer arithmetic, or products and
square roots that IEEE 754 rounds in one way, so that any machine reads the same frequencies out of the same bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore import _core

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

#: Values that are coded together.
BLOCK: Final = _core.TRELLIS_BLOCK
#: 2**(22 - i/8), i = 0 to 7, rounded.
_EIGHTHS: Final = np.array([4194304, 3846194, 3526975, 3234252, 2965821, 2719669, 2493948, 2286960], np.int64)
#: Places with a knot each.
_DENSE: Final = 9
#: Kinds of models: one curve of two bytes; one table of |q|; one of q; one of the level for each state.
CURVE, EVEN, ODD, STATES = range(4)
#: With more values than this a table is better than a curve.
_CURVE_VALUES: Final = 30000


@functools.lru_cache(maxsize=64)
def _knots(size: int) -> I64:
    """Places of the knots among `size` places, first and last included."""
    places = list(range(min(size, _DENSE)))
    octave = _DENSE - 1
    while places[-1] < size - 1:
        places += [octave + octave * i // 4 for i in range(1, 5)]
        octave *= 2
    return np.array([p for p in places if p < size - 1] + [size - 1], np.int64)


def knot_count(size: int) -> int:
    """Bytes of a table over `size` places."""
    return int(_knots(size).size)


def _lines(knots: I64, values: I64) -> I64:
    """Integer straight lines through the knots, at every place from the first to the last."""
    place = np.arange(int(knots[-1]) + 1)
    right = np.maximum(np.searchsorted(knots, place), 1) if knots.size > 1 else np.zeros_like(place)
    left = np.maximum(right - 1, 0)
    width = np.maximum(knots[right] - knots[left], 1)
    lines: I64 = values[left] + ((values[right] - values[left]) * (place - knots[left]) + width // 2) // width
    return lines


def _densities(counts: F64) -> F64:
    """Mean count around each knot, never zero."""
    knots = _knots(counts.size)
    edges = np.concatenate([[0], (knots[1:] + knots[:-1] + 1) // 2, [counts.size]])
    sums = np.add.reduceat(counts, edges[:-1]) if counts.size else np.zeros(0)
    density: F64 = (sums + 0.3) / np.diff(edges)
    return density


def _to_bytes(densities: list[F64]) -> U8:
    density = np.concatenate(densities)
    table: U8 = np.clip(np.rint(8 * np.log2(density.max() / density)), 0, 255).astype(np.uint8)
    return table


def _frequencies(depth: I64) -> I64:
    frequency: I64 = np.maximum(_EIGHTHS[depth & 7] >> (depth >> 3), 1)
    return frequency


@dataclass(frozen=True)
class LevelModel:
    """Frequencies of levels -limit to limit in each context.

    Parameters
    ----------
    kind : int
        `CURVE`, `EVEN`, `ODD` or `STATES`.
    limit : int
        Largest level that has a frequency of its own; both ends stand for all beyond as well.
    table : ndarray of uint8
        The bytes to store; :func:`table_size` tells how many.
    frequencies : ndarray, shape (groups, 2 * limit + 1), int64
        Relative frequencies of each context: two quantisers, or the states.
    """

    kind: int
    limit: int
    table: U8
    frequencies: I64

    @property
    def probabilities(self) -> F64:
        """Shape (groups, 2 * limit + 1)."""
        return np.asarray(self.frequencies / self.frequencies.sum(axis=1, keepdims=True), np.float64)

    def bits(self, counts: npt.NDArray[np.uint32]) -> float:
        """Bits that levels with these counts (of quantisers or states) take, without the table."""
        return float(-(counts * np.log2(self.probabilities)).sum())


def table_size(kind: int, limit: int, states: int) -> int:
    """Bytes of a model's table."""
    if kind == CURVE:
        return 2
    if states == 1:
        return knot_count(limit + 1) + (knot_count(limit) if kind == ODD else 0)
    if kind == STATES:
        return states * (knot_count(limit + 1) + knot_count(limit))
    return knot_count(2 * limit + 2) + (knot_count(2 * limit) if kind == ODD else 0)


def read_model(kind: int, limit: int, states: int, table: U8) -> LevelModel:
    """Read the frequencies out of a table of :func:`table_size` bytes; any bytes give some model.

    With one state, that of a uniform quantiser, places are levels and not those of two quantisers together.
    """
    if states == 1:
        places = limit + 1
        if kind == CURVE:
            outward = _depths(_power(int(table[0]), places), table[1:].astype(np.int64))[0]
        else:
            outward = _lines(_knots(places), table[: knot_count(places)].astype(np.int64))
        inward = outward[1:]
        if kind == ODD:
            inward = _lines(_knots(limit), table[knot_count(places) :].astype(np.int64))
        return LevelModel(kind, limit, table, _frequencies(np.r_[inward[::-1], outward][None]))
    if kind == STATES:
        low, high = knot_count(limit), knot_count(limit + 1)
        rows = table.astype(np.int64).reshape(states, low + high)
        depth = np.array(
            [np.r_[_lines(_knots(limit), row[high:])[::-1], _lines(_knots(limit + 1), row[:high])] for row in rows]
        )
        return LevelModel(kind, limit, table, _frequencies(depth))
    if kind == CURVE:
        outward = _depths(_power(int(table[0]), 2 * limit + 2), table[1:].astype(np.int64))[0]
    else:
        outward = _lines(_knots(2 * limit + 2), table[: knot_count(2 * limit + 2)].astype(np.int64))
    inward = outward[1 : 2 * limit + 1]
    if kind == ODD:
        inward = _lines(_knots(2 * limit), table[knot_count(2 * limit + 2) :].astype(np.int64))
    depth = np.r_[inward[::-1], outward]  # of q = -2 limit to 2 limit + 1
    return LevelModel(kind, limit, table, _frequencies(np.array([depth[:-1:2], depth[1::2]])))


def _power(exponent: int, size: int) -> F64:
    """Return |q| ** (exponent / 4) for |q| below `size`."""
    root = np.sqrt(np.sqrt(np.arange(size, dtype=np.float64)))
    power = np.ones(size)
    for _ in range(2 + exponent % 8):
        power = power * root
    return power


def _depths(power: F64, scales: I64) -> I64:
    """Eighths of a bit for each scale, which has a mantissa of three bits and an exponent; shape (scales, places)."""
    steep = (8 + scales % 8) * 2.0 ** (scales // 8 - 19.0)
    depths: I64 = np.minimum(np.floor(steep[:, None] * power + 0.5), 255).astype(np.int64)
    return depths


def _scale_codes(steep: F64) -> I64:
    exponent = np.floor(np.log2(steep)) - 3
    return np.asarray(8 * (exponent + 19) + np.rint(steep / 2.0**exponent - 8), np.int64)


def _fit_curve(magnitudes: I64, counts: npt.NDArray[np.uint32]) -> U8:
    """Try all exponents, with scales near those of a generalised Gaussian density.

    Magnitudes of the points of each level and counts, both for each quantiser.
    """
    size = int(magnitudes.max()) + 1
    places = np.array([np.bincount(row, minlength=size) for row in magnitudes], np.float64)
    folded = np.array([np.bincount(row, each, size) for row, each in zip(magnitudes, counts, strict=True)])
    total = folded.sum(axis=0)
    powers = np.array([_power(i, size) for i in range(8)])
    mean = (powers @ total + 0.01) / total.sum()
    centre = _scale_codes(8 / np.log(2) / (np.arange(2, 10) / 4 * mean))
    reach = np.arange(-16, 17, 2)
    for _ in range(2):
        codes = (centre[:, None] + reach).clip(0, 255)
        depths = np.array([_depths(power, row) for power, row in zip(powers, codes, strict=True)])
        frequency = _frequencies(depths).astype(np.float64)
        bits = np.log2(frequency @ places.T) @ folded.sum(axis=1) - np.log2(frequency) @ total
        centre = codes[np.arange(8), bits.argmin(axis=1)]
        reach = np.arange(-1, 2)
    exponent = int(bits.min(axis=1).argmin())
    return np.array([exponent, centre[exponent]], np.uint8)


def _uniform_models(limit: int, counts: npt.NDArray[np.uint32]) -> list[LevelModel]:
    """Models of a uniform quantiser's levels; counts of shape (1, 2 * limit + 1)."""
    if not counts.any():
        return [read_model(CURVE, limit, 1, np.zeros(2, np.uint8))]
    outward, inward = counts[0, limit:].astype(np.float64), counts[0, :limit][::-1].astype(np.float64)
    even = np.r_[2 * outward[0], outward[1:] + inward]
    tables = [(EVEN, _to_bytes([_densities(even)])), (ODD, _to_bytes([_densities(outward), _densities(inward)]))]
    tables.append((CURVE, _fit_curve(np.abs(np.arange(-limit, limit + 1))[None], counts)))
    return [read_model(kind, limit, 1, table) for kind, table in tables]


def fit_model(
    counts: npt.NDArray[np.uint32], quantiser: U8, share: float = 1.0, *, by_state: bool = False
) -> tuple[float, LevelModel]:
    """Choose the model that takes the fewest bits, its table included.

    Parameters
    ----------
    counts : ndarray, shape (states, 2 * limit + 1), uint32
        How often each level was chosen in each state.
    quantiser : ndarray, shape (states,), uint8
        Which of the two quantisers each state uses.
    share : float
        All values over those counted.
    by_state : bool
        Whether each state has a table of its own.

    Returns
    -------
    float, LevelModel
        Bits that all values will take, and the model.
    """
    states, width = counts.shape
    limit = width // 2
    total = float(counts.sum()) * share
    blocks = -(-total // BLOCK)

    def cost(model: LevelModel, counted: npt.NDArray[np.uint32]) -> tuple[float, LevelModel]:
        # Each number fitted to a sample makes it look better by half a nat than what was not in the sample. Each block
        # also says how many levels each context has: two bytes or so.
        bits = share * (model.bits(counted) + 0.72 * model.table.size)
        return bits + 8 * model.table.size + 16 * blocks * len(model.frequencies), model

    if by_state:
        each = [
            _to_bytes([_densities(row[limit:]), _densities(row[:limit][::-1])]) for row in counts.astype(np.float64)
        ]
        return cost(read_model(STATES, limit, states, np.concatenate(each)), counts)
    if states == 1:
        return min((cost(model, counts) for model in _uniform_models(limit, counts)), key=lambda pair: pair[0])
    two = np.array([counts[quantiser == i].sum(axis=0) for i in (0, 1)], np.uint32)
    if not two.any():
        return cost(read_model(CURVE, limit, states, np.zeros(2, np.uint8)), two)
    joint = np.empty(2 * width)
    joint[0::2], joint[1::2] = two / np.maximum(two.sum(axis=1, keepdims=True), 1) * (two.sum() / 2)
    outward, inward = joint[2 * limit :], joint[: 2 * limit][::-1]
    even = outward.copy()
    even[1 : 2 * limit + 1] += inward
    even[0] *= 2
    even[-1] *= 2
    tables = [(EVEN, _to_bytes([_densities(even)])), (ODD, _to_bytes([_densities(outward), _densities(inward)]))]
    if total < _CURVE_VALUES:
        level = 2 * np.arange(-limit, limit + 1)
        tables.append((CURVE, _fit_curve(np.abs([level, level + 1]), two)))
    return min((cost(read_model(kind, limit, states, table), two) for kind, table in tables), key=lambda pair: pair[0])


def table_cost(counts: npt.NDArray[np.uint32], share: float) -> float:
    """Estimate the bits of levels and tables.

    Parameters
    ----------
    counts : ndarray, shape (contexts, 2 * limit + 1), uint32
        How often each level was chosen in each context.
    share : float
        All values over those counted.

    Returns
    -------
    float
        Entropy of the levels, plus a few bytes for the table of each context, and two for its count in each block.
    """
    sums = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(counts * np.log2(counts / sums))
    # Counts of few values look less random than their source (Miller, 1955): half a nat for each level that occurs.
    entropy += 0.72 * np.count_nonzero(counts)
    table = min(12.0, 2 + np.count_nonzero(counts.sum(axis=0)) / 4)
    blocks = -(-sums.sum() * share // BLOCK)
    return float(share * entropy + len(counts) * (8 * table + 16 * blocks))
