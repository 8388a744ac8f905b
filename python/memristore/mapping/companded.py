"""One cell per symbol, on a curve that gives common values more of the cell's range."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from memristore import _core
from memristore.devices.device import Device
from memristore.devices.moments import Channel, one_shot
from memristore.mapping.density import Density
from memristore.mapping.linear import Linear, check_clip, place, positions_to_targets
from memristore.mapping.mapper import COARSE, F32, F64, SAMPLE, Mapper, PlaneParams, judge, seen
from memristore.streams import strided_sample
from memristore.units import Time, parse_time

#: Powers of the density that a curve's slope may follow, by the number of the curve; curve 0 is linear.
EXPONENTS: Final = (math.nan, 0.0, 0.1, 0.18, 0.25, 0.32, 0.4, 0.55)
#: Knots of a curve; its targets are rounded to this share of the range, so that machines agree.
_KNOTS: Final[int] = 2049
_GRAIN: Final[float] = 2.0**-20
# A curve keeps this slope, relative to its steepest, where values are rarer: all positions stay apart.
_FLATTEST: Final[float] = 1e-3
# Spreads below this share of the range do not steepen a curve further.
_QUIETEST: Final[float] = 1e-4
# Reaches of a window, relative to that of the linear map: the factor between neighbours, and where the search begins.
_FACTOR: Final[float] = 2.0**0.25
_START: Final = (1, 5)
# A curve is taken for an error below this share of the linear map's.
_WORTH: Final[float] = 0.995


@dataclass(frozen=True, kw_only=True)
class Companded(Mapper):
    """Non-linear from the window to the device's mean state: steeper where values are common or cells are noisy.

    Parameters
    ----------
    clip : "auto", None or float
        As for ``linear``, which the choice of a curve starts from. With ``"auto"`` curve and window are chosen
        together by the error predicted for them; else the window is as for ``linear``.
    at : float or str
        Age of one-shot written cells for whose noise curves are made, whatever the retention time; encoder and decoder
        know it from the recipe.

    Notes
    -----
    Let t be the integral of d(mean state) / spread. Where noise is small, the mean squared error of a map t(v) is
    proportional to the integral of f(v) / t'(v)^2; over all maps onto one range of t the calculus of variations gives
    t' proportional to f^(1/3), the companding law of Panter and Dite (Proc. IRE 39, 1951). Where noise is not small,
    and for posterior means, other powers do better: seven are tried, as is the linear map, which is kept unless a curve
    is predicted to do better. The power takes three bits of a plane's side information; the density is that of the
    decoder's prior.
    """

    name: ClassVar[str] = "companded"
    clip: float | str | None = "auto"
    at: Time = "1 year"

    def __post_init__(self) -> None:
        check_clip(self.name, self.clip)
        parse_time(self.at)

    def targets(self, values: F32, params: PlaneParams, device: Device, threads: int = 0) -> list[F32]:
        if params.density.curve == 0:
            return [place(values, params.lo, params.width, device, threads)]
        table = _curve(device, parse_time(self.at), self.form(params))
        # Subtracted first: in a narrow window far from zero the product would cancel.
        offset = values if params.lo == 0.0 else values - np.float32(params.lo)
        out = np.empty_like(values)
        _core.lookup(offset, table, 0.0, (table.size - 1) / params.width, False, out, threads)
        return [out]

    def soft(self, reads: Sequence[F32]) -> F32:
        return reads[0]

    def response(self, position: F64, params: PlaneParams, channel: Channel) -> tuple[F64, F64]:
        if params.density.curve == 0:
            return channel.at_targets(positions_to_targets(position, channel.device))
        table = _curve(channel.device, parse_time(self.at), self.form(params))
        return channel.at_targets(np.interp(position, np.linspace(0.0, 1.0, table.size), table))

    def form(self, params: PlaneParams) -> PlaneParams:
        if params.density.curve == 0:
            return super().form(params)
        start, stop, density = params.density.normalised(params.lo, params.hi)
        return PlaneParams(start, stop - start, density)

    def window(
        self,
        values: F32,
        channel: Channel,
        planes: int = 1,
        decoder: str = "mmse",
        clip_cost: float = 1.0,
        threads: int = 0,
    ) -> PlaneParams:
        linear = super().window(values, channel, planes, decoder, clip_cost, threads)
        if linear.constant:
            return linear
        low, high, _ = _core.extremes(values, threads)
        sample = np.sort(strided_sample(values, SAMPLE))
        return _Search(self, sample, (low, high), values.size, channel, planes, decoder, clip_cost).best(linear)[0]

    def distortion(self, values: F32, channel: Channel, planes: int = 1, decoder: str = "mmse") -> float:
        sample = np.sort(strided_sample(values, SAMPLE))
        ends = (float(values.min()), float(values.max()))
        linear = super().window(values, channel, planes, decoder)
        if linear.constant:
            return 0.0
        return _Search(self, sample, ends, values.size, channel, planes, decoder, 1.0).best(linear)[1]

    @property
    def plain(self) -> Mapper:
        # Tried on four sources: the same thresholds within a step, and the same error, as with curves, 4 times as fast.
        return Linear(clip=self.clip)


class _Search:
    """The choice of curve and window for one sample, in rising order, of `n` values between `ends`."""

    def __init__(
        self, mapper: Companded, sample: F32, ends: tuple[float, float], n: int, channel: Channel, planes: int,
        decoder: str, clip_cost: float,
    ) -> None:  # fmt: skip
        self.mapper = mapper
        self.sample = sample
        self.ends = ends
        self.n = n
        self.channel = channel
        self.planes = planes
        self.decoder = decoder
        self.clip_cost = clip_cost
        self.windows: dict[int, PlaneParams] = {}
        self.errors: dict[tuple[int, int], float] = {}

    def best(self, linear: PlaneParams) -> tuple[PlaneParams, float]:
        """Return parameters of the least predicted error, and that error."""
        least = self._error(linear)
        reach, curve = _START if self.mapper.clip == "auto" else (0, _START[1])
        steps = ((1, 0), (-1, 0), (0, 1), (0, -1)) if self.mapper.clip == "auto" else ((0, 1), (0, -1))
        # The error has one valley: downhill until no neighbour lies lower.
        here, moved = self._tried(linear, reach, curve), True
        while moved:
            moved = False
            for more, other in steps:
                while (found := self._tried(linear, reach + more, curve + other)) < here:
                    here, reach, curve, moved = found, reach + more, curve + other, True
        if here < _WORTH * least:
            params = self._window(linear, reach)
            return dataclasses.replace(params, density=params.density.with_curve(curve)), here
        return linear, least

    def _tried(self, linear: PlaneParams, reach: int, curve: int) -> float:
        if not (1 <= curve < len(EXPONENTS) and abs(reach) <= 12):
            return math.inf
        if (reach, curve) not in self.errors:
            params = self._window(linear, reach)
            params = dataclasses.replace(params, density=params.density.with_curve(curve))
            self.errors[reach, curve] = self._error(params)
        return self.errors[reach, curve]

    def _window(self, linear: PlaneParams, reach: int) -> PlaneParams:
        """The linear map's window, enlarged about the middle of the density by a power of the factor."""
        if reach == 0:
            return linear
        if reach not in self.windows:
            middle = min(max(linear.density.middle(linear.lo, linear.hi), linear.lo), linear.hi)
            lo = middle - _FACTOR**reach * (middle - linear.lo)
            hi = middle + _FACTOR**reach * (linear.hi - middle)
            # No further than the values, or the linear map's window where that is wider still.
            plain = self.mapper.frame(max(lo, min(self.ends[0], linear.lo)), min(hi, max(self.ends[1], linear.hi)))
            self.windows[reach] = dataclasses.replace(plain, density=Density.fit(self.sample, plain.lo, plain.hi))
        return self.windows[reach]

    def _error(self, params: PlaneParams) -> float:
        found = seen(self.mapper, self.mapper.form(params), self.channel, self.planes, *COARSE)
        return judge(params, found, self.sample, self.ends, self.n, self.decoder, self.clip_cost)


