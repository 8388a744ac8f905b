"""Uniform quantisation for entropy coding: one step per tensor, chosen for a signal-to-distortion ratio."""

from __future__ import annotations

import fnmatch
import math
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.masks import fit, merge_parts, pack_codes, unpack_codes
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Fixed part of the grid: step, offset, lowest level, bits per code, whether the last code is an escape.
_GRID: Final = struct.Struct("<ffiBB")
#: Widths of the zero bin that are tried, in steps; values looked at to choose; values worked on at a time.
_WIDTHS: Final = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8)
_SAMPLE: Final = 1 << 15
#: Entropy (bits) above which a wider zero bin gains nothing that a sample could show.
_FINE: Final = 4.0
_CHUNK: Final = 1 << 20
#: Levels whose reconstruction may be told apart from the others'; each costs a float32.
_CENTROIDS: Final = (0, 1, 2, 3, 4, 6, 8)
#: Widest code, and bits of a level that codes escape to.
_WIDEST: Final = 16
_ESCAPED: Final = 32
_SMALLEST: Final = float(np.finfo(np.float32).smallest_subnormal)
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Uniform(Compressor):
    """Quantise every analog stream with a step that gives it the wanted fidelity; for use with ``Entropy``.

    Level 0 is exactly zero and may have a wider bin than the others, which near zero costs little error and saves many
    bits (G. J. Sullivan, "Efficient scalar quantization of exponential and Laplacian random variables", IEEE Trans.
    Inf. Theory 42 (1996), doi:10.1109/18.532878). Level ``k > 0`` decodes to ``k * step + offset``, the lowest few to
    centroids of their own where that gains more bits than it costs, negative levels alike. ``w`` becomes ``w/codes``,
    packed at the fewest bits that hold the range of levels, and ``w/grid``: step, offset, lowest level, bits,
    centroids; and ``w/outliers`` where codes escape.

    Parameters
    ----------
    sdr : float or tuple of (str, float) pairs, optional
        Signal-to-distortion ratio of each tensor, dB: variance over mean squared error. Pairs of a pattern
        (``fnmatch``) of stream names and a ratio, the first that matches counts. 20 if no step is given.
    step : float, optional
        Instead of `sdr`, the distance of levels in all tensors.
    deadzone : "auto" or float
        Width of the zero bin in steps, 1 (none) to 2. ``"auto"`` takes the width of least entropy at the wanted ratio,
        and 1 where the step is given.
    escape : bool
        Store rare outliers apart at 32 bits, where that takes fewer bits before entropy coding (which takes rare
        codes well, so that escapes are usually not worth it). Levels beyond 16 bits always escape.

    Raises
    ------
    SpecError
        If a field is out of range, or both ratio and step are given.

    Notes
    -----
    At high rates a uniform quantiser with entropy coding is 0.25 bit (1.53 dB) above the rate-distortion function
    whatever the source (H. Gish and J. Pierce, "Asymptotically efficient quantizing", IEEE Trans. Inf. Theory 14
    (1968), doi:10.1109/TIT.1968.1054193).
    """

    name: ClassVar[str] = "uniform"
    source: ClassVar[str] = "G. J. Sullivan 1996, doi:10.1109/18.532878 (zero bin)"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"sdr": 6.0},
        {"sdr": [["w*", 45.0], ["*", 30]], "deadzone": 1.2, "escape": True},
        {"step": 0.05},
    )
    sdr: float | tuple[tuple[str, float], ...] | None = None
    step: float | None = None
    deadzone: float | str = "auto"
    escape: bool = False

    def __post_init__(self) -> None:
        if self.sdr is not None and self.step is not None:
            raise SpecError("uniform: give sdr or step, not both")
        if self.step is not None:
            check_number("uniform", "step", self.step, 0, _LARGEST, open_low=True)
        elif self.sdr is None:
            object.__setattr__(self, "sdr", 20.0)
        elif isinstance(self.sdr, list | tuple):
            object.__setattr__(self, "sdr", tuple(_pair(item) for item in self.sdr))
        else:
            check_number("uniform", "sdr", self.sdr, 0, 120, open_low=True)
        if self.deadzone != "auto":
            check_number("uniform", "deadzone", self.deadzone, 1, 2)
        if not isinstance(self.escape, bool):
            raise SpecError(f"uniform: escape must be True or False, not {self.escape!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Quantise every analog stream; bit streams pass.

        Raises
        ------
        SpecError
            If no pattern matches a stream.
        TensorError
            If a step is too small to count the levels.
        """
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._encode(stream) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Turn codes back into values; a damaged grid may give any value, infinities and NaN included."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            shape = context.shapes.get(base)
            return AnalogStream(base, _decode(parts, None if shape is None else math.prod(shape)))

        return merge_parts(payload, ("codes", "grid"), join, optional=("outliers",))

    def _ratio(self, name: str) -> float:
        if not isinstance(self.sdr, tuple):
            return float(self.sdr or 0.0)
        for pattern, ratio in self.sdr:
            if fnmatch.fnmatchcase(name, pattern):
                return ratio
        raise SpecError(f'uniform: no pattern of sdr matches {name}; end the list with ("*", ratio)')

    def _encode(self, stream: AnalogStream) -> list[Stream]:
        values = stream.values
        step, width = self._choose(stream)
        tally = _tally(values, step, width, stream.name)
        offset, centroids, _ = _reconstruction(tally, step)
        low = high = 0
        if values.size:
            low, high = _levels(np.array([values.min(), values.max()]), step, width).tolist()
        low, bits, escapes = _code_range(values, step, width, (low, high), self.escape)
        codes = np.empty(values.size if bits else 0, np.uint16)
        outliers: list[npt.NDArray[np.int32]] = []
        for start in range(0, codes.size, _CHUNK):
            level = _levels(values[start : start + _CHUNK], step, width) - low
            if escapes:
                beyond = (level < 0) | (level >= 2**bits - 1)
                outliers.append((level[beyond] + low).astype(np.int32))
                level[beyond] = 2**bits - 1
            codes[start : start + _CHUNK] = level
        base = stream.name + SEPARATOR
        grid = _GRID.pack(step, offset, low, bits, escapes) + centroids.astype("<f4").tobytes()
        packed = pack_codes(codes, bits) if bits else np.zeros(0, np.uint8)
        out: list[Stream] = [
            BitStream(f"{base}codes", packed, codes.size * bits, "index", symbol_bits=max(bits, 1)),
            BitStream(f"{base}grid", np.frombuffer(grid, np.uint8), 8 * len(grid), "codebook", symbol_bits=8),
        ]
        if escapes:
            out.append(BitStream.from_array(f"{base}outliers", np.concatenate(outliers), "index"))
        return out

    def _choose(self, stream: AnalogStream) -> tuple[float, float]:
        """Step (a float32) and width of the zero bin."""
        values = stream.values
        if self.step is not None:
            return _as_step(self.step), 1.0 if isinstance(self.deadzone, str) else self.deadzone
        ratio = 10.0 ** (self._ratio(stream.name) / 10)
        peak = float(np.abs(values).max(initial=0))
        if peak == 0 or values.min() == values.max():
            return _as_step(peak or 1.0), 1.0
        sample = np.ascontiguousarray(strided_sample(values, _SAMPLE))
        widths = _WIDTHS if isinstance(self.deadzone, str) else (self.deadzone,)
        best: tuple[float, float, float] | None = None
        for width in widths:
            start = best[1] if best else math.sqrt(12 * _variance(sample) / ratio)
            step = _solve(sample, ratio, width, start, stream.name)
            bits = _entropy(sample, step, width)
            if best is not None and bits >= best[0]:
                break  # entropies of neighbouring widths have one minimum
            best = bits, step, width
            if bits > _FINE:
                break
        _, step, width = best or (0.0, 1.0, 1.0)
        return (step if sample.size == values.size else _solve(values, ratio, width, step, stream.name)), width


@dataclass(frozen=True)
class _Tally:
    """The magnitudes of levels that occur, how often, and by how much values lie above their level times the step.

    Residuals, not values, are summed, so that a large common part of all values does not drown their errors.
    """

    levels: I64
    counts: I64
    sums: F64
    squares: float


def _pair(item: object) -> tuple[str, float]:
    if not isinstance(item, list | tuple) or len(item) != 2 or not isinstance(item[0], str):
        raise SpecError(f"uniform: sdr is a number or pairs of a pattern and a number, not {item!r}")
    check_number("uniform", "sdr", item[1], 0, 120, open_low=True)
    return item[0], float(item[1])


def _as_step(step: float) -> float:
    return max(float(np.float32(min(step, _LARGEST))), _SMALLEST)


def _levels(values: F32, step: float, width: float) -> I64:
    """Signed levels: magnitudes up to half the zero bin's width are 0, then one level per step."""
    magnitude = np.abs(values).astype(np.float64)
    magnitude *= 1.0 / step
    magnitude += 1.0 - width / 2
    level: I64 = np.minimum(magnitude, 2.0**62).astype(np.int64)
    return np.negative(level, out=level, where=values < 0)


def _variance(values: F32) -> float:
    sums = np.zeros(2)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK].astype(np.float64)
        sums += part.sum(), np.square(part).sum()
    mean = sums / values.size
    if mean[1] > 1e3 * (mean[1] - mean[0] ** 2):  # the difference cancels: subtract the mean first
        return float(np.square(values - mean[0]).mean())
    return float(mean[1] - mean[0] ** 2)


