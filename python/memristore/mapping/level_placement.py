"""Where levels are placed: the targets that make reads of neighbours differ most, or carry most information."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.devices.device import Device
from memristore.mapping.level_channel import bit_count, plogp, uniform_information
from memristore.mapping.level_reads import Reads, candidate_masses

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

_CHAIN: Final[int] = 257
_SWEEPS: Final[int] = 200


def bit_error(masses: F64, labels: U8 | None) -> float:
    """Mean error of a hard decision on one cell: of a bit, or of the level where `labels` is None."""
    count = masses.shape[0]
    level = np.argmax(masses, axis=0)
    bits = 1.0 if labels is None else np.log2(count)
    differ = 1 - np.eye(count) if labels is None else bit_count(labels[:, None] ^ labels)
    return float((masses * differ[:, level]).sum() / (count * bits))


def label_information(masses: F64, labels: U8 | None) -> float:
    """Bits per cell that label bits carry, each decoded by itself; without labels, that the level carries."""
    if labels is None:
        return uniform_information(masses)
    total = plogp(masses.mean(axis=0)).sum()
    bits = labels.size.bit_length() - 1
    out = 0.0
    for i in range(bits):
        one = (labels >> i & 1).astype(bool)
        for rows in (one, ~one):
            out += 0.5 * float(plogp(masses[rows].mean(axis=0)).sum())
    return out - bits * float(total)


def _chain(tables: Sequence[F64], mean: F64, count: int) -> I64:
    """Rows, in order, with the least sum of overlaps between neighbours: dynamic programming over pairs of rows."""
    size = mean.size
    cost = np.full((size, size), np.inf)
    for i in range(size - 1):
        overlap = np.max([np.minimum(t[i], t[i + 1 :]).sum(axis=1) for t in tables], axis=0)
        # Where nothing overlaps, levels keep apart.
        apart = np.maximum((mean[i + 1 :] - mean[i]) / (mean[-1] - mean[0]), 1e-9)
        cost[i, i + 1 :] = overlap + 1e-280 / np.square(apart)
    best = np.zeros(size)
    came = []
    for _ in range(count - 1):
        total = best[:, None] + cost
        came.append(np.argmin(total, axis=0))
        best = total[came[-1], np.arange(size)]
    path = [int(np.argmin(best))]
    for step in reversed(came):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def _climb(start: I64, size: int, value: Callable[[I64], float]) -> tuple[float, I64]:
    """Raise `value` by moving one level at a time, by steps that halve when none of them helps."""
    now, best = start.copy(), value(start)
    step = max(1, size // 32)
    for _ in range(_SWEEPS):
        before = best
        for k in range(now.size):
            for move in (step, -step):
                tried = now.copy()
                tried[k] += move
                if not 0 <= tried[k] < size or np.any(np.diff(tried) < 0):
                    continue
                found = value(tried)
                if found > best:
                    now, best = tried, found
                    break
        if best <= before + 1e-12 * abs(before):
            if step == 1:
                break
            step //= 2
    return best, now


def _even(position: F64, count: int) -> I64:
    """Indices whose rising positions are nearest to `count` equally spaced ones."""
    wanted = np.linspace(position[0], position[-1], count)
    return np.asarray(np.abs(position[:, None] - wanted).argmin(axis=0))


def place(device: Device, reads: Sequence[Reads], count: int, labels: U8 | None, placement: str) -> F64:
    """Targets of levels, by rising mean state.

    Parameters
    ----------
    device : Device
    reads : sequence of Reads
        Ages that count; the worst of them is made best.
    count : int
        Levels.
    labels : ndarray, shape (count,), uint8, or None
        Label of each level; None for levels of groups, which are judged as levels.
    placement : {"error", "information", "uniform"}

    Returns
    -------
    ndarray, shape (count,)
    """
    found = [candidate_masses(r) for r in reads]
    x, tables = found[0][0], [masses for _, masses in found]
    mean = np.maximum.accumulate(device.response(x))
    even = _even(mean, count)
    if placement == "uniform":
        return x[even]
    stride = max(1, (x.size - 1) // (_CHAIN - 1))
    chain = stride * _chain([t[::stride] for t in tables], mean[::stride], count)

    def fewest_errors(at: I64) -> float:
        return -max(bit_error(t[at], labels) for t in tables)

    def most_information(at: I64) -> float:
        return min(label_information(t[at], labels) for t in tables)

    if placement == "error":
        return x[_climb(chain, x.size, fewest_errors)[1]]
    spread = np.maximum(np.hypot(device.write(x), device.cell(x)), 1e-6 * (mean[-1] - mean[0]) + 1e-300)
    along = np.concatenate([[0.0], np.cumsum(np.diff(mean) / (0.5 * (spread[1:] + spread[:-1])))])
    starts = [chain, even, _even(along, count)]
    return x[max((_climb(s, x.size, most_information) for s in starts), key=lambda r: r[0])[1]]
