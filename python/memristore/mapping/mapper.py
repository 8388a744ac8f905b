"""The mapper protocol, and what every mapper shares: windows, side information, decoding tables."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
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
# Grid of the window search, and values kept one by one at each end of a sample.
_COARSE: Final[tuple[int, int]] = (257, 129)
_EXTREMES: Final[int] = 32


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
    """

    lo: float
    width: float
    density: Density

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
        """Pack: float32 lo, bfloat16 width, centre (8 bits), shape code (16 bits)."""
        edges = np.array([self.lo, self.width], dtype="<f4")
        width = (edges[1:].view("<u4") >> 16).astype("<u2")
        shape = bytes([self.density.centre, self.density.code & 255, self.density.code >> 8])
        return edges[:1].tobytes() + width.tobytes() + shape

    @classmethod
    def from_bytes(cls, data: bytes) -> PlaneParams:
        """Unpack; any nine bytes give valid parameters, since bit errors happen."""
        lo = float(np.frombuffer(data[:4], dtype="<f4")[0])
        width = float((np.frombuffer(data[4:6], dtype="<u2").astype("<u4") << 16).view("<f4")[0])
        if not (math.isfinite(lo) and math.isfinite(width) and width >= _NARROWEST):
            return cls(lo if math.isfinite(lo) else 0.0, 0.0, Density())
        return cls(lo, width, Density(data[6], data[7] + 256 * data[8]))

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
    #: ``"auto"``, None for the extreme values, or a multiple of the standard deviation.
    clip: float | str | None

    def targets(self, values: F32, params: PlaneParams, device: Device, threads: int = 0) -> list[F32]:
        """Return one array of targets x, shape (n,), for each cell of a symbol."""
        raise NotImplementedError

    def soft(self, reads: Sequence[F32]) -> F32:
        """Combine the reads of a symbol's cells into one soft value, shape (n,); one cell's read is its soft value."""
        raise NotImplementedError

    def response(self, position: F64, params: PlaneParams, channel: Channel) -> tuple[F64, F64]:
        """Mean and spread of the soft value at window positions, shape (k,)."""
        raise NotImplementedError

    def edges(self, low: float, high: float, centre: float, reach: float) -> tuple[float, float]:
        """Window edges that keep what lies within `reach` of the centre. Values of one sign keep their inner edge."""
        if low >= 0:
            inner = 0.0 if low < 0.02 * high else low
            return inner, min(high, inner + reach)
        if high <= 0:
            inner = 0.0 if high > 0.02 * low else high
            return max(low, inner - reach), inner
        return max(low, centre - reach), min(high, centre + reach)

    def frame(self, lo: float, hi: float) -> PlaneParams:
        """Round window edges to what side information holds."""
        return PlaneParams.around(lo, hi)

    def window(
        self, values: F32, channel: Channel, planes: int = 1, decoder: str = "mmse", clip_cost: float = 1.0
    ) -> PlaneParams:
        """Choose window and prior for values, shape (n,), that `planes` averaged cells hold until `channel`'s time.

        `clip_cost` weighs squared clipping errors against noise.
        """
        low, high = float(values.min()), float(values.max())
        sample = strided_sample(values, SAMPLE)
        if high - low < _NARROWEST:
            return PlaneParams.around(low, high)
        edges = self._search(sample, low, high, values.size, channel, planes, decoder, clip_cost)[0]
        plain = self.frame(*edges)
        return dataclasses.replace(plain, density=Density.fit(sample, plain.lo, plain.hi))

    def distortion(self, values: F32, channel: Channel, planes: int = 1, decoder: str = "mmse") -> float:
        """Predicted mean squared error per value in the window that :meth:`window` would choose."""
        low, high = float(values.min()), float(values.max())
        if high - low < _NARROWEST:
            return 0.0
        return self._search(strided_sample(values, SAMPLE), low, high, values.size, channel, planes, decoder)[1]

    def _candidates(self, values: F64, weights: F64, low: float, high: float) -> list[F64]:
        """Families of windows to try, shape (k, 2) each, from narrow to wide."""
        # Medians, not means: one outlier must move neither the centre nor the unit.
        centre = float(values[np.searchsorted(np.cumsum(weights), 0.5)])
        families = [_family(lambda reach: self.edges(low, high, centre, reach), self.clip, values, weights, low, high)]
        if isinstance(self.clip, str) and (low > 0.02 * high if low > 0 else high < 0.02 * low):
            # Values of one sign that do not reach zero may pile up at their inner edge or lie about a middle.
            families.append(
                _family(
                    lambda reach: (max(low, centre - reach), min(high, centre + reach)),
                    self.clip, values, weights, low, high, centre,
                )
            )  # fmt: skip
        return families

    def _search(
        self,
        sample: F32,
        low: float,
        high: float,
        n: int,
        channel: Channel,
        planes: int,
        decoder: str,
        clip_cost: float = 1.0,
    ) -> tuple[tuple[float, float], float]:
        """Best window edges among the reaches tried, and the error predicted for them."""
        values, weights = _condense(sample)
        seen = _seen(self, channel, planes, *_COARSE)

        def judge(edges: F64) -> F64:
            lo, span = edges[:, :1], edges[:, 1:] - edges[:, :1]
            # Rows are windows, columns values. `true` may lie outside the window, `position` never does.
            true = (values - lo) / span
            position = np.clip(true, 0.0, 1.0)
            if decoder == "inverse" or seen.noiseless:
                noise = np.interp(position, seen.position, seen.inverse_variance)
                error = ((noise + clip_cost * np.square(true - position)) * weights).sum(axis=1)
            else:
                error = seen.posterior_variance(position, true, weights)
            # The sample may miss the extremes, which the window must answer for with their true weight 1/n.
            missed = np.square(np.maximum(edges[:, 0] - low, 0.0)) + np.square(np.maximum(high - edges[:, 1], 0.0))
            errors: F64 = np.square(span[:, 0]) * error + missed / n
            return errors

        best: tuple[tuple[float, float], float] | None = None
        for family in self._candidates(values, weights, low, high):
            # The error has one valley: its neighbourhood is looked at closely.
            middle = 3 * int(np.argmin(judge(family[::3])))
            near = family[max(middle - 2, 0) : middle + 3]
            errors = judge(near)
            k = int(np.argmin(errors))
            if best is None or errors[k] < best[1]:
                best = ((float(near[k, 0]), float(near[k, 1])), float(errors[k]))
        if best is None:
            raise RuntimeError("no window was tried")
        return best

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
        seen = _seen(self, channel, planes, KNOTS, POSITIONS)
        span = params.width
        if decoder not in ("mmse", "inverse"):
            raise SpecError(f"unknown decoder {decoder!r}; there are 'mmse' and 'inverse'")
        # Without noise the posterior mean is the inverse.
        inverted = decoder == "inverse" or seen.noiseless
        if inverted:
            start, stop = float(min(seen.mean[0], seen.mean[-1])), float(max(seen.mean[0], seen.mean[-1]))
            position = inverse(np.linspace(start, stop, KNOTS), seen.position, seen.mean)
        else:
            start, stop = float(seen.knots[0]), float(seen.knots[-1])
            position = seen.posterior_mean(*params.density.masses(POSITIONS, params.lo, params.hi))
        inv_step = (KNOTS - 1) / (stop - start) if stop > start else 1.0
        return Table(_rounded(params.lo, span, position), start, inv_step, inverted)


