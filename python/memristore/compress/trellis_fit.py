"""The encoder's search: step, shifts, classes and tables with which a tensor reaches its error in the fewest bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.compress.level_models import BLOCK, STATES, fit_model, table_cost
from memristore.compress.level_stream import MAX_LIMIT, SHIFT_UNIT, LevelCoder, bound_of, quantisers

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
#: Ratio reached, dB, with what, and the levels.
Trial: TypeAlias = tuple[float, LevelCoder, I32]

#: What a bit may cost, in squared steps. Found by trying: about 0.01 dB from the best value for each rate from 0.4 to 6
#: bits.
MULTIPLIER: Final = 0.3
#: Values looked at while the parameters are sought, in runs of this many.
_SAMPLE: Final = 65536
_RUN: Final = 4096
#: Passes over the sample, and tries to reach the error with all values.
_PASSES: Final = 8
_TRIES: Final = 10
#: Steps that the kernels can divide by, with room to spare.
STEPS: Final = (1e-36, 1e37)
#: How far above the wanted signal-to-distortion ratio a tensor may end, dB.
_EXCESS: Final = 0.05
#: Forgetting tried for classes, in which pass, and for how many values at least.
_DECAYS: Final = (1, 2, 4)
_MEMORY_PASS: Final = 2
_MEMORY_VALUES: Final = 500
#: Fewer values get no shifts: their points lie where they should.
_SHIFT_VALUES: Final = 64
#: Tables for each state are tried below this rate (bits), for so many values for each state at least.
_BY_STATE_RATE: Final = 2.0
_BY_STATE_VALUES: Final = 1000
_NO_CLASSES: Final = np.zeros(0, np.uint8)


@dataclass(frozen=True, eq=False)
class Source:
    """Values to quantise: `x` in pieces, in each of which the trellis starts anew at every block."""

    x: F32
    pieces: tuple[slice, ...]
    threads: int


def _search(source: Source, states: int, step: np.float32, costs: F32, classes: U8, shifts: F32) -> I32:
    """Levels of least cost; `costs` has shape (classes, 2 * limit + 1, states)."""
    levels = np.empty(source.x.size, np.int32)
    limit = costs.shape[1] // 2
    inverse = float(1 / np.float64(step))
    for piece in source.pieces:
        some = classes[piece] if classes.size else classes
        out = levels[piece]
        _core.trellis_search(
            source.x[piece], states, inverse, limit, costs.reshape(-1), some, shifts, out, source.threads
        )
    return levels


def _count(source: Source, levels: I32, coder: LevelCoder, group: U8) -> U32:
    """Counts of shape (classes * groups, 2 * limit + 1)."""
    limit = int(min(max(1, np.abs(levels).max(initial=1)), MAX_LIMIT))
    groups = int(group.max()) + 1
    memory = coder.memory
    counts = np.zeros(groups * memory.size * (2 * limit + 1), np.uint32)
    for piece in source.pieces:
        _core.trellis_count(levels[piece], coder.states, limit, group, groups, memory, counts)
    return counts.reshape(-1, 2 * limit + 1)


def _points(source: Source, levels: I32, states: int, shifts: F32, out: F32 | None = None) -> F32:
    points = np.empty(levels.size, np.float32) if out is None else out
    for piece in source.pieces:
        _core.trellis_points(levels[piece], states, shifts, points[piece], source.threads)
    return points


def _classes(source: Source, points: F32, memory: U32) -> U8:
    if memory.size == 1:
        return _NO_CLASSES
    classes = np.empty(points.size, np.uint8)
    for piece in source.pieces:
        _core.trellis_classes(points[piece], memory, classes[piece], source.threads)
    return classes


def mean_square(values: F32, back: F32) -> float:
    """Mean squared difference, in float64."""
    total = 0.0
    for start in range(0, values.size, BLOCK):
        error = values[start : start + BLOCK].astype(np.float64) - back[start : start + BLOCK]
        total += float(np.square(error, out=error).sum())
    return total / max(values.size, 1)


def _costs(coder: LevelCoder) -> F32:
    """Cost of each level in each class and state, rounded so that it does not hang on the last digit of a logarithm."""
    bits = np.stack([np.rint(-256 * np.log2(m.probabilities[coder.group])) / 256 for m in coder.models])
    return np.ascontiguousarray(MULTIPLIER * bits.transpose(0, 2, 1), np.float32)


def _start_costs(states: int, limit: int, spread: float) -> F32:
    """Costs as if the values were Laplacian with this standard deviation, in steps."""
    q = np.abs(2 * np.arange(-limit, limit + 1) + np.arange(2)[:, None])
    bits = 1.5 + q * (2**0.5 / np.log(2) / max(spread, 0.3))
    return np.ascontiguousarray(MULTIPLIER * bits[quantisers(states)].T[None], np.float32)


def _centroids(x: F32, step: np.float32, q: F32) -> npt.NDArray[np.int8]:
    """Shifts that move the points to the mean of what they stand for."""
    place = np.minimum(np.abs(q), 5).astype(np.int64)
    beyond = x / np.float64(step) * np.where(q < 0, -1, 1) - np.abs(q)
    mean = np.bincount(place, beyond, 6) / np.maximum(np.bincount(place, minlength=6), 1)
    return np.clip(np.rint(SHIFT_UNIT * mean[1:]), -127, 127).astype(np.int8)


def fit_coder(source: Source, target: float | None, step: float, states: int, offset: np.float32) -> LevelCoder:
    """Find all parameters on a sample.

    Parameters
    ----------
    source : Source
        All values, less the offset.
    target : float, optional
        Mean squared error to reach; the step is then only where the search begins.
    step : float
        Step.
    states : int
        States of the trellis.
    offset : float32
        Offset.

    Returns
    -------
    LevelCoder
        With tables from the sample.
    """
    sample = _sample_of(source)
    total = source.x.size
    bits, coder = _fit(sample, total, target, LevelCoder(states, np.float32(step), (), offset), by_state=False)
    if _BY_STATE_VALUES * states < total and bits < _BY_STATE_RATE * total:
        again, other = _fit(sample, total, target, LevelCoder(states, np.float32(step), (), offset), by_state=True)
        coder = other if again < bits else coder
    return coder


def _fit(
    sample: Source, total: int, target: float | None, coder: LevelCoder, *, by_state: bool
) -> tuple[float, LevelCoder]:
    """Alternate between levels and everything else; returns the bits that all values will take, too."""
    x = sample.x
    limit = min(int(float(np.abs(x).max()) / (2 * float(coder.step))) + 2, MAX_LIMIT)
    costs = _start_costs(coder.states, limit, float(x.std(dtype=np.float64) / coder.step))
    classes = _NO_CLASSES
    bits = 0.0
    for i in range(_PASSES):
        shifts = coder.shift_steps
        levels = _search(sample, coder.states, coder.step, costs, classes, shifts)
        q = _points(sample, levels, coder.states, np.zeros(5, np.float32))
        points = _points(sample, levels, coder.states, shifts)
        error = mean_square(x, points * coder.step)
        bits, coder = _refit(sample, levels, coder, total, by_state=by_state)
        if i == _MEMORY_PASS and not by_state and total >= _MEMORY_VALUES:
            coder = _remember(sample, levels, coder, np.abs(q), total)
        if x.size >= _SHIFT_VALUES:
            coder = dataclasses.replace(coder, shifts=_centroids(x, coder.step, q))
        if target is not None:
            # Bits at the wanted error, at 6 dB for each.
            bits += total * 0.5 * float(np.log2(max(error, 1e-300) / target))
            near = np.clip((target / max(error, 1e-300)) ** 0.5, 0.5, 2.0)
            coder = dataclasses.replace(coder, step=np.float32(coder.step * near))
        costs = _costs(coder)
        classes = _classes(sample, points, coder.memory)
    return bits, coder


def _sample_of(source: Source) -> Source:
    n = source.x.size
    if n <= 2 * _SAMPLE:
        return source
    starts = np.linspace(0, n - _RUN, _SAMPLE // _RUN).astype(np.int64)
    x = np.concatenate([source.x[s : s + _RUN] for s in starts])
    return Source(x, (slice(0, x.size),), 1)


def _refit(source: Source, levels: I32, coder: LevelCoder, total: int, *, by_state: bool) -> tuple[float, LevelCoder]:
    """Give the coder the tables that suit levels best; returns the bits that all values will take, too."""
    share = total / max(levels.size, 1)
    states = np.arange(coder.states, dtype=np.uint8)
    group = states if by_state else quantisers(coder.states)
    counts = _count(source, levels, coder, group)
    rows = counts.reshape(coder.memory.size, -1, counts.shape[1])
    quantiser = quantisers(coder.states) if by_state else states[:2]
    fits = [fit_model(row, quantiser, share, by_state=by_state) for row in rows]
    return sum(bits for bits, _ in fits), dataclasses.replace(coder, models=tuple(model for _, model in fits))


def _remember(source: Source, levels: I32, coder: LevelCoder, magnitude: F32, total: int) -> LevelCoder:
    """Give the coder classes, if those of some decay save more than their tables take."""
    number = 4 if total < 5000 else 8
    share = total / levels.size
    group = quantisers(coder.states)
    best = table_cost(_count(source, levels, coder, group), share), coder
    for decay in _DECAYS:
        mean = _running_mean(source, magnitude, decay)
        bounds = _bound_codes(np.quantile(mean, np.arange(1, number) / number))
        trial = dataclasses.replace(coder, decay=decay, bounds=bounds)
        cost = table_cost(_count(source, levels, trial, group), share)
        if cost < best[0]:
            best = cost, trial
    return coder if best[1] is coder else _refit(source, levels, best[1], total, by_state=False)[1]


def context_coder(source: Source, levels: I32, coder: LevelCoder) -> LevelCoder:
    """Give a coder the classes and tables that suit levels best.

    Parameters
    ----------
    source : Source
        Of the levels; its values are not looked at.
    levels : ndarray, shape (n,), int32
    coder : LevelCoder
        Its states, step, offset and shifts stay.
    """
    coder = _refit(source, levels, coder, levels.size, by_state=False)[1]
    if levels.size < _MEMORY_VALUES:
        return coder
    points = _points(source, levels, coder.states, np.zeros(5, np.float32))
    return _remember(source, levels, coder, np.abs(points), levels.size)


def _running_mean(source: Source, magnitude: F32, decay: int) -> F64:
    """What the kernel remembers at each value of the first piece's first block, in 256ths, rounding aside."""
    # Powers are summed in runs short enough for float64: 2**-decay to the power of a run must not vanish.
    some = magnitude[source.pieces[0]][:BLOCK].astype(np.float64) * 256
    kept = 1 - 2.0**-decay
    taps = kept ** np.arange(min(some.size, 8 << decay)) * 2.0**-decay
    return np.convolve(some, taps)[: some.size - 1] if some.size > 1 else some


