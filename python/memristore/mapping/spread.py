"""One value in two cells: a curve through the square of their two states (Shannon-Kotel'nikov map 1:2)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from memristore import _core
from memristore.devices.moments import Channel
from memristore.mapping.axis import Axis, axis
from memristore.mapping.companded import EXPONENTS
from memristore.mapping.density import Density
from memristore.mapping.mapper import F32, F64, SAMPLE, Mapper, PlaneParams
from memristore.streams import strided_sample

#: Curves by name: rows to and fro over the whole square, or two spirals of Archimedes in the disc within it.
CURVES: Final = ("rows", "spiral")
_MOST_ARMS: Final = 64
#: Knots of the tables from values to positions; these are rounded to this share of the range, so that machines agree.
_KNOTS: Final = 8193
_GRAIN: Final = 2.0**-20
# A curve is nowhere faster than this many times where values are rarest.
_SLOWEST: Final = 1e-3
# Noise reaches this far, in steps; decoding tables have knots at these steps.
_TAILS: Final = 4.75
_STEP: Final = 1.0 / 3.0
# The search begins with arms this far apart, at the cube root of the density; windows grow by this factor.
_APART: Final = 6.5
_START: Final = 5
_FACTOR: Final = 2.0**0.25


@dataclass(frozen=True)
class PlaneCurve:
    """A curve through a square: its side information.

    Parameters
    ----------
    kind : {"rows", "spiral"}
    arms : int
        Rows, or arms that a diameter of the disc meets.
    exponent : int
        Number of the power of the density that the speed along the curve follows inversely.
    """

    kind: str
    arms: int
    exponent: int

    def to_params(self) -> PlaneParams:
        """Pack into the parameters of a write."""
        sign = 1.0 if self.kind == CURVES[0] else -1.0
        return PlaneParams(sign * self.arms, 1.0, Density().with_curve(self.exponent))

    @classmethod
    def from_params(cls, params: PlaneParams) -> PlaneCurve:
        """Unpack; any parameters give a curve, since bit errors happen."""
        arms = int(min(max(abs(params.lo), 1.0), _MOST_ARMS))
        return cls(CURVES[0] if params.lo >= 0 else CURVES[1], arms, max(params.density.curve, 1))

    def points(self, width: float, height: float) -> F64:
        """Corners of the curve in a rectangle, shape (k, 2)."""
        if self.kind == CURVES[0]:
            rows = np.linspace(0.0, height, self.arms) if self.arms > 1 else np.array([0.5 * height])
            ends = np.where(np.arange(self.arms)[:, None] % 2 == 0, [0.0, width], [width, 0.0])
            return np.stack([ends.reshape(-1), np.repeat(rows, 2)], axis=1)
        turn = 0.5 * math.pi * self.arms
        angle = np.linspace(0.0, turn, 48 * self.arms + 2)
        arm = (angle / turn)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        both = np.concatenate([-arm[::-1], arm[1:]])
        out: F64 = 0.5 * (1.0 + both) * np.array([width, height])
        return out


@dataclass(frozen=True, eq=False)
class Joint:
    """Two cells of a symbol, `copies` times each, on one device."""

    mapper: Mapper
    channel: Channel
    copies: tuple[int, int]

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The two coordinates."""
        return axis(self.mapper, self.channel, self.copies[0]), axis(self.mapper, self.channel, self.copies[1])

    def places(self, params: PlaneParams, curve: PlaneCurve) -> tuple[F32, F32]:
        """Tables of both window positions against the value, at equal steps of the window."""
        start, stop, density = params.density.normalised(params.lo, params.hi)
        form = PlaneParams(start, stop - start, density.with_curve(0))
        return _places(self.mapper, self.channel, self.copies, form, curve)

    def encode(self, values: F32, params: PlaneParams, curve: PlaneCurve, threads: int = 0) -> tuple[F32, F32]:
        """Return the window positions of both coordinates, each shape (n,)."""
        offset = values if params.lo == 0.0 else values - np.float32(params.lo)
        out = []
        for table in self.places(params, curve):
            out.append(np.empty_like(values))
            _core.lookup(offset, table, 0.0, (table.size - 1) / params.width, False, out[-1], threads)
        return out[0], out[1]

    def fit(self, values: F32, kind: str, threads: int = 0) -> tuple[PlaneParams, PlaneCurve]:
        """Choose window, prior and curve by the error predicted for values, shape (n,)."""
        low, high, _ = _core.extremes(values, threads)
        shorter = min(part.length for part in self.axes)
        arms = min(max(round(shorter / _APART) + 1, 2), _MOST_ARMS)
        # Noise along a curve of so many arms is that of the averaged reads of their number squared.
        window = self.mapper.window(values, self.channel, arms * arms, "inverse", 1.0, threads)
        if window.constant:
            return window, PlaneCurve(kind, arms, _START)
        sample = np.sort(strided_sample(values, SAMPLE))
        return _Search(self, sample, (low, high), values.size, window, kind).best(arms)


