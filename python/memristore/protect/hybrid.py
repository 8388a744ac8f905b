"""Hybrid: the coarse part of each value goes to bits, what is left to the analog cells."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.masks import fit, merge_parts, pack_codes, unpack_codes
from memristore.streams import AnalogStream, BitStream, Payload, Stream, strided_sample
from memristore.transform import SEPARATOR, Context, Protection

F32 = npt.NDArray[np.float32]

_SAMPLE: Final = 32768
#: Streams of fewer values are not worth the header.
_FEWEST: Final = 64
#: Share of the values over which the levels asked for are spread; rarer ones get further levels, up to so many in all.
_MIDDLE: Final = 0.98
_MOST: Final = 256
#: Farthest level from zero, in levels: products with a step of 4 significant bits stay exact.
_FARTHEST: Final = 1 << 15
_LARGEST: Final = float(np.finfo(np.float32).max)
#: Step (float32), lowest level (int32), bits of an index (uint8).
_HEADER: Final = 9


@dataclass(frozen=True, kw_only=True)
class Hybrid(Protection):
    """Split each value into the nearest of equally spaced levels, as bits, and a remainder, as an analog value.

    A bit well kept is worth 6 dB to every value; a cell with noise holds only the first few bits of a value well.
    ``w`` becomes ``w/index``, ``w/rest`` (between minus and plus half a step) and ``w/step`` (72 bits). Put
    :class:`~memristore.Entropy` behind it: levels far from the middle are rare and then cost next to nothing. Values
    come back exactly if the parts do, up to float32 rounding where levels are clipped. Streams of fewer than 64 values
    or of a single value pass; the directory says so.

    Parameters
    ----------
    levels : int
        Levels across the middle 98 % of a stream's values, 2 to 128. Rarer values get further levels, up to 256 in all;
        beyond those the remainder grows.

    Notes
    -----
    A protection, and not a code, since it turns values into bits and values: the bits then ride under the recipe's bit
    code with all others and may be entropy-coded, and the remainders take any analog code. Steps have four significant
    bits, so that no rounding happens. Hybrid digital-analog coding: U. Mittal, N. Phamdo, "Hybrid digital-analog (HDA)
    joint source-channel codes for broadcasting and robust communications", IEEE Trans. Inf. Theory 48 (2002),
    doi:10.1109/18.995544.
    """

    name: ClassVar[str] = "hybrid"
    bits_per_value: ClassVar[float] = 2.0
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"levels": 32})
    levels: int = 8

    def __post_init__(self) -> None:
        check_number(self.name, "levels", self.levels, 2, 128, integer=True)

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Split every analog stream that is long enough; bit streams pass."""
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._split(stream) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Add the levels to the remainders."""
        return merge_parts(payload, ("index", "rest", "step"), _join)

    def _split(self, stream: AnalogStream) -> list[Stream]:
        values = stream.values
        if values.size < _FEWEST:
            return [stream]
        sample = np.sort(strided_sample(values, _SAMPLE))
        outside = int(0.5 * (1.0 - _MIDDLE) * sample.size)
        span = float(sample[-1 - outside]) - float(sample[outside])
        if span == 0.0:
            span = float(values.max()) - float(values.min())
        middle = 0.5 * float(sample[sample.size // 2]) + 0.5 * float(sample[(sample.size - 1) // 2])
        step = _rounded(span / self.levels)
        if step == 0.0 or abs(middle) > (_FARTHEST - _MOST) * step:
            return [stream]
        centre = round(middle / step)
        # No level beyond the largest number.
        low = max(centre - _MOST // 2, math.ceil(-_LARGEST / step))
        high = min(centre + _MOST // 2 - 1, math.floor(_LARGEST / step))
        level = np.clip(np.rint(values.astype(np.float64) / step), low, high)
        low, high = int(level.min()), int(level.max())
        if low == high:
            return [stream]
        width = (high - low).bit_length()
        rest = values - (level * step).astype(np.float32)
        codes = pack_codes((level - low).astype(np.uint16), width)
        header = np.concatenate([
            np.array([step], "<f4").view(np.uint8), np.array([low], "<i4").view(np.uint8), np.array([width], np.uint8)
        ])  # fmt: skip
        parts = f"{stream.name}{SEPARATOR}"
        return [
            dataclasses.replace(stream, name=f"{parts}rest", values=rest, spare=rest),
            BitStream(f"{parts}index", codes, values.size * width, "index", symbol_bits=width),
            BitStream(f"{parts}step", header, 8 * header.size, "scale"),
        ]


def _rounded(step: float) -> float:
    """Nearest number of four significant bits; 0 where float32 does not hold it."""
    if not 1e-36 < step < 1e38:
        return 0.0
    fraction, exponent = math.frexp(step)
    return math.ldexp(round(fraction * 16.0), exponent - 4)


def _join(base: str, parts: dict[str, Any]) -> Stream:
    header = fit(parts["step"].data, _HEADER)
    step = float(header[:4].view("<f4")[0])
    low = int(header[4:8].view("<i4")[0])
    width = min(max(int(header[8]), 1), 16)
    rest: F32 = parts["rest"].values
    index = unpack_codes(parts["index"].data, width, rest.size)
    # Damaged headers give wrong values, but numbers.
    step = step if math.isfinite(step) else 0.0
    level = index.astype(np.float64) + min(max(low, -_FARTHEST), _FARTHEST)
    return AnalogStream(base, np.clip(rest + level * step, -_LARGEST, _LARGEST).astype(np.float32))
