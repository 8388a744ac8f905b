"""The mapper protocol, and what every mapper shares: windows, side information, decoding tables."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.config import Configurable
from memristore.devices.device import Device
from memristore.devices.moments import Channel
from memristore.errors import SpecError
from memristore.mapping.density import Density
from memristore.streams import strided_sample

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Window positions at which responses are tabulated, and knots of a decoding table.
POSITIONS: Final[int] = 257
KNOTS: Final[int] = 513
#: Values are judged by a strided sample of at most this many.
SAMPLE: Final[int] = 32768
# Decoding tables are rounded to this share of their window: far below any cell's noise, far above the last-bit
# differences between mathematical libraries, so that decoded bits agree between machines.
_GRAIN: Final[float] = 2.0**-20
# Windows narrower than this are constants: the kernels' float32 cannot hold the inverse of their width.
_NARROWEST: Final[float] = 1e-36
#: Knots and positions of the window search.
COARSE: Final[tuple[int, int]] = (257, 129)
_NO_DENSITY: Final[F64] = np.empty(0)


@dataclass(frozen=True)
class PlaneParams:
    """Side information of one plane: 72 bits, rounded so that the encoder uses what the decoder reads.

    Parameters
    ----------
    lo : float
        Value that the window's lower edge stands for; a float32 number, so that narrow windows far from zero exist.
    width : float
        Values from lower to upper edge; a bfloat16 number. 0 for a constant stream, which needs no cells.
    density : Density
        The prior of the values in the window.
    followed : bool
        Whether the stream has another write, with parameters of its own. Takes the sign bit of the width.
    """

    lo: float
    width: float
    density: Density
    followed: bool = False

    BYTES: ClassVar[int] = 9

    @property
    def hi(self) -> float:
        """Value that the window's upper edge stands for."""
        return self.lo + self.width

    @property
    def constant(self) -> bool:
        """Whether the stream is one value throughout."""
        return self.width == 0.0

    def to_bytes(self) -> bytes:
        """Pack: float32 lo, bfloat16 width with the sign for `followed`, centre (8 bits), shape code (16 bits)."""
        edges = np.array([self.lo, self.width], dtype="<f4")
        width = (edges[1:].view("<u4") >> 16).astype("<u2") | np.uint16(0x8000 if self.followed else 0)
        shape = bytes([self.density.centre, self.density.code & 255, self.density.code >> 8])
        return edges[:1].tobytes() + width.tobytes() + shape

    @classmethod
    def from_bytes(cls, data: bytes) -> PlaneParams:
        """Unpack; any nine bytes give valid parameters, since bit errors happen."""
        lo = float(np.frombuffer(data[:4], dtype="<f4")[0])
        signed = np.frombuffer(data[4:6], dtype="<u2").astype("<u4") << 16
        width, followed = float(np.abs(signed.view("<f4")[0])), bool(signed[0] >> 31)
        if not (math.isfinite(lo) and math.isfinite(width) and width >= _NARROWEST):
            return cls(lo if math.isfinite(lo) else 0.0, 0.0, Density(), followed)
        return cls(lo, width, Density(data[6], data[7] + 256 * data[8]), followed)

    @classmethod
    def unpack(cls, data: bytes) -> list[PlaneParams]:
        """Unpack the parameters of all writes of a stream, up to the one that no other follows."""
        found: list[PlaneParams] = []
        while (not found or found[-1].followed) and len(data) >= (len(found) + 1) * cls.BYTES:
            found.append(cls.from_bytes(data[len(found) * cls.BYTES :]))
        return found

    @classmethod
    def around(cls, lo: float, hi: float) -> PlaneParams:
        """Return the narrowest window that holds [lo, hi]; a constant where that is narrower than 1e-36."""
        edge = np.float32(lo)
        if float(edge) > lo:
            edge = np.nextafter(edge, np.float32(-np.inf))
        width = np.array([min(hi - float(edge), 3.3e38)], dtype=np.float32)
        if width[0] < _NARROWEST:
            return cls(float(np.float32(0.5 * lo + 0.5 * hi)), 0.0, Density())
        bits = (width.view(np.uint32) + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)
        return cls(float(edge), float(bits.view(np.float32)[0]), Density())


#: The window [0, 1] with a flat prior.
UNIT: Final = PlaneParams(0.0, 1.0, Density())


@dataclass(frozen=True, eq=False)
class Table:
    """A decoding table for the kernels: value against soft read, straight between equally spaced knots."""

    values: F32
    start: float
    inv_step: float
    extrapolate: bool

    def __call__(self, soft: F32, threads: int = 0) -> F32:
        """Decode soft reads, shape (n,)."""
        out = np.empty_like(soft)
        _core.lookup(soft, self.values, self.start, self.inv_step, self.extrapolate, out, threads)
        return out


