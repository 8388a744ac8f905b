"""Compressors on plain numpy arrays: activations, training state, images; bytes that say how to read themselves."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from memristore.errors import FileError, SpecError, TensorError
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import Compressor, Context

if TYPE_CHECKING:
    from memristore.compress.bit_stack import BitStack

Array = npt.NDArray[Any]

_MAGIC: Final = b"msca\x01"
_NAME: Final = "array"
#: Types that come back as they were.
DTYPES: Final = (
    "float32", "float16", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
#: Integers up to here are float32 numbers.
_EXACT: Final = 1 << 24


def to_float32(array: npt.ArrayLike, name: str = _NAME) -> npt.NDArray[np.float32]:
    """Return any array of numbers as contiguous float32.

    Parameters
    ----------
    array : array_like
        Real numbers or truth values, any shape, contiguous or not.
    name : str
        For errors.

    Returns
    -------
    ndarray, float32
        Of the same shape; integers and half-precision numbers exactly, float64 numbers rounded.

    Raises
    ------
    TensorError
        If the type is another, or a number does not fit float32: finite ones beyond its range, integers beyond 2**24.
    """
    source = np.asarray(array)
    if source.dtype.name not in DTYPES:
        raise TensorError(f"{name}: arrays of {source.dtype} cannot be coded; convert to one of {', '.join(DTYPES)}")
    with np.errstate(over="ignore"):
        values = np.asarray(source, np.float32, order="C")
    if source.dtype.kind in "iu" and source.size and max(abs(int(source.min())), abs(int(source.max()))) > _EXACT:
        raise TensorError(f"{name}: integers beyond 2**24 are not float32 numbers; store them as they are")
    if source.dtype == np.float64 and (np.isinf(values) & np.isfinite(source)).any():
        raise TensorError(f"{name}: values beyond the range of float32; rescale the array")
    return values


def from_float32(values: npt.NDArray[np.float32], dtype: npt.DTypeLike) -> Array:
    """Return values in a type of :func:`to_float32`: integers rounded and clipped to its range, NaN as 0."""
    wanted = np.dtype(dtype)
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            out: Array = values.astype(wanted)
        return out
    numbers = np.rint(np.nan_to_num(values.astype(np.float64), nan=0.0))
    if wanted.kind == "b":
        return numbers > 0
    limits = np.iinfo(wanted)
    # The largest 64-bit integers are no float64 numbers.
    return np.clip(numbers, max(limits.min, -(2**53)), min(limits.max, 2**53)).astype(wanted)


def compress_array(array: npt.ArrayLike, compressor: Compressor | Sequence[Compressor], *, threads: int = 0) -> bytes:
    """Compress an array of numbers.

    Parameters
    ----------
    array : array_like
        Any shape, zero dimensions and no elements included; types as in :func:`to_float32`.
    compressor : Compressor or sequence of Compressor
        For example ``ErrorBounded(bound=1e-3)``, ``RateDistortion(sdr=30)``, ``BitStack(blocks=4)``; applied in order.
    threads : int
        Threads for compiled kernels; 0 means all.

    Returns
    -------
    bytes
        Self-describing; what a compressor leaves analog stands in them as float32 words. Counted in bytes the header
        takes some 200.

    Raises
    ------
    TensorError
        If the array does not fit float32, or holds NaN or infinity and the first compressor does not take them.

    Examples
    --------
    >>> import numpy as np
    >>> from memristore.compress import ErrorBounded, compress_array, decompress_array
    >>> image = (np.add.outer(np.arange(256), np.arange(256)) // 2).astype(np.uint8)
    >>> data = compress_array(image, ErrorBounded(bound=2, relative=False))
    >>> len(data) < image.size / 8, int(np.abs(decompress_array(data).astype(int) - image).max()) <= 2
    (True, True)
    """
    chain = (compressor,) if isinstance(compressor, Compressor) else tuple(compressor)
    if not all(isinstance(part, Compressor) for part in chain):
        raise SpecError(f"expected compressors, not {compressor!r}")
    source = np.asarray(array)
    values = to_float32(source)
    if not (chain and chain[0].takes_nonfinite) and not np.isfinite(values).all():
        raise TensorError(
            f"{_NAME}: {int((~np.isfinite(values)).sum())} values are NaN or infinite; "
            "ErrorBounded keeps them, other compressors do not"
        )
    chain = tuple(part.for_array(source) for part in chain)
    context = Context(shapes={_NAME: values.shape}, threads=threads)
    payload = Payload([AnalogStream(_NAME, values.reshape(-1))])
    for part in chain:
        payload = part.encode(payload, context)
    return _pack(payload, chain, source.dtype.name, values.shape)


def decompress_array(data: bytes, *, threads: int = 0) -> Array:
    """Undo :func:`compress_array`: an array of the original's shape and type.

    Raises
    ------
    FileError
        If the bytes are not such an array, or cut short.
    """
    payload, chain, dtype, shape = _unpack(data)
    context = Context(shapes={_NAME: shape}, threads=threads)
    for part in reversed(chain):
        payload = part.decode(payload, context)
    return from_float32(payload.analog(_NAME).values.reshape(shape), dtype)


def shorten_array(data: bytes, size: int) -> bytes:
    """Cut an array that ``BitStack`` compressed to at most `size` bytes, without the original.

    Raises
    ------
    SpecError
        If another compressor made it, or even the header does not fit.
    FileError
        If the bytes are not a compressed array.
    """
    from memristore.compress.bit_stack import BitStack

    payload, chain, dtype, shape = _unpack(data)
    if len(chain) != 1 or not isinstance(chain[0], BitStack):
        names = ", ".join(part.name for part in chain) or "nothing"
        raise SpecError(f"only arrays compressed by bit-stack alone can be cut; this one was by {names}")
    stack: BitStack = chain[0]
    # Fewer streams have no longer header. Streams start at whole bytes, of which bits count as less.
    head = len(data) - sum(_bytes(stream) for stream in payload) + len(payload)
    cut = stack.prefix(payload, Context(shapes={_NAME: shape}), size - head, "bytes")
    return _pack(cut, chain, dtype, shape)


def _bytes(stream: Stream) -> int:
    return 4 * len(stream) if isinstance(stream, AnalogStream) else int(stream.data.size)


def _pack(payload: Payload, chain: Sequence[Compressor], dtype: str, shape: tuple[int, ...]) -> bytes:
    streams: list[list[Any]] = []
    body = []
    for stream in payload:
        if isinstance(stream, AnalogStream):
            streams.append([stream.name, len(stream)])
            body.append(stream.values.astype("<f4").tobytes())
        else:
            streams.append([stream.name, len(stream), stream.kind, stream.symbol_bits])
            body.append(stream.data.tobytes())
    head = {"compress": [part.to_dict() for part in chain], "dtype": dtype, "shape": shape, "streams": streams}
    packed = zlib.compress(json.dumps(head, separators=(",", ":")).encode(), 9)
    return _MAGIC + len(packed).to_bytes(4, "little") + packed + b"".join(body)


def _unpack(data: bytes) -> tuple[Payload, tuple[Compressor, ...], str, tuple[int, ...]]:
    from memristore.compress import compressors

    start = len(_MAGIC) + 4
    if not data.startswith(_MAGIC):
        raise FileError("these bytes are no compressed array of this version; compress_array makes them")
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    try:
        head = json.loads(zlib.decompress(data[start:end]))
        chain = tuple(compressors.from_dict(part) for part in head["compress"])
        dtype, shape = str(head["dtype"]), tuple(int(n) for n in head["shape"])
        streams = [tuple(item) for item in head["streams"]]
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise FileError(f"compressed array: its header (bytes {start} to {end}) is damaged ({error})") from error
    payload: list[Stream] = []
    for name, length, *kind in streams:
        size = (length + 7) // 8 if kind else 4 * length
        part = np.frombuffer(data[end : end + size], np.uint8)
        if part.size < size:
            raise FileError(
                f"compressed array: stream {name!r} ends after {part.size} of {size} bytes; it was cut short"
            )
        end += size
        payload.append(
            BitStream(name, part, length, *kind) if kind else AnalogStream(name, part.view("<f4").astype("f4"))
        )
    if dtype not in DTYPES or any(n < 0 for n in shape):
        raise FileError(f"compressed array: there is no array of type {dtype!r} and shape {shape}")
    if end != len(data):
        raise FileError(f"compressed array: {len(data) - end} bytes follow after its end")
    return Payload(payload), chain, dtype, shape