@functools.lru_cache(maxsize=256)
def _curve(device: Device, at: float, form: PlaneParams) -> F32:
    """Targets at equally spaced window positions, for parameters that `Companded.form` returned."""
    x, length = _equalised(device, at)
    position = np.linspace(0.0, 1.0, _KNOTS)
    energy = form.density.energy(position, form.lo, form.hi)
    slope = np.maximum(np.exp(EXPONENTS[form.density.curve] * (energy.min() - energy)), _FLATTEST)
    share = np.append(0.0, np.cumsum(0.5 * (slope[1:] + slope[:-1])))
    found = np.interp(share / share[-1], length, x)
    table: F32 = (np.round(found / _GRAIN) * _GRAIN).astype(np.float32)
    return table


@functools.lru_cache(maxsize=64)
def _equalised(device: Device, at: float) -> tuple[F64, F64]:
    """Targets, and the share of the way from target 0 at each, in steps of the spread that reads have there."""
    # Equally spaced mean states, as the linear map has them at the write.
    x = positions_to_targets(np.linspace(0.0, 1.0, _KNOTS), device)
    mean, std = one_shot(device, at).at_targets(x)
    rising = mean if mean[-1] >= mean[0] else -mean
    envelope = np.maximum.accumulate(rising)
    std = np.maximum(std, _QUIETEST * (envelope[-1] - envelope[0]) + 1e-30)
    # Targets that age turns round keep a trace of length, so that targets stay a function of it.
    step = np.maximum(np.diff(envelope), 1e-6 * (envelope[-1] - envelope[0]) / _KNOTS + 1e-30)
    length = np.append(0.0, np.cumsum(step * 2.0 / (std[1:] + std[:-1])))
    return x, length / length[-1]
