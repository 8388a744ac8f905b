"""Where the zeros are, as bits; and the small tools with which streams are split into parts and put together again."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Context

#: Bits of the header of a bit mask (one byte: 0) and of a run-length mask (one byte: code width; eight: length).
BIT_MASK_HEADER: Final = 8
RUN_LENGTH_HEADER: Final = 72
#: Widest gap code, bits.
MAX_WIDTH: Final = 16
#: Groups of eight codes packed at a time: small enough to stay in the cache.
_ROWS: Final = 1 << 14

_Scalar = TypeVar("_Scalar", bound=np.generic)


def fit(values: npt.NDArray[_Scalar], size: int) -> npt.NDArray[_Scalar]:
    """Cut a 1-d array to `size`, or fill it up with zeros: what a decoder does with damaged lengths."""
    if values.size >= size:
        return values[:size]
    out = np.zeros(size, values.dtype)
    out[: values.size] = values
    return out


def tensor_size(context: Context, name: str) -> int | None:
    """Return the number of values of the tensor that a stream is a part of; None if the tensor is not known."""
    shape = context.shapes.get(name.split(SEPARATOR, 1)[0])
    return None if shape is None else math.prod(shape)


def merge_parts(
    payload: Payload,
    required: Collection[str],
    join: Callable[[str, dict[str, Any]], Stream],
    optional: Iterable[str] = (),
) -> Payload:
    """Put together every complete set of siblings.

    Parameters
    ----------
    payload : Payload
        Streams of any names.
    required : collection of str
        Suffixes that a set must have: ``w/small``, ``w/large`` and ``w/flag`` for ``("small", "large", "flag")``.
    join : callable
        Gets the base name and the parts by suffix, returns the stream of the base name.
    optional : iterable of str
        Suffixes that a set may have besides.

    Returns
    -------
    Payload
        Each set replaced by one stream where its first part was; all other streams unchanged.
    """
    wanted = (*required, *optional)
    sets: dict[str, dict[str, Any]] = {}
    for stream in payload:
        base, separator, part = stream.name.rpartition(SEPARATOR)
        if separator and part in wanted:
            sets.setdefault(base, {})[part] = stream
    complete = {base: parts for base, parts in sets.items() if all(part in parts for part in required)}
    first = {next(iter(parts.values())).name: base for base, parts in complete.items()}
    merged = {part.name for parts in complete.values() for part in parts.values()}
    out: list[Stream] = []
    for stream in payload:
        if stream.name in first:
            base = first[stream.name]
            out.append(join(base, complete[base]))
        elif stream.name not in merged:
            out.append(stream)
    return Payload(out)


def pack_codes(codes: npt.NDArray[np.uint16], width: int) -> npt.NDArray[np.uint8]:
    """Pack codes at exactly `width` bits each, least significant bit first.

    Parameters
    ----------
    codes : ndarray, shape (n,), uint16
        Numbers below ``2**width``.
    width : int
        1 to 16.

    Returns
    -------
    ndarray, shape (ceil(n * width / 8),), uint8
        The bits; unused bits of the last byte are zero.
    """
    rows = -(-codes.size // 8)
    out = np.empty((rows, width), np.uint8)
    for start in range(0, rows, _ROWS):
        block = codes[start * 8 : (start + _ROWS) * 8]
        # Eight codes fill `width` whole bytes; contiguous columns keep every operation on straight memory.
        columns = np.ascontiguousarray(fit(block, -(-block.size // 8) * 8).reshape(-1, 8).T)
        packed = np.zeros((width, columns.shape[1]), np.uint8)
        for j, column in enumerate(columns):
            for byte in range(j * width // 8, (j * width + width - 1) // 8 + 1):
                shift = j * width - byte * 8
                packed[byte] |= (column << shift if shift >= 0 else column >> -shift).astype(np.uint8)
        out[start : start + _ROWS] = packed.T
    return out.reshape(-1)[: (codes.size * width + 7) // 8]


def unpack_codes(data: npt.NDArray[np.uint8], width: int, count: int) -> npt.NDArray[np.uint16]:
    """Undo :func:`pack_codes`; bits that `data` lacks read as zero.

    Parameters
    ----------
    data : ndarray, shape (m,), uint8
        Packed codes.
    width : int
        Bits per code, 1 to 16.
    count : int
        Number of codes.

    Returns
    -------
    ndarray, shape (count,), uint16
        The codes.
    """
    rows = -(-count // 8)
    out = np.empty((rows, 8), np.uint16)
    for start in range(0, rows, _ROWS):
        height = min(_ROWS, rows - start)
        block = fit(data[start * width : (start + height) * width], height * width)
        columns = np.ascontiguousarray(block.reshape(height, width).T).astype(np.uint16)
        codes = np.zeros((8, height), np.uint16)
        for j in range(8):
            for byte in range(j * width // 8, (j * width + width - 1) // 8 + 1):
                shift = byte * 8 - j * width
                codes[j] |= columns[byte] << shift if shift >= 0 else columns[byte] >> -shift
        codes &= (1 << width) - 1
        out[start : start + height] = codes.T
    return out.reshape(-1)[:count]


def _choose_width(gaps: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the width of the gap code that needs the fewest bits, and that number of bits."""
    histogram = np.bincount(gaps)
    gap = np.flatnonzero(histogram)
    times = histogram[gap]
    bits = [width * int(np.dot(times, 1 + gap // (2**width - 1))) for width in range(1, MAX_WIDTH + 1)]
    best = int(np.argmin(bits))
    return best + 1, bits[best]


def _gap_codes(gaps: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint16]:
    """Write each gap as escapes (all ones: that many zeros and no value yet) and a remainder."""
    escape = 2**width - 1
    ends = np.cumsum(gaps // escape + 1)
    codes = np.full(int(ends[-1]) if ends.size else 0, escape, np.uint16)
    codes[ends - 1] = gaps % escape
    return codes


def encode_mask(name: str, nonzero: npt.NDArray[np.bool_], context: Context) -> BitStream:
    """Store which values are not zero: as one bit per value or as run lengths of zeros, whichever is smaller.

    The header is counted: one byte, 0 for a bit mask, else the width of the gap codes (1 to 16), followed by the number
    of values (8 bytes, little endian). Each value that is not zero has a gap code, the number of zeros before it; the
    code of all ones says "that many zeros, and no value yet". Zeros after the last value are implied by the length.

    Parameters
    ----------
    name : str
        Name of the stream.
    nonzero : ndarray, shape (n,), bool
        True where a value is kept.
    context : Context
        Run lengths are only used for parts of a known tensor, whose size bounds what a damaged length can ask for.

    Returns
    -------
    BitStream
        Of kind ``mask``.
    """
    size = nonzero.size
    kept = int(np.count_nonzero(nonzero))
    # With fewer zeros than values, run lengths of two bits or more are longer than the bit mask.
    if 2 * kept < size and tensor_size(context, name) is not None:
        gaps = np.diff(np.flatnonzero(nonzero), prepend=-1) - 1
        width, bits = _choose_width(gaps) if kept else (1, 0)
        if RUN_LENGTH_HEADER + bits < BIT_MASK_HEADER + size:
            header = np.frombuffer(bytes([width]) + size.to_bytes(8, "little"), np.uint8)
            data = np.concatenate([header, pack_codes(_gap_codes(gaps, width), width)])
            return BitStream(name, data, RUN_LENGTH_HEADER + bits, "mask")
    data = np.concatenate([np.zeros(1, np.uint8), np.packbits(nonzero, bitorder="little")])
    return BitStream(name, data, BIT_MASK_HEADER + size, "mask")


def decode_mask(stream: BitStream, context: Context) -> npt.NDArray[np.bool_]:
    """Undo :func:`encode_mask`.

    Parameters
    ----------
    stream : BitStream
        Its bits may be damaged.
    context : Context
        Holds the size of the tensor, which no mask exceeds.

    Returns
    -------
    ndarray, shape (n,), bool
        True where a value is kept. A mask of a whole tensor always has the size of the tensor.
    """
    shape = context.shapes.get(stream.name.rpartition(SEPARATOR)[0])
    if stream.data.size < RUN_LENGTH_HEADER // 8 or not 1 <= stream.data[0] <= MAX_WIDTH:
        bits = max(0, stream.length - BIT_MASK_HEADER)
        packed = fit(stream.data[BIT_MASK_HEADER // 8 :], (bits + 7) // 8)
        mask = np.unpackbits(packed, count=bits, bitorder="little").view(np.bool_)
        return mask if shape is None else fit(mask, math.prod(shape))
    width = int(stream.data[0])
    most = tensor_size(context, stream.name)
    size = min(int.from_bytes(stream.data[1:9].tobytes(), "little"), stream.length if most is None else most)
    if shape is not None:
        size = math.prod(shape)
    count = max(0, stream.length - RUN_LENGTH_HEADER) // width
    codes = unpack_codes(stream.data[RUN_LENGTH_HEADER // 8 :], width, count)
    ends = codes != 2**width - 1
    position = np.cumsum(codes + ends, dtype=np.int64)[ends] - 1
    nonzero = np.zeros(size, np.bool_)
    nonzero[position[: np.searchsorted(position, size)]] = True
    return nonzero


def drop_zeros(stream: AnalogStream, nonzero: npt.NDArray[np.bool_], name: str) -> AnalogStream:
    """Return the values where `nonzero` is set, in order, with their sensitivities."""
    sensitivity = None if stream.sensitivity is None else stream.sensitivity[nonzero]
    return AnalogStream(name, stream.values[nonzero], sensitivity)
