"""Streams: all that a decoder ever gets. If it is not in a stream, the decoder does not have it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from memristore.errors import SpecError, TensorError

#: What a bit stream holds; the ledger groups by it.
BIT_KINDS: Final = ("sign", "flag", "mask", "scale", "exact", "index", "codebook")


@dataclass(frozen=True, eq=False)
class AnalogStream:
    """Values that tolerate small errors.

    Parameters
    ----------
    name : str
        Unique in its payload: tensor name, then ``/part`` for each split.
    values : ndarray, shape (n,), float32
        Finite values.
    sensitivity : ndarray, shape (n,), float32, optional
        Loss increase per squared error of each value.
    spare : ndarray, shape (m,), float32, optional
        Buffer that ends with `values` and that belongs to this stream: who consumes the stream may overwrite it. None:
        the values belong to others as well.

    Raises
    ------
    TensorError
        If the values are not a finite one-dimensional float32 array.
    """

    name: str
    values: npt.NDArray[np.float32]
    sensitivity: npt.NDArray[np.float32] | None = None
    spare: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for what, array in (("values", self.values), ("sensitivity", self.sensitivity)):
            if array is None:
                continue
            if array.dtype != np.float32 or array.ndim != 1:
                raise TensorError(
                    f"{self.name}: {what} of an analog stream must be 1-d float32, not {array.ndim}-d {array.dtype}"
                )
        if self.sensitivity is not None and self.sensitivity.shape != self.values.shape:
            raise TensorError(f"{self.name}: {self.values.size} values but {self.sensitivity.size} sensitivities")

    def __len__(self) -> int:
        return int(self.values.size)


@dataclass(frozen=True, eq=False)
class BitStream:
    """Bits that must come back exactly.

    Parameters
    ----------
    name : str
        Unique in its payload.
    data : ndarray, shape (ceil(length / 8),), uint8
        The bits, least significant bit of each byte first.
    length : int
        Number of bits.
    kind : {"sign", "flag", "mask", "scale", "exact", "index", "codebook"}
        What they mean; the ledger groups by it.
    symbol_bits : int
        Bits of one symbol, 1 to 16 or 32: how the bits hang together, for entropy coding. A hint for encoders only;
        cells do not keep it.
    outer_code : bool
        Whether cells keep the bits under the recipe's bit code; False for bits that carry a code of their own.
    """

    name: str
    data: npt.NDArray[np.uint8]
    length: int
    kind: str
    symbol_bits: int = 1
    outer_code: bool = True

    def __post_init__(self) -> None:
        if not (1 <= self.symbol_bits <= 16 or self.symbol_bits == 32):
            raise SpecError(f"{self.name}: symbols have 1 to 16 or 32 bits, not {self.symbol_bits!r}")
        if self.length % self.symbol_bits:
            raise TensorError(f"{self.name}: {self.length} bits are not whole symbols of {self.symbol_bits} bits")
        if self.kind not in BIT_KINDS:
            raise SpecError(f"{self.name}: unknown kind of bits {self.kind!r}; kinds are {', '.join(BIT_KINDS)}")
        if self.data.dtype != np.uint8 or self.data.ndim != 1 or self.data.size != (self.length + 7) // 8:
            raise TensorError(f"{self.name}: {self.length} bits need {(self.length + 7) // 8} bytes of uint8")

    @classmethod
    def from_array(cls, name: str, array: npt.NDArray[Any], kind: str) -> BitStream:
        """Take the little-endian bytes of an array as bits, its items of 8, 16 or 32 bits as symbols."""
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        data = np.frombuffer(raw.tobytes(), dtype=np.uint8)
        return cls(name, data, data.size * 8, kind, 8 * raw.itemsize if raw.itemsize in (1, 2, 4) else 1)

    @classmethod
    def from_bools(cls, name: str, bools: npt.NDArray[np.bool_], kind: str) -> BitStream:
        """Pack truth values, one bit each."""
        return cls(name, np.packbits(bools.reshape(-1), bitorder="little"), int(bools.size), kind)

    def to_array(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Give the bits back as a writable 1-d array of `dtype` (native byte order), whole items only."""
        wanted = np.dtype(dtype)
        raw = self.data[: self.data.size // wanted.itemsize * wanted.itemsize].tobytes()
        array: npt.NDArray[Any] = np.frombuffer(raw, dtype=wanted.newbyteorder("<")).astype(wanted)
        return array

    def to_bools(self) -> npt.NDArray[np.bool_]:
        """Unpack to truth values, shape (length,)."""
        return np.unpackbits(self.data, count=self.length, bitorder="little").view(np.bool_)

    def __len__(self) -> int:
        return self.length


Stream = AnalogStream | BitStream

_Scalar = TypeVar("_Scalar", bound=np.generic)


def strided_sample(values: npt.NDArray[_Scalar], most: int) -> npt.NDArray[_Scalar]:
    """Take at most `most` evenly spaced entries along the last axis; a view, the same for the same shape.

    The stride shares no factor with small kernel sizes, so that a convolution is not sampled at one tap only.
    """
    stride = max(1, -(-values.shape[-1] // most))
    while math.gcd(stride, 210) != 1:
        stride += 1
    return values[..., ::stride]


class Payload:
    """Named streams in order, plus nothing else.

    Parameters
    ----------
    streams : iterable of AnalogStream or BitStream
        Their names must differ.

    Raises
    ------
    SpecError
        If two streams share a name.
    """

    def __init__(self, streams: Iterable[Stream] = ()) -> None:
        self.streams: dict[str, Stream] = {}
        for stream in streams:
            if stream.name in self.streams:
                raise SpecError(f"two streams are called {stream.name!r}; names must be unique in a payload")
            self.streams[stream.name] = stream

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.streams.values())

    def __len__(self) -> int:
        return len(self.streams)

    def __contains__(self, name: object) -> bool:
        return name in self.streams

    def analog(self, name: str) -> AnalogStream:
        """Return the analog stream called `name`; KeyError if there is none."""
        stream = self.streams[name]
        if not isinstance(stream, AnalogStream):
            raise KeyError(f"{name} is a bit stream")
        return stream

    def bits(self, name: str) -> BitStream:
        """Return the bit stream called `name`; KeyError if there is none."""
        stream = self.streams[name]
        if not isinstance(stream, BitStream):
            raise KeyError(f"{name} is an analog stream")
        return stream

    def analog_streams(self) -> list[AnalogStream]:
        """All analog streams, in order."""
        return [s for s in self if isinstance(s, AnalogStream)]

    def bit_streams(self) -> list[BitStream]:
        """All bit streams, in order."""
        return [s for s in self if isinstance(s, BitStream)]

    def replace(self, name: str, streams: Iterable[Stream]) -> Payload:
        """Return a payload in which the stream `name` is replaced, in place, by `streams`."""
        out: list[Stream] = []
        for stream in self:
            out.extend(streams if stream.name == name else (stream,))
        return Payload(out)
