"""Capacity of a cell: the most bits that one write and one read can carry, whatever the code."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.array import OneShot, Write
from memristore.config import check_number
from memristore.devices.device import Device
from memristore.errors import SpecError
from memristore.mapping.level_reads import Reads
from memristore.mapping.levels import Levels

F64 = npt.NDArray[np.float64]

#: Equally spaced targets that an input may choose from (at least, and where cells tell more of them apart).
TARGETS: Final[int] = 129
_MOST_TARGETS: Final[int] = 1025
#: Bits below those of the targets at which more targets could tell more, and what more targets must bring.
_ROOM: Final[float] = 2.0
_GAIN: Final[float] = 0.005
_MOST_ROUNDS: Final[int] = 20000
_STEEPEST: Final[float] = 1e4


@dataclass(frozen=True, eq=False)
class Capacity:
    """Capacity of a channel, and the input that reaches it.

    Parameters
    ----------
    bits : float
        Lower bound, bits per use: the mutual information of `inputs` and their outputs.
    inputs : ndarray, shape (n,)
        Probability of each input.
    targets : ndarray, shape (n,)
        Target of each input; row numbers where the channel is a bare matrix.
    gap : float
        The capacity is at most `bits` + `gap`.
    """

    bits: float
    inputs: F64
    targets: F64
    gap: float


def _divergences(matrix: F64, own: F64, inputs: F64) -> F64:
    """Kullback-Leibler divergence, bits, of each row from the output that `inputs` give."""
    output = inputs @ matrix
    log = np.log2(np.where(output > 0, output, 1.0))
    return np.asarray(own - matrix @ log)


def _channel(matrix: npt.ArrayLike) -> F64:
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0 or not np.all(rows >= 0) or np.any(np.abs(rows.sum(axis=1) - 1) > 1e-6):
        raise SpecError("capacity: a channel is a matrix of probabilities, one row per input, rows summing to 1")
    return rows


def _own(rows: F64) -> F64:
    """Sum of p log2 p of each row."""
    found: F64 = (rows * np.log2(np.where(rows > 0, rows, 1.0))).sum(axis=1)
    return found


def mutual_information(matrix: npt.ArrayLike, inputs: npt.ArrayLike) -> float:
    """Bits per use that a given input distribution carries over a discrete memoryless channel.

    Parameters
    ----------
    matrix : array_like, shape (inputs, outputs)
        P(output | input); rows sum to 1.
    inputs : array_like, shape (inputs,)
        Probability of each input.

    Raises
    ------
    SpecError
        If the matrix is not a channel, or the inputs are no distribution.
    """
    rows, given = _channel(matrix), np.asarray(inputs, dtype=np.float64)
    if given.shape != (rows.shape[0],) or not np.all(given >= 0) or abs(given.sum() - 1) > 1e-6:
        raise SpecError(f"capacity: inputs are {rows.shape[0]} probabilities that sum to 1, one for each row")
    return max(float(given @ _divergences(rows, _own(rows), given)), 0.0)


def blahut_arimoto(matrix: npt.ArrayLike, tolerance: float = 1e-4) -> Capacity:
    """Capacity of a discrete memoryless channel.

    Multiplicative updates p <- p 2^(s D), D the divergence of each row from the output. s = 1 is the algorithm of
    Blahut and Arimoto (IEEE Trans. Inf. Theory 18, 1972), which always gains; longer steps are tried and kept while
    they gain.
    Stops when the bounds sum p D <= C <= max D differ by no more than `tolerance`.

    Parameters
    ----------
    matrix : array_like, shape (inputs, outputs)
        P(output | input); rows sum to 1.
    tolerance : float
        Bits.

    Returns
    -------
    Capacity

    Raises
    ------
    SpecError
        If the matrix is not a channel, or the tolerance is not reached (it is too small for double precision).
    """
    rows = _channel(matrix)
    check_number("capacity", "tolerance", tolerance, 0, 64, open_low=True)
    own = _own(rows)
    inputs = np.full(rows.shape[0], 1.0 / rows.shape[0])
    away = _divergences(rows, own, inputs)
    bits, step = float(inputs @ away), 1.0
    for _ in range(_MOST_ROUNDS):
        gap = float(away.max()) - bits
        if gap <= tolerance:
            return Capacity(bits, inputs, np.arange(rows.shape[0], dtype=np.float64), max(gap, 0.0))
        # The shift by the largest keeps powers finite; inputs that fade stay above zero, so that they may return.
        tried = np.maximum(inputs * np.exp2(np.maximum(step * (away - away.max()), -200.0)), 1e-200)
        tried /= tried.sum()
        further = _divergences(rows, own, tried)
        found = float(tried @ further)
        if found >= bits or step <= 1.0:
            inputs, away, bits = tried, further, found
            step = min(step * 1.5, _STEEPEST)
        else:
            step = max(1.0, step / 4.0)
    raise SpecError(f"capacity: not within {tolerance:g} bits after {_MOST_ROUNDS} rounds; allow a larger tolerance")


def capacity(
    device: Device,
    at: float,
    write: Write | None = None,
    copies: int = 1,
    levels: npt.ArrayLike | int | None = None,
    tolerance: float = 1e-3,
) -> Capacity:
    """Capacity of a cell of a device, bits per target: one write, one read, the decoder knowing the age.

    Cell-to-cell spread counts as noise, as for a decoder that sees each cell once. Reads are sorted into 1024 bins; the
    input chooses among 129 targets, or one more than a multiple of the knots of a measured response; among twice as
    many, up to some 1,025, where cells tell so many apart. That costs less than 0.005 bit up to 7 bits (additive noise:
    0.06 at 8); beyond, and without noise, the bins are the limit, and what is found (10 bits at most) is low.
    Program-and-verify: from simulated samples, which puts it a little high.

    Parameters
    ----------
    device : Device
    at : float
        Seconds after programming.
    write : Write, optional
        One-shot by default.
    copies : int
        Cells with the same target whose reads are averaged; divide by it for bits per cell.
    levels : array_like or int, optional
        Targets that the input may use, instead of the whole range; or how many (2, 3, 4, 6, 8, 16), placed for the most
        information when all are equally likely, as `memristore.Levels` places them.
    tolerance : float
        Bits between the bounds at which to stop.

    Returns
    -------
    Capacity

    Raises
    ------
    SpecError
        If a number is out of range.
    """
    check_number("capacity", "at", at, 0, 1e12)
    check_number("capacity", "copies", copies, 1, 16, integer=True)
    chosen, how = None, OneShot() if write is None else write
    if isinstance(levels, (int, np.integer)):
        design = Levels(count=int(levels), placement="information").design(device, how, float(at), copies)
        chosen = tuple(float(target) for target in design.targets)
    elif levels is not None:
        given = np.asarray(levels, dtype=np.float64)
        if given.ndim != 1 or given.size < 1 or not np.all((given >= 0) & (given <= 1)):
            raise SpecError("capacity: levels are targets in [0, 1], shape (n,)")
        chosen = tuple(given.tolist())
    return _capacity(device, float(at), how, copies, chosen, tolerance)


@functools.lru_cache(maxsize=128)
def _capacity(
    device: Device, at: float, write: Write, copies: int, levels: tuple[float, ...] | None, tolerance: float
) -> Capacity:
    if levels is not None:
        return _over(device, at, write, copies, np.array(levels), tolerance)
    knots = len(device.response.values) - 1 if device.response.form == "table" else 1
    steps = knots * math.ceil((TARGETS - 1) / knots)
    found = _over(device, at, write, copies, np.linspace(0.0, 1.0, steps + 1), tolerance)
    while found.bits > math.log2(steps + 1) - _ROOM and 2 * steps < _MOST_TARGETS:
        steps *= 2
        finer = _over(device, at, write, copies, np.linspace(0.0, 1.0, steps + 1), tolerance)
        gain, found = finer.bits - found.bits, max(found, finer, key=lambda c: c.bits)
        if gain < _GAIN:
            break
    return found


def _over(device: Device, at: float, write: Write, copies: int, x: F64, tolerance: float) -> Capacity:
    """Capacity over the targets given."""
    # Rare reads carry next to nothing.
    masses = Reads(device, write, at, copies, tails=False).masses(x, sketch=True)
    # Bins that are never seen cost time only.
    found = blahut_arimoto(masses[:, masses.max(axis=0) > 1e-18], tolerance)
    return Capacity(found.bits, found.inputs, x, found.gap)