def _family(
    edges: Callable[[float], tuple[float, float]],
    clip: float | str | None,
    values: F64,
    weights: F64,
    low: float,
    high: float,
    centre: float | None = None,
) -> F64:
    """Windows of rising reach about one centre, or the one that `clip` asks for."""
    inner, outer = edges(math.inf)
    one_sided = centre is None and (low >= 0 or high <= 0)
    if one_sided:
        origin = inner if low >= 0 else outer
        full = outer - inner
    else:
        origin = float(values[np.searchsorted(np.cumsum(weights), 0.5)])
        full = max(outer - origin, origin - inner)
    if clip is None:
        reaches = np.array([full])
    elif isinstance(clip, str):
        distance = np.abs(values - origin)
        rank = np.argsort(distance, kind="stable")
        unit = float(distance[rank][np.searchsorted(np.cumsum(weights[rank]), 0.68)])
        reaches = np.geomspace(max(min(unit, full), 1e-6 * full), full, 25)
    else:
        about = 0.0 if one_sided else float(np.sum(weights * values))
        spread = math.sqrt(float(np.sum(weights * np.square(values - about))))
        reaches = np.array([min(full, max(clip * spread - (abs(origin) if one_sided else 0.0), 1e-3 * full))])
    return np.array([edges(float(reach)) for reach in reaches])


