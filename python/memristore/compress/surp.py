"""Successive refinement: any prefix of the stream of a tensor decodes, and more of it decodes to less error."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.symbol_blocks import decode_block, encode_block
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

#: Threshold of the first round and mean magnitude, both float32.
_HEAD: Final = struct.Struct("<ff")
#: Bytes of a round's flags and of its signs stand in front of them.
_SIZES: Final = struct.Struct("<II")
_MOST_ROUNDS: Final = 4096


@dataclass(frozen=True, kw_only=True)
class SuRP(Compressor):
    """Refine magnitudes round by round: all that exceed a threshold grow by it, then the threshold falls.

    Starting from all zeros, each round tells which weights still lack at least the round's threshold; these grow by it.
    A weight's sign is told in the round that makes it non-zero. Weights that no round reached stay exact zeros, so a
    short stream is a pruned network. ``w`` becomes ``w/rounds``; vectors pass.

    Parameters
    ----------
    sdr : float
        Rounds are added to a tensor until its signal-to-distortion ratio (mean square over mean squared error) is at
        least this, dB.
    step : float
        Factor between the thresholds of successive rounds, in [0.5, 0.98]. One half takes the fewest bits for a squared
        error; nearer to one, prefixes are finer and their zeros more.
    minimum_dim : int
        Tensors with fewer dimensions (biases, normalisation) are left alone.

    Raises
    ------
    SpecError
        If a field is out of range.

    Notes
    -----
    After "Successive Pruning for Model Compression via Rate Distortion Theory" (B. Isik, A. No, T. Weissman, 2021,
    arXiv:2102.08329): for exponential magnitudes and one-sided absolute error, the optimal reproduction has a mass at
    zero, and such increments lose nothing against coding at once. There, weights are drawn at random until one exceeds
    the threshold and the number of draws is told; here all weights above a threshold are told at the entropy of their
    flags, which takes the same bits. What a weight still lacks after the last round is estimated from the exponential
    law with the tensor's mean magnitude.
    """

    name: ClassVar[str] = "surp"
    source: ClassVar[str] = "B. Isik, A. No and T. Weissman 2021, arXiv:2102.08329"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"sdr": 6.0, "step": 0.85}, {"sdr": 30.0, "minimum_dim": 1})
    sdr: float = 15.0
    step: float = 0.5
    minimum_dim: int = 2

    def __post_init__(self) -> None:
        check_number("surp", "sdr", self.sdr, 0, 80, open_low=True)
        check_number("surp", "step", self.step, 0.5, 0.98)
        check_number("surp", "minimum_dim", self.minimum_dim, 0, 64, integer=True)

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Write the rounds of every analog stream that is a tensor; the others pass."""
        out: list[Stream] = []
        for stream in payload:
            dims = len(context.shapes.get(stream.name, ()))
            known = isinstance(stream, AnalogStream) and stream.name in context.shapes and dims >= self.minimum_dim
            out.append(self._encode(stream) if known and isinstance(stream, AnalogStream) else stream)
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Sum up the rounds that are there; damaged ones may give any finite values."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            size = math.prod(context.shapes[base]) if base in context.shapes else 0
            return AnalogStream(base, self._decode(parts["rounds"].data, size))

        return merge_parts(payload, ("rounds",), join)

    def cut(self, payload: Payload, bits: int) -> Payload:
        """Shorten an encoded payload to at most `bits` bits of rounds, the same round last in every tensor or nearly.

        Parameters
        ----------
        payload : Payload
            From :meth:`encode`.
        bits : int
            Bits for all ``rounds`` streams together, at least 0.

        Returns
        -------
        Payload
            Decodes like the whole one, to a larger error.
        """
        check_number("surp", "bits", bits, 0, 2**62, integer=True)
        streams = [s for s in payload.bit_streams() if s.name.endswith(f"{SEPARATOR}rounds")]
        ends = {s.name: _ends(s.data) for s in streams}
        kept = dict.fromkeys(ends, 0)
        used, spent = 0, set[str]()
        for number in range(1, 1 + max((len(e) for e in ends.values()), default=0)):
            for name, end in ends.items():
                if number > len(end) or name in spent:
                    continue
                more = 8 * (end[number - 1] - (end[number - 2] if number > 1 else 0))
                if used + more > bits:
                    spent.add(name)
                    continue
                used, kept[name] = used + more, end[number - 1]
        out = (
            BitStream(s.name, s.data[: kept[s.name]], 8 * kept[s.name], s.kind, s.symbol_bits)
            if isinstance(s, BitStream) and s.name in kept
            else s
            for s in payload
        )
        return Payload(out)

    def _encode(self, stream: AnalogStream) -> BitStream:
        magnitude = np.abs(stream.values)
        negative = stream.values < 0
        peak = float(magnitude.max(initial=0.0))
        mean = float(magnitude.mean(dtype=np.float64)) if magnitude.size else 0.0
        chunks = [np.frombuffer(_HEAD.pack(peak, mean), np.uint8)]
        reached = np.zeros_like(magnitude)
        wanted = float(np.square(magnitude, dtype=np.float64).sum()) * 10 ** (-self.sdr / 10)
        threshold = np.float32(peak)
        for _ in range(_MOST_ROUNDS if peak > 0 else 0):
            above = magnitude - reached >= threshold
            fresh = above & (reached == 0)
            flags = encode_block(above.astype(np.uint32), 1)
            signs = np.packbits(negative[fresh], bitorder="little")
            chunks += [np.frombuffer(_SIZES.pack(flags.size, signs.size), np.uint8), flags, signs]
            reached[above] += threshold
            # Sums of thresholds may round above what they approach; that is an error like any other.
            error = np.square(magnitude - _estimate(reached, float(threshold), mean), dtype=np.float64).sum()
            threshold = np.float32(threshold * self.step)
            if error <= wanted or threshold <= 0:
                break
        data = np.concatenate(chunks)
        return BitStream(f"{stream.name}{SEPARATOR}rounds", data, 8 * data.size, "index", symbol_bits=8)

    def _decode(self, data: U8, size: int) -> F32:
        peak, mean = _HEAD.unpack(fit(data, max(_HEAD.size, data.size))[: _HEAD.size].tobytes())
        reached = np.zeros(size, np.float32)
        negative = np.zeros(size, np.bool_)
        last = 0.0
        if not (math.isfinite(peak) and math.isfinite(mean) and peak > 0):
            return reached
        threshold, start = np.float32(peak), _HEAD.size
        for end in _ends(data):
            flags, _ = _SIZES.unpack(data[start : start + _SIZES.size].tobytes())
            start += _SIZES.size
            above = decode_block(data[start : start + flags], 1, size).astype(np.bool_)
            fresh = np.flatnonzero(above & (reached == 0))
            signs = np.unpackbits(data[start + flags : end], bitorder="little")
            negative[fresh] = fit(signs, fresh.size).astype(np.bool_)
            with np.errstate(over="ignore"):
                reached[above] += threshold
            last, threshold, start = float(threshold), np.float32(threshold * self.step), end
        values = _estimate(np.minimum(reached, np.finfo(np.float32).max), last, mean)
        return np.where(negative, -values, values)


def _ends(data: U8) -> list[int]:
    """Where the rounds that are whole end, bytes."""
    out: list[int] = []
    at = _HEAD.size
    while at + _SIZES.size <= data.size and len(out) < _MOST_ROUNDS:
        at += _SIZES.size + sum(_SIZES.unpack(data[at : at + _SIZES.size].tobytes()))
        if at > data.size:
            break
        out.append(at)
    return out


def _estimate(reached: F32, threshold: float, mean: float) -> F32:
    """Add to non-zero magnitudes what an exponential law expects of a remainder between 0 and the last threshold."""
    if not (threshold > 0 and mean > 0):
        return reached
    ratio = threshold / mean
    share = 1 / ratio - 1 / math.expm1(ratio) if 1e-4 < ratio < 500 else (0.5 if ratio < 1 else 1 / ratio)
    # Rounded, so that every machine adds the same.
    more = np.float32(threshold) * np.float32(round(share * 4096) / 4096)
    with np.errstate(over="ignore"):
        found = np.where(reached > 0, reached + more, np.float32(0))
    return np.minimum(found, np.finfo(np.float32).max)
