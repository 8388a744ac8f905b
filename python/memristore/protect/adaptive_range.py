"""Adaptive range: small and large values each get the whole window of the cell; a flag tells which is which."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Context, Protection

#: Values looked at to choose a threshold, and the fewest that are worth splitting.
_SAMPLE: Final = 8192
_FEWEST: Final = 64
#: Shares of large values that are tried, and the predicted error, relative to no split, below which one is taken.
_SHARES: Final = tuple(0.6 * (0.005 / 0.6) ** (i / 13) for i in range(14))
_WORTH: Final = 0.95
_LARGEST: Final = float(np.finfo(np.float32).max)
#: Arrays of as many values have pages of their own; cutting smaller ones would leave holes between others.
_LARGE: Final = 1 << 23
#: Values summed at a time for the RMS.
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class AdaptiveRange(Protection):
    """Split each analog stream at a threshold into small and large values.

    Weights pile up near zero, where a cell window made for the largest weight wastes its precision. After the split
    each part has a window of its own. Costs one flag bit per value. ``w`` becomes ``w/small`` (``|v| <= T``),
    ``w/large`` (both compacted, in order) and ``w/flag``.

    Parameters
    ----------
    threshold : "auto" or float
        ``T`` in units of the stream's root mean square. ``"auto"`` minimises the predicted error
        ``p_small * D(small) + p_large * D(large)`` over 14 quantiles of at most 8192 evenly spaced values, with ``D``
        from :attr:`Context.distortion`; a stream passes unsplit if it has fewer than 64 values or if no threshold
        lowers the predicted error by more than 5 %.

    Raises
    ------
    SpecError
        If the threshold is neither ``"auto"`` nor a positive number.

    Notes
    -----
    Source: adaptive mapping of B. Isik et al., "Neural Network Compression for Noisy Storage Devices", ACM TECS (2023),
    doi:10.1145/3588436; the choice of the threshold by predicted error is this library's.
    """

    name: ClassVar[str] = "adaptive-range"
    bits_per_value: ClassVar[float] = 1.0
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"threshold": 1.0})
    threshold: float | str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.threshold, str):
            if self.threshold != "auto":
                raise SpecError(f"adaptive-range: threshold must be 'auto' or a number, not {self.threshold!r}")
        else:
            check_number("adaptive-range", "threshold", self.threshold, 0, _LARGEST, open_low=True)

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Split every analog stream that gains; all others pass."""
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._split(stream, context) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Put small and large values back where the flags say."""
        return merge_parts(payload, ("small", "large", "flag"), lambda base, parts: _join(base, parts, context.consume))

    def _split(self, stream: AnalogStream, context: Context) -> list[Stream]:
        if isinstance(self.threshold, str):
            threshold = _best_threshold(stream.values, context.distortion)
        else:
            threshold = min(self.threshold * _rms(stream.values), _LARGEST)
        if threshold is None:
            return [stream]
        return _divide(stream, threshold, context.consume)


def _divide(stream: AnalogStream, threshold: float, consume: bool) -> list[Stream]:
    n = stream.values.size
    # No more small values are written than were looked at, so that they may take the place of those.
    over = stream.spare if consume and stream.spare is not None and stream.spare.size == n else None
    small = np.empty(n, np.float32) if over is None else over
    large = np.empty(n, np.float32)
    flags = np.empty((n + 7) // 8, np.uint8)
    count = _core.partition(stream.values, threshold, small, large, flags)
    if count in (0, n):
        whole = large if count else small
        return [stream if over is None else dataclasses.replace(stream, values=whole, spare=whole)]
    sensitivity: dict[str, npt.NDArray[np.float32] | None] = {"small": None, "large": None}
    flag = BitStream(f"{stream.name}{SEPARATOR}flag", flags, n, "flag")
    if stream.sensitivity is not None:
        where = flag.to_bools()
        sensitivity = {"small": stream.sensitivity[~where], "large": stream.sensitivity[where]}
    parts = {"small": _cut(small, n - count), "large": _cut(large, count)}
    return [AnalogStream(f"{stream.name}{SEPARATOR}{k}", v, sensitivity[k], v) for k, v in parts.items()] + [flag]


def _cut(buffer: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Give the memory beyond `size` values back: without a copy where an array is large enough to be cut in place."""
    if buffer.base is not None or buffer.size < _LARGE:
        return buffer[:size].copy()
    buffer.resize(size, refcheck=False)
    return buffer


def _join(base: str, parts: dict[str, Any], consume: bool) -> Stream:
    small: AnalogStream = parts["small"]
    large: AnalogStream = parts["large"]
    n = len(small) + len(large)
    # Damaged side information may have lost flags.
    flags = fit(parts["flag"].data, (n + 7) // 8)
    spare = [p.spare for p in (small, large) if consume and p.spare is not None and p.spare.size == n]
    # A part at the end of a buffer is not overtaken by what is written from its start, if flags and lengths agree.
    agree = _core.count_bits(flags, n) == len(large)
    values = spare[0] if spare and agree else np.empty(n, np.float32)
    _core.merge(flags, small.values, large.values, values)
    return AnalogStream(base, values, spare=values)


def _rms(values: npt.NDArray[np.float32]) -> float:
    """Root mean square, summed in float64 in a fixed order."""
    sums = [float(np.square(values[i : i + _CHUNK], dtype=np.float64).sum()) for i in range(0, values.size, _CHUNK)]
    return float(np.sqrt(sum(sums) / max(1, values.size)))


def _best_threshold(
    values: npt.NDArray[np.float32], distortion: Callable[[npt.NDArray[np.float32]], float]
) -> float | None:
    """Return the threshold with the least predicted error, or None if no split is worth its flags."""
    if values.size < _FEWEST:
        return None
    # In order, so that the parts are slices and the search for their windows need not sort them.
    sample = np.sort(strided_sample(values, _SAMPLE))
    ordered = np.sort(np.abs(sample))
    best, least = None, _WORTH * distortion(sample)
    tried: set[float] = set()
    for share in _SHARES:
        threshold = ordered[int((1.0 - share) * (ordered.size - 1))]
        start, stop = np.searchsorted(sample, -threshold), np.searchsorted(sample, threshold, side="right")
        fraction = float(sample.size - (stop - start)) / sample.size
        if float(threshold) in tried or fraction == 0.0:
            continue
        tried.add(float(threshold))
        error = (1.0 - fraction) * distortion(sample[start:stop])
        if error >= least:
            continue
        large = sample[stop:] if start == 0 else np.concatenate([sample[:start], sample[stop:]])
        error += fraction * distortion(large)
        if error < least:
            best, least = float(threshold), error
    return best
