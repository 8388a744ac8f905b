"""Uniform quantisation: each value becomes a code of a few bits, each tensor or channel has a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.masks import decode_mask, encode_mask, fit, merge_parts, pack_codes, unpack_codes
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_LARGEST: Final = float(np.finfo(np.float32).max)
#: Up to this many bits the clipping point is searched; with more, clipping gains nothing worth its search.
_SEARCH_BITS: Final = 4
#: Clipping points tried, as shares of the range, and the values looked at per tensor and per channel.
_RATIOS: Final = tuple(0.12 ** (i / 23) for i in range(24))
_TENSOR_SAMPLE: Final = 65536
_CHANNEL_SAMPLE: Final = 8192


@dataclass(frozen=True, kw_only=True)
class Quantize(Compressor):
    """Quantise every analog stream uniformly.

    ``w`` becomes ``w/codes``, packed at exactly `bits` bits per value, and ``w/scale``, float32. Symmetric:
    ``w = q * scale`` with ``|q| <= 2**(bits - 1) - 1``. Asymmetric: ``w = q * scale + minimum`` with
    ``0 <= q < 2**bits``; the minimum, a float32 stored behind the scales, lies on the grid if the group holds a zero.
    So zeros stay exact zeros either way. Constant groups are exact. The scale covers the largest value; up to 4 bits
    the clipping points of least squared error are searched (24 candidates, on evenly spaced values).

    Parameters
    ----------
    bits : int
        Bits per code, 2 to 16.
    axis : {"tensor", "channel", "group"}
        One scale per tensor, per output channel (dimension 0) of tensors with two or more dimensions, or per `group`
        values next to each other in memory (the last group may be shorter).
    group : int
        Values of a group; for ``axis="group"`` only.
    symmetric : bool
        Whether the grid is centred on zero.
    sparse : bool
        Drop codes that decode to zero and add ``w/mask`` (bit mask or run lengths), where that takes fewer bits.

    Raises
    ------
    SpecError
        If a field is out of range.
    """

    name: ClassVar[str] = "quantize"
    source: ClassVar[str] = "uniform quantisation with searched clipping"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"bits": 8},
        {"bits": 4, "axis": "channel"},
        {"bits": 5, "axis": "channel", "symmetric": False},
        {"bits": 2, "symmetric": False, "sparse": True},
        {"bits": 16, "sparse": True},
        {"bits": 4, "axis": "group", "group": 32},
    )
    bits: int
    axis: str = "tensor"
    group: int = 64
    symmetric: bool = True
    sparse: bool = False

    def __post_init__(self) -> None:
        check_number("quantize", "bits", self.bits, 2, 16, integer=True)
        check_number("quantize", "group", self.group, 1, 2**31, integer=True)
        if self.axis not in ("tensor", "channel", "group"):
            raise SpecError(f"quantize: axis must be 'tensor', 'channel' or 'group', not {self.axis!r}")
        for field, value in (("symmetric", self.symmetric), ("sparse", self.sparse)):
            if not isinstance(value, bool):
                raise SpecError(f"quantize: {field} must be True or False, not {value!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Quantise every analog stream; bit streams pass.

        Raises
        ------
        TensorError
            If values are too large for an asymmetric grid, or a stream does not have the size of its tensor.
        """
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._encode(stream, context) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Turn codes back into values; damaged scales may give any value, infinities and NaN included."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            return AnalogStream(base, self._decode(base, parts, context))

        return merge_parts(payload, ("codes", "scale"), join, optional=("mask",))

    @property
    def _range(self) -> tuple[int, int]:
        """Smallest and largest level."""
        top = 2 ** (self.bits - 1) - 1
        return (-top, top) if self.symmetric else (0, 2**self.bits - 1)

    @property
    def _offset(self) -> int:
        """Code of level zero."""
        return 2 ** (self.bits - 1) if self.symmetric else 0

    def _groups(self, name: str, size: int, context: Context) -> int:
        if self.axis == "group":
            return max(1, -(-size // self.group))
        shape = context.shapes.get(name, ())
        return shape[0] if self.axis == "channel" and len(shape) >= 2 and math.prod(shape) > 0 else 1

    def _rows(self, values: F32, groups: int) -> F32:
        """Groups as rows; the last is filled up with its last value, which changes neither its range nor its zeros."""
        missing = -values.size % groups if self.axis != "group" else groups * self.group - values.size
        if groups == 1 or missing == 0:
            return values.reshape(groups, -1)
        return np.concatenate([values, np.full(missing, values[-1], values.dtype)]).reshape(groups, -1)

    def _encode(self, stream: AnalogStream, context: Context) -> list[Stream]:
        size = stream.values.size
        if stream.name in context.shapes and math.prod(context.shapes[stream.name]) != size:
            raise TensorError(f"{stream.name}: {size} values do not fill the shape {context.shapes[stream.name]}")
        rows = self._rows(stream.values, self._groups(stream.name, size, context))
        scale, low = self._grid(rows, stream.name)
        levels = self._levels(rows, scale, low)
        codes = (levels + self._offset).astype(np.uint16).reshape(-1)[:size]
        stored = scale if self.symmetric else np.concatenate([scale, low])
        base = stream.name + SEPARATOR
        parts: list[Stream] = [BitStream.from_array(f"{base}scale", stored, "scale")]
        if self.sparse:
            nonzero = (_dequantise(levels, scale, low) != 0).reshape(-1)[:size]
            mask = encode_mask(f"{base}mask", nonzero, context)
            if mask.length < self.bits * (size - int(np.count_nonzero(nonzero))):
                codes = codes[nonzero]
                parts.append(mask)
        packed = pack_codes(codes, self.bits)
        return [BitStream(f"{base}codes", packed, codes.size * self.bits, "index", symbol_bits=self.bits), *parts]

    def _decode(self, base: str, parts: dict[str, Any], context: Context) -> F32:
        codes = unpack_codes(parts["codes"].data, self.bits, parts["codes"].length // self.bits)
        nonzero = decode_mask(parts["mask"], context) if "mask" in parts else None
        if nonzero is not None:
            dense = np.full(nonzero.size, self._offset, np.uint16)
            dense[nonzero] = fit(codes, int(np.count_nonzero(nonzero)))
            codes = dense
        if base in context.shapes:
            codes = fit(codes, math.prod(context.shapes[base]))
        groups = self._groups(base, codes.size, context)
        words = parts["scale"].data[: parts["scale"].length // 32 * 4]
        stored = fit(words.view("<f4").astype(np.float32), groups if self.symmetric else 2 * groups)
        levels = self._rows(codes.astype(np.float32), groups)
        levels -= self._offset
        values = _dequantise(levels, stored[:groups], stored[groups:]).reshape(-1)[: codes.size]
        if nonzero is not None:
            values[~fit(nonzero, values.size)] = 0
        return values

    def _grid(self, rows: F32, name: str) -> tuple[F32, F32]:
        """Choose scale and minimum of each row; the minima are empty if the grid is symmetric."""
        bottom = rows.min(axis=1, initial=np.inf).astype(np.float64)
        top = rows.max(axis=1, initial=-np.inf).astype(np.float64)
        if rows.shape[1] == 0:
            bottom, top = np.zeros_like(bottom), np.zeros_like(top)
        if not self.symmetric and np.maximum(-bottom, top).max() > _LARGEST / 2:
            raise TensorError(
                f"{name}: values beyond {_LARGEST / 2:g} do not fit an asymmetric grid; "
                "use symmetric=True or rescale them"
            )
        if self.symmetric:
            peak = np.maximum(-bottom, top)
            special = _one_magnitude(rows, peak)
            bottom, top = -peak, peak
        else:
            special = (rows == 0).any(axis=1)
        if self.bits <= _SEARCH_BITS and rows.shape[1] > 0:
            sample = strided_sample(rows, _TENSOR_SAMPLE if len(rows) == 1 else _CHANNEL_SAMPLE)
            height = max(1, _TENSOR_SAMPLE // sample.shape[1])
            for start in range(0, len(rows), height):  # a block of channels at a time stays in the cache
                at = slice(start, start + height)
                bottom[at], top[at] = self._clip(sample[at], bottom[at], top[at], special[at])
        return self._make_grid(bottom, top, special)

    def _clip(self, sample: F32, bottom: F64, top: F64, special: npt.NDArray[np.bool_]) -> tuple[F64, F64]:
        """Search the ends of the range of least squared error: both at once, then (asymmetric) each by itself."""
        centre = np.zeros_like(top) if self.symmetric else sample.mean(axis=1, dtype=np.float64)
        best = bottom, top
        least = self._error(sample, *self._make_grid(*best, special))
        for moved in ("both",) if self.symmetric else ("both", "top", "bottom"):
            start = best
            for ratio in _RATIOS:
                if moved == "both":
                    trial = centre + ratio * (bottom - centre), centre + ratio * (top - centre)
                elif moved == "top":
                    trial = start[0], start[0] + ratio * (top - start[0])
                else:
                    trial = start[1] + ratio * (bottom - start[1]), start[1]
                error = self._error(sample, *self._make_grid(*trial, special))
                better = error < least
                least = np.where(better, error, least)
                best = np.where(better, trial[0], best[0]), np.where(better, trial[1], best[1])
        return best

    def _make_grid(self, bottom: F64, top: F64, special: npt.NDArray[np.bool_]) -> tuple[F32, F32]:
        """Lay a grid over each range.

        `special` marks rows with a single magnitude (symmetric: level 1 takes it exactly) or with zeros (asymmetric: a
        level must lie on zero).
        """
        low_level, high_level = self._range
        if self.symmetric:
            largest = np.nextafter(np.float32(_LARGEST / high_level), np.float32(0))
            scale = np.minimum(_round_up(top / high_level), largest)
            return np.where(special, top.astype(np.float32), scale), np.zeros(0, np.float32)
        bottom = np.where(special, np.minimum(bottom, 0), bottom)
        top = np.where(special, np.maximum(top, 0), top)
        largest = np.nextafter(np.float32(_LARGEST / high_level), np.float32(0))
        scale = np.minimum(_round_up((top - bottom) / high_level), largest)
        level = np.clip(np.rint(-bottom / np.where(scale > 0, scale, 1)), low_level, high_level).astype(np.float32)
        return scale, np.where(special, -(level * scale), bottom.astype(np.float32))

    def _levels(self, rows: F32, scale: F32, low: F32) -> F32:
        levels: F32 = rows.copy() if self.symmetric else rows - low[:, None]
        levels /= np.where(scale > 0, scale, np.float32(1))[:, None]
        np.rint(levels, out=levels)
        return np.clip(levels, *self._range, out=levels)

    def _error(self, sample: F32, scale: F32, low: F32) -> F64:
        """Sum of squared errors of each row."""
        difference = _dequantise(self._levels(sample, scale, low), scale, low).astype(np.float64) - sample
        error: F64 = np.square(difference).sum(axis=1)
        return error


def _dequantise(levels: F32, scale: F32, low: F32) -> F32:
    """Return ``levels * scale + low`` by rows, rounding after each step: a minimum on the grid then cancels exactly."""
    with np.errstate(all="ignore"):
        values = levels * scale[:, None]
        if low.size:
            values += low[:, None]
    return values


def _round_up(step: F64) -> F32:
    """Round to float32, never below: the outermost level then reaches the end of the range, for denormals as well."""
    rounded = step.astype(np.float32)
    return np.where(rounded < step, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _one_magnitude(rows: F32, peak: F64) -> npt.NDArray[np.bool_]:
    """Tell which rows hold, zeros aside, a single magnitude."""
    magnitude = np.abs(rows)
    single: npt.NDArray[np.bool_] = ((magnitude == peak.astype(np.float32)[:, None]) | (magnitude == 0)).all(axis=1)
    return single