class _Search:
    """The choice of window and curve for one sample, in rising order, of `n` values between `ends`."""

    def __init__(
        self, joint: Joint, sample: F32, ends: tuple[float, float], n: int, window: PlaneParams, kind: str
    ) -> None:
        self.joint, self.sample, self.ends, self.n, self.kind = joint, sample, ends, n, kind
        self.windows: dict[int, PlaneParams] = {0: window}
        self.errors: dict[tuple[int, int, int], float] = {}

    def best(self, arms: int) -> tuple[PlaneParams, PlaneCurve]:
        here, moved = (arms, _START, 0), True
        while moved:
            moved = False
            for step in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                there = (here[0] + step[0], here[1] + step[1], here[2] + step[2])
                while self._error(*there) < self._error(*here):
                    here, moved = there, True
                    there = (here[0] + step[0], here[1] + step[1], here[2] + step[2])
        return self._window(here[2]), PlaneCurve(self.kind, here[0], here[1])

    def _window(self, reach: int) -> PlaneParams:
        if reach not in self.windows:
            first = self.windows[0]
            middle = min(max(first.density.middle(first.lo, first.hi), first.lo), first.hi)
            lo = max(middle - _FACTOR**reach * (middle - first.lo), self.ends[0])
            hi = min(middle + _FACTOR**reach * (first.hi - middle), self.ends[1])
            plain = self.joint.mapper.frame(lo, hi)
            if plain.constant:
                return first
            self.windows[reach] = dataclasses.replace(plain, density=Density.fit(self.sample, plain.lo, plain.hi))
        return self.windows[reach]

    def _error(self, arms: int, exponent: int, reach: int) -> float:
        if not (2 <= arms <= _MOST_ARMS and 1 <= exponent < len(EXPONENTS) and abs(reach) <= 8):
            return math.inf
        key = (arms, exponent, reach)
        if key not in self.errors:
            self.errors[key] = self._predicted(self._window(reach), PlaneCurve(self.kind, arms, exponent))
        return self.errors[key]

    def _predicted(self, params: PlaneParams, curve: PlaneCurve) -> float:
        lo, hi = params.lo, params.hi
        below, above = self.sample[self.sample < lo], self.sample[self.sample > hi]
        clipped = np.square(lo - below, dtype=np.float64).sum() + np.square(above - hi, dtype=np.float64).sum()
        ends = max(lo - self.ends[0], 0.0) ** 2 + max(self.ends[1] - hi, 0.0) ** 2
        noise = _expected_error(self.joint, params, curve)
        return params.width**2 * noise + float(clipped) / self.sample.size + ends / self.n


@functools.lru_cache(maxsize=128)
def _places(
    mapper: Mapper, channel: Channel, copies: tuple[int, int], form: PlaneParams, curve: PlaneCurve
) -> tuple[F32, F32]:
    first, second = axis(mapper, channel, copies[0]), axis(mapper, channel, copies[1])
    corners = curve.points(first.length, second.length)
    along = np.append(0.0, np.cumsum(np.sqrt(np.square(np.diff(corners, axis=0)).sum(axis=1))))
    position = np.linspace(0.0, 1.0, _KNOTS)
    energy = form.density.energy(position, form.lo, form.hi)
    speed = np.maximum(np.exp(EXPONENTS[curve.exponent] * (energy.min() - energy)), _SLOWEST)
    share = np.append(0.0, np.cumsum(0.5 * (speed[1:] + speed[:-1])))
    at = share * (along[-1] / share[-1])
    tables = []
    for part, coordinate in ((first, corners[:, 0]), (second, corners[:, 1])):
        exact = part.places(np.interp(at, along, coordinate))
        tables.append((np.round(exact / _GRAIN) * _GRAIN).astype(np.float32))
    return tables[0], tables[1]


@dataclass(frozen=True, eq=False)
class _Path:
    """Points along a curve: window positions of the value, their prior, and mean and spread of both reads there.

    `distance`, `mean` and `std` have a row for each coordinate.
    """

    position: F64
    mass: F64
    first: F64
    distance: F64
    mean: F64
    std: F64


def _path(axes: Sequence[Axis], tables: Sequence[F32], params: PlaneParams, prior: Density, apart: float) -> _Path:
    """Points at equal steps of the window, in the plane no further than about `apart` from their neighbours."""
    hops = [
        np.abs(np.diff(np.interp(table, part.position, part.distance))).max()
        for part, table in zip(axes, tables, strict=True)
    ]
    points = int(min(max(float(max(hops)) * (_KNOTS - 1) / apart, 256), _KNOTS - 1)) + 1
    mass, first = prior.masses(points, params.lo, params.hi)
    total = mass.sum()
    mass, first = mass / total, first / total
    position = np.linspace(0.0, 1.0, points)
    # A prior that underflows would leave far reads without any candidate.
    lift = np.maximum(1e-12 * mass.max() - mass, 0.0)
    mass, first = mass + lift, first + lift * position
    places = [np.interp(position, np.linspace(0.0, 1.0, table.size), table) for table in tables]
    distance = np.stack([np.interp(x, part.position, part.distance) for part, x in zip(axes, places, strict=True)])
    moments = [part.moments(x) for part, x in zip(axes, places, strict=True)]
    return _Path(position, mass, first, distance, *(np.stack(both) for both in zip(*moments, strict=True)))


