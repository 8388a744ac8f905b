"""Eight-bit weights that carry their own error correction in bits that small weights leave unused."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.errors import SpecError, TensorError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Compressor, Context

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Codes of a word, and how many of them are small; the bit that those do not need.
_CODES: Final = 8
_SMALL: Final = 7
_SPARE: Final = 0x40
#: Largest small code and largest code; the smallest are one beyond their negatives.
_TOP_SMALL, _TOP = 63, 127
#: Scales tried, from "the largest value is 127" to "the largest value is 63", and values looked at per group.
_RATIOS: Final = tuple((_TOP / _TOP_SMALL) ** (i / 16) for i in range(17))
_SAMPLE: Final = 65536
#: Values worked on at a time.
_CHUNK: Final = 1 << 18
#: Largest scale: 63 times it is still a float32.
_PEAK: Final = float(np.nextafter(np.float32(np.finfo(np.float32).max / _TOP_SMALL), np.float32(0)))
_SMALLEST: Final = float(np.finfo(np.float32).smallest_subnormal)


@dataclass(frozen=True, kw_only=True)
class ZeroSpace(Compressor):
    """Quantise to eight bits and hide a SECDED (64, 57) code in the words: protection that takes no cell.

    Eight codes make a word of 64 bits. The first seven are kept within -64 to 63, so that bit 6 of each equals its
    sign; these seven bits hold the check bits of an extended code over the other 57. Decoding corrects one wrong bit of
    a word and leaves a word with two as read. ``w`` becomes ``w/words``, to be kept on cells without any other code
    (``outer_code`` is False), and ``w/scale``, float32.

    The original work trains networks until seven of eight weights are small; here weights that are not are clipped, and
    the scale (one of 17 between the one that fits the largest value to 127 and the one that fits it to 63) is that of
    least squared error with what is clipped.

    Parameters
    ----------
    axis : {"tensor", "channel"}
        One scale per tensor, or one per output channel (dimension 0) of tensors with two or more dimensions.

    Raises
    ------
    SpecError
        If the axis is another.

    Notes
    -----
    Source: H. Guan et al., "In-Place Zero-Space Memory Protection for CNN", NeurIPS 2019, arXiv:1910.14479. Columns of
    the code are the 64 words of seven bits with odd weight (M. Y. Hsiao, "A class of optimal minimum odd-weight-column
    SEC-DED codes", IBM J. Res. Dev. 14 (1970), doi:10.1147/rd.144.0395): a single error has an odd syndrome, two have
    an even one.
    """

    name: ClassVar[str] = "zero-space"
    source: ClassVar[str] = "H. Guan et al. 2019, arXiv:1910.14479"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"axis": "channel"})
    axis: str = "tensor"

    def __post_init__(self) -> None:
        if self.axis not in ("tensor", "channel"):
            raise SpecError(f"zero-space: axis must be 'tensor' or 'channel', not {self.axis!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Quantise every analog stream; bit streams pass.

        Raises
        ------
        TensorError
            If a stream does not have the size of its tensor.
        """
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._encode(stream, context) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Correct words and turn codes back into values; damaged scales may give any value."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            return AnalogStream(base, self._decode(base, parts, context))

        return merge_parts(payload, ("words", "scale"), join)

    def _groups(self, name: str, context: Context) -> int:
        shape = context.shapes.get(name, ())
        return shape[0] if self.axis == "channel" and len(shape) >= 2 and math.prod(shape) > 0 else 1

    def _encode(self, stream: AnalogStream, context: Context) -> list[Stream]:
        size = stream.values.size
        if stream.name in context.shapes and math.prod(context.shapes[stream.name]) != size:
            raise TensorError(f"{stream.name}: {size} values do not fill the shape {context.shapes[stream.name]}")
        rows = stream.values.reshape(self._groups(stream.name, context), -1)
        scale = _scales(rows)
        codes = np.zeros(-(-size // _CODES) * _CODES, np.int8)
        for start in range(0, size, _CHUNK):
            part = stream.values[start : start + _CHUNK] / _of_values(scale, rows.shape[1], start, size)
            codes[start : start + part.size] = _round(part, np.arange(part.size))
        words = add_checks(codes.view(np.uint8).reshape(-1, _CODES)).reshape(-1)
        base = stream.name + SEPARATOR
        return [
            BitStream(f"{base}words", words, 8 * words.size, "index", symbol_bits=8, outer_code=False),
            BitStream.from_array(f"{base}scale", scale.astype(np.float32), "scale"),
        ]

    @np.errstate(all="ignore")
    def _decode(self, base: str, parts: dict[str, Any], context: Context) -> F32:
        whole = parts["words"].data.size // _CODES * _CODES
        shape = context.shapes.get(base)
        size = whole if shape is None else math.prod(shape)
        groups = self._groups(base, context)
        words = parts["scale"].data[: parts["scale"].length // 32 * 4]
        scale = fit(words.view("<f4").astype(np.float32), groups).astype(np.float64)
        words = fit(parts["words"].data, -(-size // _CODES) * _CODES)
        values = np.empty(size, np.float32)
        for start in range(0, size, _CHUNK):
            read, _ = correct(words[start : start + _CHUNK].reshape(-1, _CODES))
            codes = read.view(np.int8).reshape(-1)[: size - start]
            values[start : start + _CHUNK] = codes * _of_values(scale, size // groups, start, size)
        return values


def add_checks(words: U8) -> U8:
    """Put the check bits into words whose first seven bytes are small numbers.

    Parameters
    ----------
    words : ndarray, shape (n, 8), uint8
        Two's complement codes; the first seven of a word within -64 to 63.

    Returns
    -------
    ndarray, shape (n, 8), uint8
        Bit 6 of byte j is check bit j.
    """
    tables, _ = _tables()
    out = words.copy()
    out[:, :_SMALL] &= 0xFF ^ _SPARE
    checks = _syndrome(out, tables)
    for j in range(_SMALL):
        out[:, j] |= (checks >> j & 1) << 6
    return out


def correct(words: U8) -> tuple[U8, npt.NDArray[np.int8]]:
    """Correct words of :func:`add_checks` and give small numbers their bit 6 back.

    Parameters
    ----------
    words : ndarray, shape (n, 8), uint8
        As read from cells.

    Returns
    -------
    codes : ndarray, shape (n, 8), uint8
        Two's complement codes; words that cannot be corrected as they were read.
    status : ndarray, shape (n,), int8
        0 as read, 1 one bit corrected, -1 known to be wrong (two bits).
    """
    tables, positions = _tables()
    out = words.copy()
    syndrome = _syndrome(out, tables)
    position = positions[syndrome]
    wrong = np.flatnonzero(position >= 0)
    out[wrong, position[wrong] >> 3] ^= (1 << (position[wrong] & 7)).astype(np.uint8)
    small = out[:, :_SMALL]
    small &= 0xFF ^ _SPARE
    small |= (small & 0x80) >> 1
    return out, np.where(syndrome == 0, 0, np.where(position >= 0, 1, -1)).astype(np.int8)


@functools.cache
def _tables() -> tuple[U8, npt.NDArray[np.int64]]:
    """Syndrome of each value of each byte, shape (8, 256), and the wrong bit of each syndrome, shape (128,), or -1."""
    odd = [c for c in range(1, 128) if c.bit_count() % 2 and c.bit_count() > 1]
    columns = [1 << (bit // 8) if bit % 8 == 6 and bit < 56 else odd.pop(0) for bit in range(64)]
    positions = np.full(128, -1)
    positions[columns] = np.arange(64)
    tables = np.zeros((_CODES, 256), np.uint8)
    for bit, column in enumerate(columns):
        tables[bit // 8] ^= np.where(np.arange(256) >> bit % 8 & 1, column, 0).astype(np.uint8)
    return tables, positions


def _syndrome(words: U8, tables: U8) -> U8:
    out = np.zeros(len(words), np.uint8)
    for j in range(_CODES):
        out ^= tables[j][words[:, j]]
    return out


def _round(levels: F64, place: npt.NDArray[np.int64]) -> F64:
    """Round and clip to what a code may be at its place in the word."""
    top = np.where(place % _CODES < _SMALL, _TOP_SMALL, _TOP)
    return np.clip(np.rint(levels), -1 - top, top)


def _of_values(scale: F64, length: int, start: int, size: int) -> F64:
    """Return the scales of values `start` to ``start + _CHUNK`` of rows of `length` values."""
    return scale[np.arange(start, min(start + _CHUNK, size)) // length] if scale.size > 1 else scale


def _scales(rows: F32) -> F64:
    """Return for each row the scale of least squared error, clipping included; a float32."""
    out = np.ones(len(rows))
    sample = strided_sample(rows, _SAMPLE)
    stride = rows.strides[-1] and sample.strides[-1] // rows.strides[-1]
    height = max(1, _SAMPLE // max(1, sample.shape[1]))
    for start in range(0, len(rows) if rows.size else 0, height):
        part = sample[start : start + height].astype(np.float64)
        first = np.arange(start, start + len(part))[:, None] * rows.shape[1]
        place = first + np.arange(part.shape[1]) * stride
        peak = np.abs(rows[start : start + height]).max(axis=1).astype(np.float64)
        least = np.full(len(part), np.inf)
        for ratio in _RATIOS:
            scale = np.clip(peak / _TOP * ratio, _SMALLEST, _PEAK).astype(np.float32).astype(np.float64)
            error = np.square(_round(part / scale[:, None], place) * scale[:, None] - part).sum(axis=1)
            better = error < least
            out[start : start + height] = np.where(better, scale, out[start : start + height])
            least = np.where(better, error, least)
    return out
