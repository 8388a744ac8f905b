"""Adaptive range: small and large values each get the whole window of the cell; a flag tells which is which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Context, Protection

#: Values looked at to choose a threshold, and the fewest that are worth splitting.
_SAMPLE: Final = 8192
_FEWEST: Final = 64
#: Shares of large values that are tried, and the predicted error, relative to no split, below which one is taken.
_SHARES: Final = tuple(0.6 * (0.005 / 0.6) ** (i / 13) for i in range(14))
_WORTH: Final = 0.95
_LARGEST: Final = float(np.finfo(np.float32).max)
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
        return merge_parts(payload, ("small", "large", "flag"), _join)

    def _split(self, stream: AnalogStream, context: Context) -> list[Stream]:
        if isinstance(self.threshold, str):
            threshold = _best_threshold(stream.values, context.distortion)
        else:
            threshold = min(self.threshold * _rms(stream.values), _LARGEST)
        if threshold is None:
            return [stream]
        return _divide(stream, threshold)


def _divide(stream: AnalogStream, threshold: float) -> list[Stream]:
    n = stream.values.size
    small, large = (np.empty(n + _core.PARTITION_ROOM, np.float32) for _ in range(2))
    flags = np.empty((n + 7) // 8, np.uint8)
    count = _core.partition(stream.values, threshold, small, large, flags)
    if count in (0, n):
        return [stream]
    sensitivity: dict[str, npt.NDArray[np.float32] | None] = {"small": None, "large": None}
    flag = BitStream(f"{stream.name}{SEPARATOR}flag", flags, n, "flag")
    if stream.sensitivity is not None:
        where = flag.to_bools()
        sensitivity = {"small": stream.sensitivity[~where], "large": stream.sensitivity[where]}
    parts = {"small": small[: n - count].copy(), "large": large[:count].copy()}
    return [AnalogStream(f"{stream.name}{SEPARATOR}{k}", v, sensitivity[k]) for k, v in parts.items()] + [flag]


def _join(base: str, parts: dict[str, Any]) -> Stream:
    values = np.empty(parts["flag"].length, np.float32)
    _core.merge(parts["flag"].data, parts["small"].values, parts["large"].values, values)
    return AnalogStream(base, values)


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
    sample = np.ascontiguousarray(strided_sample(values, _SAMPLE))
    magnitude = np.abs(sample)
    ordered = np.sort(magnitude)
    best, least = None, _WORTH * distortion(sample)
    tried: set[float] = set()
    for share in _SHARES:
        threshold = float(ordered[int((1.0 - share) * (ordered.size - 1))])
        large = magnitude > threshold
        fraction = np.count_nonzero(large) / large.size
        if threshold in tried or fraction == 0.0:
            continue
        tried.add(threshold)
        error = (1.0 - fraction) * distortion(sample[~large]) + fraction * distortion(sample[large])
        if error < least:
            best, least = threshold, error
    return best
