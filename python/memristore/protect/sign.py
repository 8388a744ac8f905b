"""Sign protection: the sign goes to a bit, the magnitude to the analog cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from memristore import _core
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Context, Protection


@dataclass(frozen=True, kw_only=True)
class Sign(Protection):
    """Store signs as bits and magnitudes as analog values.

    A noisy cell can no longer turn a weight's sign, and the magnitudes have the whole window of the cell for
    themselves, which halves the noise. Costs one bit per value. ``w`` becomes ``w/magnitude`` and ``w/sign``; a stream
    without negative values needs no signs and becomes ``w/magnitude`` alone. Negative zero comes back as zero.

    Source: sign protection of B. Isik et al., "Neural Network Compression for Noisy Storage Devices", ACM TECS (2023),
    doi:10.1145/3588436.
    """

    name: ClassVar[str] = "sign"
    bits_per_value: ClassVar[float] = 1.0

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Split every analog stream; bit streams pass."""
        out: list[Stream] = []
        for stream in payload:
            out.extend(_split(stream, context.threads) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Give the magnitudes their signs back."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            magnitude: AnalogStream = parts["magnitude"]
            signs: BitStream | None = parts.get("sign")
            if signs is None:
                return AnalogStream(base, magnitude.values, spare=magnitude.spare)
            over = context.consume and magnitude.spare is not None
            values = magnitude.values if over else np.empty_like(magnitude.values, order="C")
            packed = np.ascontiguousarray(fit(signs.data, (values.size + 7) // 8))
            _core.join_sign(np.ascontiguousarray(magnitude.values), packed, values, threads=context.threads)
            return AnalogStream(base, values, spare=values)

        return merge_parts(payload, ("magnitude",), join, optional=("sign",))


def _split(stream: AnalogStream, threads: int) -> list[Stream]:
    magnitude = np.empty(stream.values.size, np.float32)
    signs = np.empty((magnitude.size + 7) // 8, np.uint8)
    _core.split_sign(np.ascontiguousarray(stream.values), magnitude, signs, threads=threads)
    parts: list[Stream] = [AnalogStream(f"{stream.name}{SEPARATOR}magnitude", magnitude, stream.sensitivity, magnitude)]
    if signs.any():
        parts.append(BitStream(f"{stream.name}{SEPARATOR}sign", signs, magnitude.size, "sign"))
    return parts