def _tally(values: F32, step: float, width: float, name: str) -> _Tally:
    if values.size == 0:
        return _Tally(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), 0.0)
    peak = max(-float(values.min()), float(values.max()))
    last = int(_levels(np.array([peak], np.float32), step, width)[0])
    if last >= 2**31:
        raise TensorError(f"{name}: a step of {step:g} is too small for values up to {peak:g}; raise it or lower sdr")
    if last > max(1 << 16, 4 * values.size):
        return _few(np.abs(values), step, width)
    counts, sums, squares = np.zeros(last + 1, np.int64), np.zeros(last + 1), 0.0
    for start in range(0, values.size, _CHUNK):
        part = np.abs(values[start : start + _CHUNK])
        level = _levels(part, step, width)
        residual = part - level * step
        counts += np.bincount(level, minlength=counts.size)
        sums += np.bincount(level, residual, minlength=counts.size)
        squares += float(np.dot(residual, residual))
    seen = np.flatnonzero(counts)
    return _Tally(seen, counts[seen], sums[seen], squares)


def _few(magnitudes: F32, step: float, width: float) -> _Tally:
    """Tally of values that are few beside their levels."""
    level = _levels(magnitudes, step, width)
    residual = magnitudes - level * step
    seen, where, counts = np.unique(level, return_inverse=True, return_counts=True)
    return _Tally(
        seen, counts, np.bincount(where.reshape(-1), residual).astype(np.float64), float(np.dot(residual, residual))
    )