def _bound_codes(bounds: F64) -> U8:
    table = bound_of(np.arange(256))
    return np.searchsorted(table.astype(np.float64), bounds).clip(0, 255).astype(np.uint8)


def reach(
    source: Source, values: F32, coder: LevelCoder, power: float, target: float | None
) -> tuple[LevelCoder, I32] | None:
    """Quantise all values, with the step moved until the error is met.

    Parameters
    ----------
    source : Source
        All values, less the offset.
    values : ndarray, shape (n,), float32
        All values.
    coder : LevelCoder
        From :func:`fit_coder`.
    power : float
        Signal-to-distortion ratio is this over the mean squared error.
    target : float, optional
        Ratio to reach, dB.

    Returns
    -------
    LevelCoder, ndarray of int32
        The coder with tables of all levels, and the levels; None if the ratio was not reached.
    """
    # What classes the search believes in: those after the values themselves, then those after the first levels found,
    # which stay, so that the ratio hangs on the step alone.
    points = (source.x / np.float64(coder.step)).astype(np.float32)
    classes = _classes(source, points, coder.memory)

    def quantise(coder: LevelCoder, weight: float) -> Trial:
        costs = np.float32(weight) * _costs(coder)
        levels = _search(source, coder.states, coder.step, costs, classes, coder.shift_steps)
        _points(source, levels, coder.states, coder.shift_steps, points)
        return _ratio(power, mean_square(values, coder.scale(points.copy()))), coder, levels

    if classes.size:
        quantise(coder, 1.0)
        classes = _classes(source, points, coder.memory)
    if target is None:
        best: Trial | None = quantise(coder, 1.0)
    else:
        best = _approach(
            lambda x: quantise(dataclasses.replace(coder, step=np.float32(x)), 1.0), target, float(coder.step)
        )
        if best is not None and best[0] > target + _EXCESS:
            # With few values or levels the error jumps as the step moves; then bits may weigh more than they should.
            found = best[1]
            other = _approach(lambda x: quantise(found, x), target, 1.02)
            best = best if other is None or other[0] > best[0] else other
    if best is None:
        return None
    by_state = best[1].models[0].kind == STATES
    return _refit(source, best[2], best[1], best[2].size, by_state=by_state)[1], best[2]


def _approach(trial: Callable[[float], Trial], target: float, start: float) -> Trial | None:
    """Move a number, which lowers the ratio as it grows, until the ratio is met; the best trial that is not below."""
    best: Trial | None = None
    low, high, now = 0.0, np.inf, float(start)
    stride = 1.0
    for _ in range(_TRIES):
        if not STEPS[0] < now < STEPS[1]:
            break
        made = trial(now)
        got = made[0]
        if got >= target and (best is None or got < best[0]):
            best = made
        if target <= got <= target + _EXCESS:
            break
        low, high = (max(low, now), high) if got >= target else (low, min(high, now))
        # At low rates the ratio hardly moves with the step, since ever more levels become zero: then longer strides.
        stride = 1.0 if low > 0 and high < np.inf else min(2 * stride, 64.0)
        now *= 10 ** (stride / 2 * (got - target - 0.4 * _EXCESS) / 20)
        if not low < now < high:
            now = (low + high) / 2 if high < np.inf else 1.5 * low
    return best


def _ratio(power: float, error: float) -> float:
    return float(10 * np.log10(power / error)) if error > 0 else np.inf