class Mapper(Configurable):
    """Values to targets of cells, and soft reads back to values.

    A mapper places the values of a window [lo, hi] on the device. Window positions run from 0 (lo) to 1 (hi).
    """

    #: Cells that one symbol takes.
    cells_per_symbol: ClassVar[int] = 1
    #: Whether windows are symmetric about zero.
    symmetric: ClassVar[bool] = False
    #: ``"auto"``, None for the extreme values, or a multiple of the standard deviation.
    clip: float | str | None

    @property
    def plain(self) -> Mapper:
        """Mapper for thresholds and for planes that another plane follows: this one, or a simpler one.

        Its windows and predicted errors hold for this mapper too.
        """
        return self

    def targets(self, values: F32, params: PlaneParams, device: Device, threads: int = 0) -> list[F32]:
        """Return one array of targets x, shape (n,), for each cell of a symbol."""
        raise NotImplementedError

    def soft(self, reads: Sequence[F32]) -> F32:
        """Combine the reads of a symbol's cells into one soft value, shape (n,); one cell's read is its soft value."""
        raise NotImplementedError

    def response(self, position: F64, params: PlaneParams, channel: Channel) -> tuple[F64, F64]:
        """Mean and spread of the soft value at window positions, shape (k,)."""
        raise NotImplementedError

    def form(self, params: PlaneParams) -> PlaneParams:
        """Return what the response depends on: parameters that are equal wherever responses are."""
        return UNIT

    def frame(self, lo: float, hi: float) -> PlaneParams:
        """Round window edges to what side information holds."""
        return PlaneParams.around(lo, hi)

    def window(
        self,
        values: F32,
        channel: Channel,
        planes: int = 1,
        decoder: str = "mmse",
        clip_cost: float = 1.0,
        threads: int = 0,
    ) -> PlaneParams:
        """Choose window and prior for values, shape (n,), that `planes` averaged cells hold until `channel`'s time.

        `clip_cost` weighs squared clipping errors against noise.
        """
        low, high, _ = _core.extremes(values, threads)
        if high - low < _NARROWEST:
            return PlaneParams.around(low, high)
        sample = np.sort(strided_sample(values, SAMPLE))
        found = seen(self, UNIT, channel, planes, *COARSE)
        lo, hi, _ = self._search(sample, low, high, values.size, found, decoder, clip_cost)
        plain = self.frame(lo, hi)
        return dataclasses.replace(plain, density=Density.fit(sample, plain.lo, plain.hi))

    def window_over(
        self,
        values: F32,
        channels: Sequence[Channel],
        planes: int = 1,
        decoder: str = "mmse",
        clip_cost: float = 1.0,
        threads: int = 0,
    ) -> PlaneParams:
        """Choose window and prior as :meth:`window` does, for reads at several ages.

        Of the windows that are best for one of the channels, the one with the least mean logarithm of the errors
        predicted on all of them.
        """
        found = list(dict.fromkeys(self.window(values, c, planes, decoder, clip_cost, threads) for c in channels))
        if len(found) == 1:
            return found[0]
        low, high, _ = _core.extremes(values, threads)
        sample = np.sort(strided_sample(values, SAMPLE))

        def score(params: PlaneParams) -> float:
            known = [seen(self, self.form(params), c, planes, *COARSE) for c in channels]
            errors = [judge(params, k, sample, (low, high), values.size, decoder, clip_cost) for k in known]
            return sum(math.log(max(error, 1e-300)) for error in errors)

        return min(found, key=score)

    def distortion(self, values: F32, channel: Channel, planes: int = 1, decoder: str = "mmse") -> float:
        """Predicted mean squared error per value in the window that :meth:`window` would choose."""
        # Callers that try many parts of one sample give them in order.
        rising = bool((values[1:] >= values[:-1]).all())
        low, high = (float(values[0]), float(values[-1])) if rising else (float(values.min()), float(values.max()))
        if high - low < _NARROWEST:
            return 0.0
        sample = strided_sample(values, SAMPLE)
        ordered = np.ascontiguousarray(sample) if rising else np.sort(sample)
        return self._search(ordered, low, high, values.size, seen(self, UNIT, channel, planes, *COARSE), decoder)[2]

    def _search(
        self, sample: F32, low: float, high: float, n: int, found: Seen, decoder: str, clip_cost: float = 1.0
    ) -> tuple[float, float, float]:
        """Best window edges for an ordered sample among the reaches tried, and the error predicted for them."""
        # "auto" tries reaches between that of most values and that of all; the error has one valley between them.
        clip = 0.0 if isinstance(self.clip, str) else math.inf if self.clip is None else self.clip
        inverted = decoder == "inverse" or found.noiseless
        return _core.best_window(
            sample, low, high, n, clip, clip_cost, self.symmetric,
            found.inverse_variance, _NO_DENSITY if inverted else found.density, float(found.knots[1] - found.knots[0]),
        )  # fmt: skip

    def table(self, params: PlaneParams, channel: Channel, planes: int, decoder: str) -> Table:
        """Decoding table for the mean of `planes` soft reads.

        Parameters
        ----------
        params : PlaneParams
        channel : Channel
            At the age that the decoder believes the cells to have.
        planes : int
            Cells averaged.
        decoder : {"mmse", "inverse"}
            Posterior mean under the prior, or the inverse of the mean response (unbiased, extrapolating).
        """
        found = seen(self, self.form(params), channel, planes, KNOTS, POSITIONS)
        span = params.width
        if decoder not in ("mmse", "inverse"):
            raise SpecError(f"unknown decoder {decoder!r}; there are 'mmse' and 'inverse'")
        # Without noise the posterior mean is the inverse.
        inverted = decoder == "inverse" or found.noiseless
        if inverted:
            start, stop = float(min(found.mean[0], found.mean[-1])), float(max(found.mean[0], found.mean[-1]))
            position = inverse(np.linspace(start, stop, KNOTS), found.position, found.mean)
        else:
            start, stop = float(found.knots[0]), float(found.knots[-1])
            position = found.posterior_mean(*params.density.masses(POSITIONS, params.lo, params.hi))
        inv_step = (KNOTS - 1) / (stop - start) if stop > start else 1.0
        return Table(_rounded(params.lo, span, position), start, inv_step, inverted)