def _reconstruction(tally: _Tally, step: float) -> tuple[float, F64, float]:
    """Offset, centroids of the lowest levels, and the sum of squared errors.

    As many centroids as are worth their bits: a factor f of distortion is worth ``log2(f) / 2`` bits per value.
    """
    n, best = int(tally.counts.sum()), (math.inf, 0.0, np.zeros(0), 0.0)
    for own in _CENTROIDS if n else ():
        if own > tally.levels[-1]:
            break
        rest, near = tally.levels > own, (tally.levels > 0) & (tally.levels <= own)
        offset = float(np.float32(tally.sums[rest].sum() / max(int(tally.counts[rest].sum()), 1)))
        shifts = np.where(rest, offset, 0.0)
        centroids = np.arange(1, own + 1, dtype=np.float64) * step
        at = tally.levels[near]
        centroids[at - 1] = (at * step + tally.sums[near] / tally.counts[near]).astype(np.float32)
        shifts[near] = centroids[at - 1] - at * step
        error = max(0.0, tally.squares + float(np.dot(shifts, tally.counts * shifts - 2 * tally.sums)))
        floor = max(error, 1e-12 * n * step**2)
        cost = 32 * own + n / 2 * math.log2(floor) if floor > 0 else -math.inf
        if cost < best[0]:
            best = cost, offset, centroids, error
        if floor > error:
            break
    return best[1:]


