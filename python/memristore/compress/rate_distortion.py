"""Trellis-coded quantisation with entropy-coded levels: the fewest bits for a given mean squared error.

Entropy-coded trellis-coded quantisation after Fischer and Wang (IEEE Trans. Inf. Theory 38(2), 1992): each value is
taken to a point of one of two interleaved uniform quantisers; a trellis says which, and a search through it finds the
points of least error plus weighted bits. Memoryless Gaussian and Laplacian values come within 0.3 to 0.5 dB of
Shannon's rate-distortion function; a uniform quantiser with ideal entropy coding loses up to 1.53 dB.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.compress.level_grid import grid_coder, write_grid
from memristore.compress.level_models import BLOCK
from memristore.compress.level_stream import STATE_COUNTS, Reader, read_levels, varint, write_levels
from memristore.compress.mixed_levels import read_mixed, write_mixed
from memristore.compress.short_levels import read_short, write_short
from memristore.compress.trellis_fit import STEPS, Source, fit_coder, mean_square, reach
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import fit, merge_parts, tensor_size
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

#: Values of one number that damaged bytes can ask for where nothing else tells how many there are.
_MOST_CONSTANT: Final = 1 << 26
#: First byte of a tensor: how the rest is to be read.
_CONSTANT, _FLOAT32, _FLOAT16, _TRELLIS, _SHORT, _MIXED = range(6)


@dataclass(frozen=True, kw_only=True)
class RateDistortion(Compressor):
    """Quantise and entropy-code every analog stream to a wanted ratio of signal to distortion.

    ``w`` becomes ``w/coded``. Exact zeros stay exact zeros. Levels are coded in one of two ways, whichever takes fewer
    bits. With tables: in blocks of 65,536 values that are decoded by themselves, so that a bit error costs at most a
    block, or the tensor if it is in the header. Adaptively: each bit of a level with a probability mixed from counts in
    several contexts (kernel, row, column, neighbours), in parts of about 262,144 values, which a bit error costs.
    Where that is shorter, tensors are stored in other ways: as float16 or float32 words; up to 1,024 values as uniform
    levels without a code, which takes the smallest header; and if all values are multiples of a step (weights trained
    as quantised ones) as the entropy-coded multiples, which come back exactly.

    Parameters
    ----------
    sdr : float or tuple of (pattern, float) or None
        Variance over mean squared error of each tensor, dB; met from 0 to 0.05 dB above (tensors of few values or few
        levels: above). With patterns (as of file names), the first that fits a tensor's name counts; tensors that none
        fits pass unchanged.
    step : float, optional
        Distance of neighbouring points of the two quantisers together, in the units of the values, for all tensors; the
        ratio is then not looked at. The mean squared error is about 0.27 step**2 at high rates.
    states : {4, 8, 16, 32, 64}
        States of the trellis. A million Gaussian values at 4 bits each come within 0.55, 0.47, 0.40, 0.34 or 0.29 dB of
        Shannon's bound, everything counted (``tests/statistics``); the search takes 1.3 times as long with 32 states as
        with 8.
    adaptive : bool
        Whether the adaptive way is tried too. It never takes more bits than without it, but more time.

    Raises
    ------
    SpecError
        If a field is out of range.

    Notes
    -----
    Sensitivities are not looked at.
    """

    name: ClassVar[str] = "rate-distortion"
    source: ClassVar[str] = "T. R. Fischer and M. Wang, IEEE Trans. Inf. Theory 38(2), 1992"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"sdr": 6.0, "states": 4},
        {"sdr": (("*.bias", 40.0), ("*", 30.0)), "states": 32},
        {"step": 0.05, "adaptive": False},
    )
    sdr: float | tuple[tuple[str, float], ...] | None = 20.0
    step: float | None = None
    states: int = 8
    adaptive: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.sdr, (tuple, list)):
            rules = tuple(tuple(rule) if isinstance(rule, (tuple, list)) else (rule,) for rule in self.sdr)
            for rule in rules:
                if len(rule) != 2 or not isinstance(rule[0], str):
                    raise SpecError(f"rate-distortion: sdr must hold pairs of a pattern and dB, not {rule!r}")
                check_number("rate-distortion", f"sdr of {rule[0]!r}", rule[1], 0, 120, open_low=True)
            object.__setattr__(self, "sdr", rules)
        elif self.sdr is not None:
            check_number("rate-distortion", "sdr", self.sdr, 0, 120, open_low=True)
        elif self.step is None:
            raise SpecError("rate-distortion: give sdr, in dB, or step")
        if self.step is not None:
            check_number("rate-distortion", "step", self.step, 1e-30, 1e30)
        if not isinstance(self.adaptive, bool):
            raise SpecError(f"rate-distortion: adaptive must be true or false, not {self.adaptive!r}")
        if isinstance(self.states, bool) or self.states not in STATE_COUNTS:
            raise SpecError(f"rate-distortion: states must be one of {STATE_COUNTS}, not {self.states!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Code every analog stream that has a target; others and bit streams pass."""
        out: list[Stream] = []
        for stream in payload:
            wanted = self._wanted(stream.name) if isinstance(stream, AnalogStream) else None
            if not isinstance(stream, AnalogStream) or (wanted is None and self.step is None):
                out.append(stream)
                continue
            coded = self._encode(stream.values, wanted, context.shapes.get(stream.name, ()), context.threads)
            data = np.frombuffer(coded, np.uint8)
            out.append(BitStream(f"{stream.name}{SEPARATOR}coded", data, 8 * data.size, "index"))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Turn bits back into values; damaged bits may give any finite values, in float words also others."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            size = tensor_size(context, base) if base in context.shapes else None
            stream = parts["coded"]
            return AnalogStream(base, _decode(stream.data[: stream.length // 8], size, context.threads))

        return merge_parts(payload, ("coded",), join)

    def _wanted(self, name: str) -> float | None:
        """Ratio for a tensor; None where only a step is given, or no pattern fits."""
        if self.step is not None:
            return None
        if isinstance(self.sdr, tuple):
            return next((float(sdr) for pattern, sdr in self.sdr if fnmatch.fnmatchcase(name, pattern)), None)
        return self.sdr

    def _encode(self, values: F32, wanted: float | None, shape: tuple[int, ...], threads: int) -> bytes:
        if values.size == 0:
            return b""
        if (values == values[0]).all():
            # One value says so by what is missing.
            count = varint(values.size) if values.size > 1 else b""
            return bytes([_CONSTANT]) + values[:1].astype("<f4").tobytes() + count
        power = float(values.var(dtype=np.float64))
        choices = [bytes([_FLOAT32]) + values.astype("<f4").tobytes()]
        with np.errstate(all="ignore"):
            half = values.astype(np.float16)
        error = mean_square(values, half.astype(np.float32)) if np.isfinite(half).all() else np.inf
        worst = self.step**2 / 4 if self.step is not None else power * 10 ** (-(wanted or 0) / 10)
        if error <= worst and not (half[values == 0] != 0).any():
            choices.append(bytes([_FLOAT16]) + half.astype("<f2").tobytes())
        short = write_short(values, worst)
        if short is not None:
            choices.append(bytes([_SHORT]) + short)
        choices += self._on_grid(values, shape, threads)
        choices += self._code(values, power, wanted, shape, threads)
        return min(choices, key=len)

    def _on_grid(self, values: F32, shape: tuple[int, ...], threads: int) -> list[bytes]:
        """Code multiples of a step, if that is what the values are."""
        found = grid_coder(values)
        if found is None:
            return []
        mixed = write_mixed(*found, None, shape, values.size) if self.adaptive else None
        return _with_mode(_TRELLIS, write_grid(values, threads)) + _with_mode(_MIXED, mixed)

    def _code(
        self, values: F32, power: float, wanted: float | None, shape: tuple[int, ...], threads: int
    ) -> list[bytes]:
        """Code by the trellis; nothing where float arithmetic cannot."""
        nonzero = values != 0
        dense = bool(nonzero.all())
        mean = np.float32(values.mean(dtype=np.float64))
        offset = mean if dense and abs(float(mean)) > 0.25 * power**0.5 else np.float32(0)
        x = values - offset if dense else values[nonzero]
        pieces = (slice(0, x.size),) if dense else _pieces(nonzero)
        # The zeros are exact, so that the others may take all of the error.
        target = None if wanted is None else power * 10 ** (-wanted / 10) * values.size / x.size
        step = self.step if self.step is not None else (float(target or 0) / 0.27) ** 0.5
        if not STEPS[0] < step < STEPS[1] or float(np.abs(x).max()) / step > 2.0**20:
            return []
        source = Source(np.ascontiguousarray(x), pieces, threads)
        coder = fit_coder(source, target, step, self.states, offset)
        if not STEPS[0] < coder.step < STEPS[1]:
            return []
        kept = values if dense else x
        found = reach(source, kept, coder, power * values.size / x.size, wanted)
        if found is None:
            return []
        mask = None if dense else nonzero
        mixed = write_mixed(*found, mask, shape, values.size) if self.adaptive else None
        return _with_mode(_TRELLIS, write_levels(*found, mask, values.size)) + _with_mode(_MIXED, mixed)


def _with_mode(mode: int, coded: bytes | None) -> list[bytes]:
    return [] if coded is None else [bytes([mode]) + coded]


def _pieces(nonzero: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Where the values of each block are, among those that are not zero."""
    counts = np.add.reduceat(nonzero, range(0, nonzero.size, BLOCK), dtype=np.int64)
    ends = np.cumsum(counts).tolist()
    return tuple(slice(end - count, end) for end, count in zip(ends, counts.tolist(), strict=True) if count)


def _decode(data: U8, size: int | None, threads: int) -> F32:
    if data.size == 0:
        return np.zeros(size or 0, np.float32)
    mode, rest = int(data[0]), data[1:]
    if mode in (_FLOAT32, _FLOAT16):
        word = np.dtype("<f4" if mode == _FLOAT32 else "<f2")
        values = rest[: rest.size // word.itemsize * word.itemsize].view(word).astype(np.float32)
    elif mode == _CONSTANT:
        reader = Reader(rest)
        value, written = reader.float32(), reader.varint() or 1
        values = np.full(min(written, _MOST_CONSTANT) if size is None else size, value, np.float32)
    elif mode == _SHORT:
        values = read_short(rest, size)
    elif mode == _MIXED:
        values = read_mixed(rest, size, threads)
    else:
        values = read_levels(rest, size, threads)
    return values if size is None else fit(values, size)
