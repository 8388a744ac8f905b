"""Codebook quantisation: each tensor has a few shared values, found by k-means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.masks import fit, merge_parts, pack_codes, unpack_codes
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Values that the levels are found from, rounds at most, and the gain below which the search ends.
_SAMPLE: Final = 1 << 17
_ROUNDS: Final = 2000
_LEAST_GAIN: Final = 1e-8


@dataclass(frozen=True, kw_only=True)
class Codebook(Compressor):
    """Replace each value by the nearest of ``2**bits`` values that its tensor shares.

    ``w`` becomes ``w/codes``, packed at `bits` bits per value, and ``w/codebook``, float32 levels in rising order. The
    levels minimise the squared error: Lloyd's algorithm in one dimension, exact sums over sorted values, started from
    the density's cube root (the law of Panter and Dite). Tensors with no more distinct values than levels are exact. A
    tensor with exact zeros (a pruned one) keeps a level there.

    Parameters
    ----------
    bits : int
        Bits per code, 2 to 12.

    Raises
    ------
    SpecError
        If `bits` is out of range.

    Notes
    -----
    S. Han, H. Mao, W. Dally, "Deep Compression", 2015, arXiv:1510.00149; S. Lloyd, "Least squares quantization in PCM",
    IEEE Trans. Inf. Theory 28 (1982), doi:10.1109/TIT.1982.1056489.
    """

    name: ClassVar[str] = "codebook"
    source: ClassVar[str] = "S. Han, H. Mao and W. Dally 2015, arXiv:1510.00149"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"bits": 4}, {"bits": 2}, {"bits": 8})
    bits: int

    def __post_init__(self) -> None:
        check_number("codebook", "bits", self.bits, 2, 12, integer=True)

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Quantise every analog stream; bit streams pass."""
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._encode(stream) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Look codes up; damaged codebooks may give any value, infinities and NaN included."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            codes = unpack_codes(parts["codes"].data, self.bits, parts["codes"].length // self.bits)
            if base in context.shapes:
                codes = fit(codes, math.prod(context.shapes[base]))
            words = parts["codebook"].data[: parts["codebook"].length // 32 * 4]
            return AnalogStream(base, fit(words.view("<f4").astype(np.float32), 2**self.bits)[codes])

        return merge_parts(payload, ("codes", "codebook"), join)

    def _encode(self, stream: AnalogStream) -> list[Stream]:
        levels = _levels(stream.values, 2**self.bits)
        middles = 0.5 * (levels[1:].astype(np.float64) + levels[:-1])
        codes = np.searchsorted(middles, stream.values, side="right").astype(np.uint16)
        base = stream.name + SEPARATOR
        # Decoders look for all levels: the last stands in for those that were not needed.
        levels = np.concatenate([levels, np.full(2**self.bits - levels.size, levels[-1], np.float32)])
        return [
            BitStream(f"{base}codes", pack_codes(codes, self.bits), codes.size * self.bits, "index", self.bits),
            BitStream.from_array(f"{base}codebook", levels, "codebook"),
        ]


def _levels(values: F32, count: int) -> F32:
    """Levels of least squared error, at most `count`, rising and distinct."""
    if values.size == 0:
        return np.zeros(1, np.float32)
    # A sample may lack the extremes, whose errors are the largest.
    extremes = [] if values.size <= _SAMPLE else [values.min(), values.max()]
    ordered = np.sort(np.append(strided_sample(values, _SAMPLE), extremes)).astype(np.float64)
    distinct = np.unique(values[:: max(1, values.size // _SAMPLE)])
    if distinct.size <= count and (distinct := np.unique(values)).size <= count:
        return distinct + np.float32(0)
    sums, squares = (np.append(0.0, np.cumsum(power)) for power in (ordered, np.square(ordered)))
    levels, before = _start(ordered, count), math.inf
    for _ in range(_ROUNDS):
        ends = np.searchsorted(ordered, 0.5 * (levels[1:] + levels[:-1]))
        ends = np.concatenate([[0], ends, [ordered.size]])
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        left = np.diff(squares[ends]) - counts * np.square(means)
        empty = np.flatnonzero(counts == 0)
        # Levels without values split the cells with the most squared error, between their mean and their far end.
        worst = np.argsort(-left, kind="stable")[: empty.size]
        means[empty] = 0.5 * (means[worst] + ordered[np.maximum(ends[worst + 1] - 1, 0)])
        levels, error = np.sort(means), float(left.sum())
        if empty.size == 0 and math.isfinite(before) and before - error <= _LEAST_GAIN * before:
            break
        before = error
    if (values == 0).any():
        levels[int(np.abs(levels).argmin())] = 0.0
    found: F32 = np.unique(levels.astype(np.float32))
    return found


def _start(ordered: F64, count: int) -> F64:
    """Quantiles of the cube root of the density, told from the spacing of a few hundred quantiles."""
    grid = np.interp(np.linspace(0, ordered.size - 1, min(1024, ordered.size)), np.arange(ordered.size), ordered)
    width = np.maximum(np.diff(grid), 1e-9 * (grid[-1] - grid[0]) + 1e-300)
    share = np.append(0.0, np.cumsum(np.power(width, 2 / 3)))
    start: F64 = np.interp((np.arange(count) + 0.5) / count, share / share[-1], grid)
    return start
