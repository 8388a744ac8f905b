"""Error-bounded coding: no value is further off than a bound, whatever the array; prediction, grid, entropy coding."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.compress.level_stream import Reader, varint
from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.symbol_blocks import decode_block, encode_block
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

#: Values that are coded together, at most.
CHUNK: Final = 1 << 16
#: First byte of a tensor.
_CONSTANT, _GRID = range(2)
#: First byte of a chunk: how its grid points are predicted, or that it holds float32 words.
_NONE, _LINE, _PLANE, _WORDS = range(4)
#: Grid points beyond this are kept as words: float64 holds products with them well.
_FARTHEST: Final = 2.0**40
#: Symbols have so many bits at most; symbol 0 says that the difference stands elsewhere.
_SYMBOL_BITS: Final = 16
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class ErrorBounded(Compressor):
    """Keep every value within a bound.

    Values are rounded to a grid of twice the bound; grid points are predicted from their neighbours (the one before,
    or three neighbours in a plane of rows, or not at all, whichever codes shortest), and the differences entropy-coded.
    Prediction works on grid points, which both sides know exactly, so that errors do not add up. The result is compared
    with the original as the decoder will compute it, in float32: values for which the bound would not hold (NaN,
    infinities, values too large for the grid, bounds below float32 resolution) are kept as exact words. Exact zeros
    stay exact zeros; so do constant tensors, and infinities and NaN bit for bit.

    ``w`` becomes ``w/coded``: bits of variable length, in chunks of 65,536 values that are decoded by themselves. No
    bit of it may be wrong, so none of it is analog.

    Parameters
    ----------
    bound : float
        Largest absolute error; 0 keeps every bit.
    relative : bool
        Whether the bound is a share of each tensor's range, largest minus smallest finite value.

    Raises
    ------
    SpecError
        If the bound is negative or not finite.

    Notes
    -----
    Sources: the Lorenzo predictor (L. Ibarria et al., Computer Graphics Forum 22(3), 2003,
    doi:10.1111/1467-8659.00681), error-bounded coding by prediction and quantisation (SZ: S. Di and F. Cappello, IPDPS
    2016, doi:10.1109/IPDPS.2016.11), quantisation before prediction (cuSZ: J. Tian et al., PACT 2020,
    arXiv:2007.09625). Sensitivities are not looked at.
    """

    name: ClassVar[str] = "error-bounded"
    source: ClassVar[str] = "SZ (S. Di and F. Cappello 2016), cuSZ (J. Tian et al. 2020, arXiv:2007.09625)"
    takes_nonfinite: ClassVar[bool] = True
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"bound": 0.02, "relative": False}, {"bound": 0.0})
    bound: float = 0.01
    relative: bool = True

    def __post_init__(self) -> None:
        check_number(self.name, "bound", self.bound, 0, 1e300)
        if not isinstance(self.relative, bool):
            raise SpecError(f"{self.name}: relative must be True or False, not {self.relative!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Code every analog stream; bit streams pass."""
        out: list[Stream] = []
        for stream in payload:
            if not isinstance(stream, AnalogStream):
                out.append(stream)
                continue
            width = _width(context.shapes.get(stream.name, ()), len(stream))
            data = np.frombuffer(_encode(stream.values, width, self.limit(stream.values)), np.uint8)
            out.append(BitStream(f"{stream.name}{SEPARATOR}coded", data, 8 * data.size, "index"))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Turn bits back into values; damaged bits may give any values."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            shape = context.shapes.get(base)
            data = parts["coded"].data[: len(parts["coded"]) // 8]
            size = None if shape is None else math.prod(shape)
            return AnalogStream(base, _decode(data, _width(shape or (), size or 0), size))

        return merge_parts(payload, ("coded",), join)

    def limit(self, values: npt.NDArray[Any]) -> float:
        """Return the largest absolute error that the settings allow in an array of any numbers."""
        if not self.relative:
            return float(self.bound)
        numbers = values.reshape(-1).astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        return self.bound * (float(finite.max()) - float(finite.min())) if finite.size else 0.0

    def for_array(self, array: npt.NDArray[Any]) -> ErrorBounded:
        """Return settings with which the bound also holds after rounding to and from the array's own type.

        Raises
        ------
        TensorError
            If the bound is finer than float32 can tell values of a float64 array apart.
        """
        limit = self.limit(array)
        if array.dtype == np.float32:
            return self
        if array.dtype.kind in "biu":
            # Within half a unit of an integer bound, rounding to integers comes back to the bound.
            return ErrorBounded(bound=math.floor(limit) + 0.49, relative=False)
        if array.dtype == np.float16:
            # The nearest half is no further from a value than the original, which is a half.
            return ErrorBounded(bound=limit / 2, relative=False)
        finite = array[np.isfinite(array)].astype(np.float64)
        rounding = float(np.abs(finite - finite.astype(np.float32)).max(initial=0.0))
        if limit < rounding:
            raise TensorError(
                f"{array.dtype} values lose {rounding:.3g} as float32, more than the bound of {limit:.3g}; "
                "allow more, or subtract what they have in common first"
            )
        # Sums in float64 round too; a little less than the difference is surely within it.
        return ErrorBounded(bound=max(0.0, (limit - rounding) * (1 - 1e-12)), relative=False)


def _width(shape: tuple[int, ...], size: int) -> int:
    """Length of the rows in which neighbours above each other are known; 0: none."""
    return shape[-1] if len(shape) > 1 and 1 < shape[-1] <= CHUNK // 2 and math.prod(shape) == size else 0


def _chunks(size: int, width: int) -> list[tuple[int, int]]:
    step = CHUNK // width * width if width else CHUNK
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def _encode(values: F32, width: int, limit: float) -> bytes:
    if values.size == 0:
        return b""
    words = np.ascontiguousarray(values).view(np.uint32)
    if (words == words[0]).all():
        return bytes([_CONSTANT]) + words[:1].astype("<u4").tobytes()
    # A step that is not finite or zero leaves every value to words.
    step = 2.0 * limit if 0 < limit < 1e307 else 0.0
    parts = [_encode_chunk(values[a:b], words[a:b], width, step, limit) for a, b in _chunks(values.size, width)]
    head = bytes([_GRID]) + varint(values.size) + struct.pack("<d", step)
    return head + b"".join(varint(len(part)) for part in parts) + b"".join(parts)


@np.errstate(all="ignore")
def _grid(values: F32, step: float) -> F64:
    points: F64 = np.rint(values / np.float64(step)) if step else np.full(values.shape, np.nan)
    return points


@np.errstate(all="ignore")
def _values(points: I64, step: float) -> F32:
    return np.clip(points * np.float64(step), -_LARGEST, _LARGEST).astype(np.float32)


@np.errstate(all="ignore")
def _encode_chunk(values: F32, words: npt.NDArray[np.uint32], width: int, step: float, limit: float) -> bytes:
    raw = bytes([_WORDS]) + encode_block(words, 32).tobytes()
    found = _grid(values, step)
    near = np.abs(found) < _FARTHEST
    points = np.where(near, found, 0).astype(np.int64)
    good = near & (np.abs(values.astype(np.float64) - _values(points, step)) <= limit)
    if not good.any():
        return raw
    # Words take the grid point before them, so that they do not disturb the prediction.
    source = np.maximum.accumulate(np.where(good, np.arange(good.size), 0))
    points = np.where(good[source], points[source], 0)
    plans = {_NONE: points, _LINE: np.diff(points, prepend=0)}
    if width and points.size > width:
        plans[_PLANE] = np.diff(np.diff(points.reshape(-1, width), axis=0, prepend=0), axis=1, prepend=0).reshape(-1)
    best = min(plans, key=lambda kind: _spread(plans[kind]))
    places = np.flatnonzero(~good)
    exact = varint(places.size) + places.astype("<u2").tobytes() + words[places].astype("<u4").tobytes()
    choices = [bytes([kind]) + exact + _encode_differences(plans[kind]) for kind in dict.fromkeys((_NONE, best))]
    return min([raw, *choices], key=len)


def _spread(differences: I64) -> float:
    """About the bits of a difference."""
    away = np.abs(differences - int(np.median(differences)))
    return float(np.log2(1.0 + 2.0 * away).mean())


def _encode_differences(differences: I64) -> bytes:
    low, high = int(differences.min()), int(differences.max())
    most = (1 << _SYMBOL_BITS) - 2
    if high - low > most:
        low = int(np.median(differences)) - most // 2
    symbols = differences - low + 1
    far = (symbols < 1) | (symbols > most + 1)
    symbols[far] = 0
    width = max(1, int(symbols.max()).bit_length())
    out = varint(low << 1 if low >= 0 else (-low << 1) - 1) + bytes([width]) + varint(int(far.sum()))
    return out + differences[far].astype("<i8").tobytes() + encode_block(symbols.astype(np.uint32), width).tobytes()


def _decode(data: U8, width: int, size: int | None) -> F32:
    reader = Reader(data)
    kind = reader.byte()
    if kind == _CONSTANT:
        word = reader.take(4).view("<f4").astype(np.float32)
        return np.repeat(word, size or 0)
    written = reader.varint()
    if size is None:  # a chunk takes a byte at least
        size = min(written, CHUNK * data.size)
    step = float(reader.take(8).view("<f8")[0])
    chunks = _chunks(size, width)
    lengths = [min(reader.varint(), data.size) for _ in chunks]
    out = np.zeros(size, np.float32)
    for (start, stop), length in zip(chunks, lengths, strict=True):
        _decode_chunk(Reader(reader.take(length)), width, step if math.isfinite(step) else 0.0, out[start:stop])
    return out


def _decode_chunk(reader: Reader, width: int, step: float, out: F32) -> None:
    kind = reader.byte()
    if kind >= _WORDS:
        out[:] = decode_block(reader.data[reader.at :], 32, out.size).view(np.float32)
        return
    count = min(reader.varint(), out.size)
    places = reader.take(2 * count).view("<u2")
    words = reader.take(4 * count).view("<f4").astype(np.float32)
    code = reader.varint()
    low = code >> 1 if code % 2 == 0 else -(code >> 1) - 1
    bits = min(max(reader.byte(), 1), _SYMBOL_BITS)
    far = reader.take(8 * min(reader.varint(), out.size)).view("<i8").astype(np.int64)
    symbols = decode_block(reader.data[reader.at :], bits, out.size).astype(np.int64)
    points = symbols + (low - 1)
    escaped = np.flatnonzero(symbols == 0)
    points[escaped] = fit(far, escaped.size)
    if kind == _LINE:
        points = np.cumsum(points)
    elif kind == _PLANE and width:
        rows = fit(points, -(-points.size // width) * width).reshape(-1, width)
        points = np.cumsum(np.cumsum(rows, axis=0), axis=1).reshape(-1)[: out.size]
    out[:] = _values(points, step)
    out[np.minimum(places, out.size - 1)] = words
