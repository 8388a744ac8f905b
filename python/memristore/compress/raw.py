"""Digital storage of floating-point values, bit for bit: the baseline beside every analog result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.errors import SpecError, TensorError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

#: How the words of each format are held in numpy, which has no bfloat16.
_WORDS: Final[dict[str, type[np.generic]]] = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


@dataclass(frozen=True, kw_only=True)
class Raw(Compressor):
    """Turn every analog stream into the bits of an IEEE 754 format. ``w`` becomes ``w/raw``.

    Parameters
    ----------
    dtype : {"float32", "float16", "bfloat16"}
        ``"float32"`` is exact; the others round to nearest, ties to even.

    Raises
    ------
    SpecError
        If the format is another.
    """

    name: ClassVar[str] = "raw"
    source: ClassVar[str] = "IEEE 754"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"dtype": "float16"}, {"dtype": "bfloat16"})
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in _WORDS:
            raise SpecError(f"raw: dtype must be one of {', '.join(_WORDS)}, not {self.dtype!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Turn every analog stream into bits.

        Raises
        ------
        TensorError
            If a finite value is too large for the format.
        """
        out: list[Stream] = []
        for stream in payload:
            if isinstance(stream, AnalogStream):
                words = self._to_words(stream)
                out.append(BitStream.from_array(f"{stream.name}{SEPARATOR}raw", words, "exact"))
            else:
                out.append(stream)
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Turn the bits back into values; damaged bits may give any value, infinities and NaN included."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            values = self._from_words(parts["raw"])
            shape = context.shapes.get(base)
            return AnalogStream(base, values if shape is None else fit(values, math.prod(shape)))

        return merge_parts(payload, ("raw",), join)

    def _to_words(self, stream: AnalogStream) -> npt.NDArray[Any]:
        values = stream.values
        if self.dtype == "float32":
            return values
        if self.dtype == "float16":
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            overflow = np.isinf(half) & np.isfinite(values)
            words: npt.NDArray[Any] = half
        else:
            # Adding just under half of the last kept bit, plus that bit itself, rounds to nearest even.
            bits = np.ascontiguousarray(values).view(np.uint32)
            words = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
            overflow = ((words & 0x7FFF) >= 0x7F80) & np.isfinite(values)
            words = np.where(np.isnan(values), np.uint16(0x7FC0), words)
        if overflow.any():
            worst = float(np.abs(values[overflow]).max())
            raise TensorError(
                f"{stream.name}: {worst:g} is too large for {self.dtype}; store this network as float32 or rescale it"
            )
        return words

    def _from_words(self, stream: BitStream) -> npt.NDArray[np.float32]:
        word = np.dtype(_WORDS[self.dtype])
        whole = stream.length // 8 // word.itemsize * word.itemsize
        words = stream.data[:whole].view(word.newbyteorder("<"))
        if self.dtype == "bfloat16":
            return (words.astype(np.uint32) << 16).view(np.float32)
        return words.astype(np.float32)