def _nodes(part: Axis, step: float) -> tuple[F64, F64, F64]:
    """Equally spaced distances, the reads there, and the range of reads that each stands for."""
    node = np.arange(-_TAILS, part.length + _TAILS + step, step)
    read = part.reads(node)
    return node, read, np.abs(np.gradient(read))


def _expected_error(joint: Joint, params: PlaneParams, curve: PlaneCurve) -> float:
    """Squared error that noise is expected to leave, in squared widths of the window; clipping is not its doing."""
    axes, tables = joint.axes, joint.places(params, curve)
    step = min(max(max(part.length for part in axes) / 60.0, 0.5), 0.8)
    path = _path(axes, tables, params, params.density, 1.2 * step)
    reach = np.arange(-math.ceil(_TAILS / step), math.ceil(_TAILS / step) + 1)
    weights, where, sizes = [], [], []
    for part, distance, mean, std in zip(axes, path.distance, path.mean, path.std, strict=True):
        node, read, share = _nodes(part, step)
        # Nodes around each point only: the others never see it.
        near = np.clip(np.rint((distance[:, None] + _TAILS) / step).astype(np.intp) + reach, 0, node.size - 1)
        z = (read[near] - mean[:, None]) / std[:, None]
        weight = np.exp(-0.5 * z * z) * share[near] / (std[:, None] * math.sqrt(2.0 * math.pi))
        # Clipped indices repeat the end: it counts once.
        weight[:, 1:][near[:, 1:] == near[:, :-1]] = 0.0
        weights.append(weight)
        where.append(near)
        sizes.append(node.size)
    index = (where[0][:, :, None] * sizes[1] + where[1][:, None, :]).reshape(-1)
    value = path.mass[:, None, None] * weights[0][:, :, None] * weights[1][:, None, :]
    sums = []
    for _ in range(3):
        sums.append(np.bincount(index, value.reshape(-1), sizes[0] * sizes[1]))
        value = value * path.position[:, None, None]
    mass, first, second = sums
    return float(np.maximum(second - first * first / np.maximum(mass, np.finfo(np.float64).tiny), 0.0).sum())


@dataclass(frozen=True, eq=False)
class Surface:
    """A decoding table over the reads of two coordinates, straight between knots that are equally spaced in noise."""

    values: F32
    rulers: tuple[tuple[F32, float, float], tuple[F32, float, float]]

    def __call__(self, first: F32, second: F32, threads: int = 0) -> F32:
        """Decode soft reads, each shape (n,)."""
        at = [np.empty_like(first), np.empty_like(second)]
        for soft, (table, start, inv_step), index in zip((first, second), self.rulers, at, strict=True):
            _core.lookup(soft, table, start, inv_step, False, index, threads)
        _core.lookup_plane(at[0], at[1], self.values.reshape(-1), self.values.shape[1], at[0], threads)
        return at[0]


@functools.lru_cache(maxsize=32)
def _surface(
    mapper: Mapper, channel: Channel, copies: tuple[int, int], params: PlaneParams, curve: PlaneCurve, seen: Channel,
    prior: Density,
) -> Surface:  # fmt: skip
    axes = (axis(mapper, seen, copies[0]), axis(mapper, seen, copies[1]))
    path = _path(axes, Joint(mapper, channel, copies).places(params, curve), params, prior, 1.2 * _STEP)
    nodes, weights = [], []
    for part, mean, std in zip(axes, path.mean, path.std, strict=True):
        node, read, _ = _nodes(part, _STEP)
        z = (read[:, None] - mean) / std
        weights.append(np.exp(-0.5 * z * z) / std)
        nodes.append(node)
    along, across = weights[0], np.ascontiguousarray(weights[1].T)
    mass = (along * path.mass) @ across
    position = ((along * path.first) @ across) / np.maximum(mass, np.finfo(np.float64).tiny)
    grain = params.width * _GRAIN
    values: F32 = (np.round((params.lo + params.width * position) / grain) * grain).astype(np.float32)
    return Surface(values, (axes[0].ruler(nodes[0]), axes[1].ruler(nodes[1])))


def surface(joint: Joint, params: PlaneParams, curve: PlaneCurve, seen: Channel, decoder: str) -> Surface:
    """Decoding table for reads of a channel: posterior means, under a flat prior if `decoder` is not ``"mmse"``."""
    plain = dataclasses.replace(params, followed=False)
    prior = params.density if decoder == "mmse" else Density()
    return _surface(joint.mapper, joint.channel, joint.copies, plain, curve, seen, prior)