def _solve(values: F32, ratio: float, width: float, start: float, name: str) -> float:
    """Find the largest step (nearly) whose distortion is the variance over `ratio`, from a good guess."""
    target = _variance(values) / ratio * values.size
    low, high, step = 0.0, math.inf, _as_step(start)
    for _ in range(40):
        error = _reconstruction(_tally(values, step, width, name), step)[2]
        if error <= target:
            low = step
            if error >= 0.9995 * target:
                break
        else:
            high = step
        guess = step * min(max(math.sqrt(0.99985 * target / error) if error > 0 else 4.0, 0.25), 4.0)
        inside = low < guess < high
        following = _as_step(guess if inside else math.sqrt(low * high) if low > 0 and high < math.inf else guess)
        if (low > 0 and high < low * (1 + 1e-6)) or following == step:
            break
        step = following
    return low or step


def _entropy(values: F32, step: float, width: float) -> float:
    """Zero-order entropy of the levels, bits per value."""
    level = _levels(values, step, width)
    level -= level.min()
    counts = np.bincount(level) if int(level.max()) < 1 << 18 else np.unique(level, return_counts=True)[1]
    share = counts[counts > 0] / values.size
    return float(-np.dot(share, np.log2(share)))


def _code_range(values: F32, step: float, width: float, ends: tuple[int, int], escape: bool) -> tuple[int, int, bool]:
    """Lowest level, bits per code, and whether the last code is an escape."""
    low, high = ends
    full = (high - low).bit_length()
    if full <= _WIDEST and not escape:
        return low, full, False
    level = np.sort(_levels(values, step, width))
    best = (full * values.size if full <= _WIDEST else math.inf), low, full, False
    for bits in range(1, min(full - 1, _WIDEST) + 1 if full <= _WIDEST else _WIDEST + 1):
        # The window of 2**bits - 1 levels around the median, pushed inside the range.
        room = 2**bits - 1
        start = min(max(int(level[level.size // 2]) - room // 2, low), max(high - room + 1, low))
        inside = int(np.searchsorted(level, start + room)) - int(np.searchsorted(level, start))
        cost = bits * values.size + _ESCAPED * (values.size - inside)
        if cost < best[0]:
            best = cost, start, bits, True
    return best[1], best[2], best[3]


@np.errstate(all="ignore")
def _decode(parts: dict[str, Any], size: int | None) -> F32:
    grid = fit(parts["grid"].data, max(_GRID.size, parts["grid"].data.size)).tobytes()
    step, offset, low, bits, escapes = _GRID.unpack(grid[: _GRID.size])
    whole = (len(grid) - _GRID.size) // 4 * 4
    centroids = np.frombuffer(grid[_GRID.size : _GRID.size + whole], "<f4").astype(np.float64)
    bits = min(bits, _WIDEST)
    length = parts["codes"].length
    count = (length // bits if bits else 0) if size is None else size
    values = np.empty(count, np.float32)
    codes = unpack_codes(parts["codes"].data, bits, count) if bits else np.zeros(count, np.uint16)
    outliers = parts["outliers"].to_array(np.int32) if escapes and "outliers" in parts else np.zeros(0, np.int32)
    used = 0
    for start in range(0, count, _CHUNK):
        code = codes[start : start + _CHUNK]
        level = code.astype(np.int64) + low
        if escapes:
            beyond = np.flatnonzero(code == 2**bits - 1)
            level[beyond] = fit(outliers[used:], beyond.size)
            used += beyond.size
        magnitude = np.abs(level)
        points = magnitude * float(step) + float(offset)
        own = magnitude <= centroids.size
        points[own] = np.concatenate([[0.0], centroids])[magnitude[own]]
        values[start : start + _CHUNK] = np.clip(np.where(level < 0, -points, points), -_LARGEST, _LARGEST)
    return values