def _rounded(lo: float, span: float, position: F64) -> F32:
    grain = span * _GRAIN
    values: F32 = (np.round((lo + span * position) / grain) * grain).astype(np.float32)
    return values


@dataclass(frozen=True, eq=False)
class Seen:
    """How window positions show in soft reads, for one mapper, channel and number of averaged planes.

    `likelihood`, shape (knots, positions), is relative to the greatest of each knot; `density`, flat, is transposed.
    """

    position: F64
    mean: F64
    inverse_variance: F64
    knots: F64
    likelihood: F64
    density: F64
    noiseless: bool

    def posterior_mean(self, mass: F64, first: F64) -> F64:
        """Posterior mean at each knot, of masses at the positions and their first moments."""
        # A prior that underflows would leave far reads without any candidate: a floor keeps them near what was read.
        lift = np.maximum(1e-12 * mass.max() - mass, 0.0)
        mass, first = mass + lift, first + lift * self.position
        mean: F64 = np.einsum("kp,p->k", self.likelihood, first) / np.einsum("kp,p->k", self.likelihood, mass)
        return mean


@functools.lru_cache(maxsize=64)
def seen(mapper: Mapper, form: PlaneParams, channel: Channel, planes: int, knots: int, positions: int) -> Seen:
    """Tabulate what a decoder sees of window positions, for parameters that :meth:`Mapper.form` returned."""
    position = np.linspace(0.0, 1.0, positions)
    mean, std = mapper.response(position, form, channel)
    std = std / math.sqrt(planes)
    slope = np.abs(np.gradient(mean, position))
    variance = np.square(std / np.maximum(slope, 0.02 * abs(mean[-1] - mean[0]) + 1e-12))
    # A spread below the grid's (ideal cells) becomes one that neighbouring positions still see.
    grid = abs(mean[-1] - mean[0]) / (positions - 1)
    reach = 4.5 * np.max(std) + grid
    at = np.linspace(float(np.min(mean)) - reach, float(np.max(mean)) + reach, knots)
    spread = np.maximum(std, max(0.5 * grid, 0.7 * float(at[1] - at[0])))
    z = (at[:, None] - mean) / spread
    log = -0.5 * z * z - np.log(spread * math.sqrt(2 * math.pi))
    scale = log.max(axis=1, keepdims=True)
    density = np.ascontiguousarray(np.exp(log).T).reshape(-1)
    return Seen(position, mean, variance, at, np.exp(log - scale), density, not np.any(std))


def judge(
    params: PlaneParams, found: Seen, sample: F32, ends: tuple[float, float], n: int, decoder: str, clip_cost: float
) -> float:
    """Mean squared error predicted for an ordered sample, of `n` values between `ends`, in one window."""
    inverted = decoder == "inverse" or found.noiseless
    lo, hi = params.lo, params.hi
    # Told that the values reach no further, the search has this window only; those beyond are added here.
    error = _core.best_window(
        sample, lo, hi, n, math.inf, clip_cost, False,
        found.inverse_variance, _NO_DENSITY if inverted else found.density, float(found.knots[1] - found.knots[0]),
    )[2]  # fmt: skip
    return error + (max(lo - ends[0], 0.0) ** 2 + max(ends[1] - hi, 0.0) ** 2) / n


def inverse(states: F64, position: F64, mean: F64) -> F64:
    """Positions whose mean response is `states`; follows the running extreme where a measured mean wiggles."""
    rising = mean if mean[-1] >= mean[0] else -mean
    wanted = states if mean[-1] >= mean[0] else -states
    envelope = np.maximum.accumulate(rising)
    keep = np.append(True, np.diff(envelope) > 0)
    found: F64 = np.interp(wanted, envelope[keep], position[keep])
    return found