def _rounded(lo: float, span: float, position: F64) -> F32:
    grain = span * _GRAIN
    values: F32 = (np.round((lo + span * position) / grain) * grain).astype(np.float32)
    return values


def _condense(sample: F32) -> tuple[F64, F64]:
    """Few values and weights that stand for a sample: its extremes one by one, its middle in groups."""
    values = np.sort(sample).astype(np.float64)
    if values.size > 4 * _EXTREMES:
        middle = values[_EXTREMES:-_EXTREMES]
        size = max(1, middle.size // 256)
        starts = np.arange(0, middle.size, size)
        counts = np.diff(np.append(starts, middle.size))
        means = np.add.reduceat(middle, starts) / counts
        ends = np.ones(_EXTREMES)
        values = np.concatenate([values[:_EXTREMES], means, values[-_EXTREMES:]])
        weights = np.concatenate([ends, counts, ends])
    else:
        weights = np.ones(values.size)
    return values, weights / weights.sum()


def _spread_over(position: F64, amounts: F64, size: int) -> F64:
    """Sums at `size` equally spaced positions, row by row, each amount shared between its two neighbours."""
    rows = position.shape[0]
    t = position * (size - 1)
    k = np.minimum(t.astype(np.int64), size - 2)
    f = t - k
    k += np.arange(rows)[:, None] * size
    out = np.bincount(k.ravel(), (amounts * (1 - f)).ravel(), minlength=rows * size)
    out += np.bincount(k.ravel() + 1, (amounts * f).ravel(), minlength=rows * size)
    sums: F64 = out.reshape(rows, size).astype(np.float64, copy=False)
    return sums


@dataclass(frozen=True, eq=False)
class _Seen:
    """How window positions show in soft reads, for one mapper, channel and number of averaged planes."""

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

    def posterior_variance(self, position: F64, true: F64, weights: F64) -> F64:
        """Mean squared error of the posterior mean of `true`, of values written at `position` (clipped to [0, 1]).

        Parameters
        ----------
        position, true : ndarray, shape (s, n)
        weights : ndarray, shape (n,)

        Returns
        -------
        ndarray, shape (s,)
        """
        mass = _spread_over(position, np.broadcast_to(weights, position.shape), self.position.size)
        first = _spread_over(position, weights * true, self.position.size)
        step = self.knots[1] - self.knots[0]
        # einsum rather than a matrix product: BLAS threads cost more than they bring here, and sum in another order on
        # every machine.
        total, mean = (np.einsum("sp,kp->sk", part, self.density) for part in (mass, first))
        explained = np.sum(np.square(mean) / np.maximum(total, 1e-300), axis=1) * step
        error: F64 = np.maximum((np.square(true) * weights).sum(axis=1) - explained, 1e-14)
        return error


@functools.lru_cache(maxsize=64)
def _seen(mapper: Mapper, channel: Channel, planes: int, knots: int, positions: int) -> _Seen:
    position = np.linspace(0.0, 1.0, positions)
    mean, std = mapper.response(position, PlaneParams(0.0, 1.0, Density()), channel)
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
    return _Seen(position, mean, variance, at, np.exp(log - scale), np.exp(log), not np.any(std))


def inverse(states: F64, position: F64, mean: F64) -> F64:
    """Positions whose mean response is `states`; follows the running extreme where a measured mean wiggles."""
    rising = mean if mean[-1] >= mean[0] else -mean
    wanted = states if mean[-1] >= mean[0] else -states
    envelope = np.maximum.accumulate(rising)
    keep = np.append(True, np.diff(envelope) > 0)
    found: F64 = np.interp(wanted, envelope[keep], position[keep])
    return found
