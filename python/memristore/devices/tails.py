"""Distribution of a read, given the target, with tails that stay right far below 1e-12: what bits are sized by."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from memristore.devices.device import Device
from memristore.devices.moments import one_shot

F64 = npt.NDArray[np.float64]

#: Bins over all states that a cell may be read in, for single reads and for the mean of several.
BINS: Final[int] = 1024
BINS_OF_MEANS: Final[int] = 512
_REACH: Final[float] = 8.0
# Programmed states stand at nodes, as many to a standard deviation of the write.
_NODES_PER_SPREAD: Final[float] = 6.0
_FINEST: Final[float] = 1.0 / 500.0
# Their widths against the distance of neighbours: narrower ones would leave gaps.
_NODE_WIDTH: Final[float] = 0.5
# The drift exponent's normal density is a sum of narrower ones, this far apart and this wide (exact to 1e-8), out to
# _DRIFT_REACH. Drift by a factor skews each of them; a small step keeps that small.
_DRIFT_STEP: Final[float] = 0.25
_DRIFT_REACH: Final[float] = 10.0
# Spreads of a part beyond which it counts for nothing (1e-50).
_FADE: Final[float] = 15.0
# The same two where rare reads do not matter: what they leave out has a probability below 1e-6.
_DRIFT_REACH_NEAR: Final[float] = 5.0
_FADE_NEAR: Final[float] = 6.0
# Share of the largest mass below which a mass counts for nothing in a mean.
_FAINT: Final[float] = 1e-45


def _normal_masses(bounds: F64, mean: F64, spread: F64) -> F64:
    """Mass of normal densities, shape (n,), between bounds; the first and last bin hold what lies beyond: (n, bins)."""
    z = (bounds[1:-1] - mean[:, None]) / spread[:, None]
    tail = ndtr(-np.abs(z))
    left = z < 0
    # Differences of the smaller tail keep the digits of both tails.
    same = left[:, 1:] == left[:, :-1]
    inner = np.where(same, np.abs(tail[:, 1:] - tail[:, :-1]), 1.0 - tail[:, 1:] - tail[:, :-1])
    first = np.where(left[:, :1], tail[:, :1], 1.0 - tail[:, :1])
    last = np.where(left[:, -1:], 1.0 - tail[:, -1:], tail[:, -1:])
    return np.concatenate([first, inner, last], axis=1)


@dataclass(frozen=True, eq=False)
class ReadKernel:
    """What ageing and reading make of a programmed state.

    Parameters
    ----------
    device : Device
    at : float
        Seconds after programming.
    edges : ndarray, shape (bins + 1,)
        Equally spaced edges of the bins of a read; the first and the last bin hold what lies beyond.
    bounds : ndarray, shape (nodes + 1,)
        Edges of the programmed states that each node stands for, likewise.
    matrix : ndarray, shape (nodes, bins), or None
        P(read in bin | programmed at node); None: every state is read as it was programmed.
    stuck : ndarray, shape (bins,)
        P(stuck and read in bin).
    """

    device: Device
    at: float
    edges: F64
    bounds: F64
    matrix: F64 | None
    stuck: F64

    def of_weights(self, weight: F64) -> F64:
        """Reads of cells whose programmed states have these masses, shape (n, nodes): (n, bins)."""
        return weight if self.matrix is None else np.asarray(np.einsum("...k,kb->...b", weight, self.matrix))

    def of_targets(self, x: F64) -> F64:
        """Reads of one-shot writes of targets, shape (n,): (n, bins)."""
        mean, spread = self.device.response(x), np.hypot(self.device.write(x), self.device.cell(x))
        if self.matrix is not None:
            # Masses at nodes and the widths of nodes add to the variance: taken off here.
            nodes = 0.5 * (self.bounds[1:-2] + self.bounds[2:-1])
            step = np.interp(mean, nodes, np.diff(self.bounds[1:-1]))
            spread = np.sqrt(
                np.maximum(
                    np.square(spread) - (1.0 / 12.0 + _NODE_WIDTH**2) * np.square(step), 0.01 * np.square(spread)
                )
            )
        spread = np.maximum(spread, 1e-9 * (self.edges[-1] - self.edges[0]))
        return self.of_weights(_normal_masses(self.bounds, mean, spread))

    def of_states(self, states: F64) -> F64:
        """Reads of cells programmed to `states`, shape (n, samples), each row a sample of one target: (n, bins)."""
        where = np.searchsorted(self.bounds[1:-1], states, side="right")
        count = self.bounds.size - 1
        rows = np.arange(states.shape[0])[:, None] * count
        weight = np.bincount((where + rows).ravel(), minlength=states.shape[0] * count)
        return self.of_weights(weight.reshape(-1, count) / states.shape[1])

    def with_stuck(self, masses: F64) -> F64:
        """Mix in the cells that are stuck."""
        return masses * (1.0 - self.device.stuck_low - self.device.stuck_high) + self.stuck

    def mean_edges(self, copies: int) -> F64:
        """Edges of the bins of the mean of `copies` reads: narrower, as means spread less."""
        return np.linspace(self.edges[0], self.edges[-1], (self.edges.size - 1) * _finer(copies) + 1)

    def of_means(self, masses: F64, copies: int) -> F64:
        """Distribution of the mean of `copies` reads of independent cells, from that of one, shape (n, bins)."""
        if copies == 1:
            return masses
        bins, finer = masses.shape[1], _finer(copies)
        out = np.zeros((masses.shape[0], bins * finer))
        for k, single in enumerate(masses):
            held = np.flatnonzero(single > _FAINT * single.max())
            first, part = int(held[0]), single[held[0] : held[-1] + 1]
            total = part
            for _ in range(copies - 1):
                total = np.convolve(total, part)
            # Sum k of bin numbers stands for the mean (k / copies + 1 / 2) steps; the two bins around it share it.
            position = (first * copies + np.arange(total.size)) * (finer / copies) + 0.5 * (finer - 1)
            low = np.minimum(position.astype(np.int64), out.shape[1] - 2)
            upper = position - low
            out[k] = np.bincount(low, total * (1.0 - upper), out.shape[1])
            out[k] += np.bincount(low + 1, total * upper, out.shape[1])
        return out


def _finer(copies: int) -> int:
    return 1 << math.ceil(0.5 * math.log2(copies))


def _edges(device: Device, at: float, bins: int) -> F64:
    seen = one_shot(device, at)
    stuck = device.stuck_states or device.state_range
    ends = [float((seen.mean - _REACH * seen.std).min()), float((seen.mean + _REACH * seen.std).max()), *stuck]
    low, high = np.clip([min(ends), max(ends)], *device.clip)
    if not high > low:
        high = low + 1.0
    return np.linspace(low, high, bins + 1)


def _nodes(device: Device, finest: float) -> F64:
    """Programmed states: a sixth of the spread of a write apart, or `finest` if that is less."""
    low, high = device.state_range
    x = np.linspace(0.0, 1.0, 1025)
    mean = device.response(x)
    spread = np.maximum(np.hypot(device.write(x), device.cell(x)), _FINEST * (high - low))
    start, stop = float((mean - _REACH * spread).min()), float((mean + _REACH * spread).max())
    start, stop = max(start, device.clip[0]), min(stop, device.clip[1])
    # Near the mean of a target its spread counts; from eight spreads on the distance from the mean.
    at = np.linspace(start, stop, 4097)
    keep = slice(None, None, 16)
    far = np.abs(at[:, None] - mean[keep]) / _REACH
    step = np.min(np.maximum(spread[keep], far), axis=1) / _NODES_PER_SPREAD
    step = np.where((at < low) | (at > high), step, np.minimum(step, finest))
    count = np.concatenate([[0.0], np.cumsum(0.5 * (1 / step[1:] + 1 / step[:-1]) * np.diff(at))])
    return np.interp(np.linspace(0.0, count[-1], math.ceil(count[-1]) + 1), count, at)


def _parts(device: Device, nodes: F64, at: float, reach: float) -> tuple[F64, F64, F64]:
    """Means, spreads (nodes, parts) and weights (parts,) of Gaussians: what a state is read as, given each node."""
    device = device.aged(at)
    low, high = device.state_range
    shift, growth = device.relaxation_at(at)
    age = device.log2_age(at)
    u = np.maximum((nodes - low) / (high - low), 0.0)
    state, width = nodes[:, None], np.zeros((nodes.size, 1))
    weight = np.ones(1)
    if age != 0 and (device.drift_mean or device.drift_std):
        z = np.zeros(1)
        if device.drift_std:
            z = np.arange(-reach, reach + _DRIFT_STEP, _DRIFT_STEP)
            weight = np.exp(-0.5 * z * z / (1.0 - _DRIFT_STEP**2))
            weight = weight / weight.sum()
        spread = device.drift_std(u)[:, None]
        nu = np.abs(device.drift_mean(u)[:, None] + spread * z)
        if device.domain == "conductance":
            skew = spread * (age * math.log(2.0) * _DRIFT_STEP)
            state = state * np.exp2(-nu * age) * np.exp(0.5 * np.square(skew))
            width = state * skew
        else:
            state = state + nu * (age * math.log10(2.0))
            width = np.broadcast_to(spread * (age * math.log10(2.0) * _DRIFT_STEP), state.shape)
    state = state + shift + growth * device.relaxation_shift(u)[:, None]
    read = (device.read_scale(at) * device.read(u))[:, None]
    variance = np.square(read * state if device.read_relative else read + np.zeros_like(state))
    variance = variance + np.square(growth * device.relaxation(u))[:, None]
    if device.drift_std:
        variance = variance + np.square(width)
    variance = variance + np.square(_NODE_WIDTH * np.gradient(state, axis=0))
    return np.clip(state, *device.clip), np.sqrt(variance), weight


def _mixtures(edges: F64, mean: F64, spread: F64, weight: F64, fade: float) -> F64:
    """Masses of the bins for each row of Gaussians, shape (nodes, parts): (nodes, bins)."""
    out = np.zeros((mean.shape[0], edges.size - 1))
    low, high = (mean - fade * spread).min(axis=1), (mean + fade * spread).max(axis=1)
    first = np.clip(np.searchsorted(edges, low) - 1, 0, edges.size - 2)
    last = np.clip(np.searchsorted(edges, high), first + 1, edges.size - 1)
    for node, (start, stop) in enumerate(zip(first, last, strict=True)):
        if stop - start == 1:
            out[node, start] = 1.0
        elif fade < _FADE:
            below = ndtr((edges[start + 1 : stop] - mean[node][:, None]) / spread[node][:, None])
            below = np.einsum("k,kb->b", weight, below)
            out[node, start:stop] = np.diff(below, prepend=0.0, append=1.0)
        else:
            parts = _normal_masses(edges[start : stop + 1], mean[node], spread[node])
            out[node, start:stop] = np.einsum("k,kb->b", weight, parts)
    return out


@functools.lru_cache(maxsize=32)
def read_kernel(
    device: Device, at: float, bins: int = BINS, finest: float = math.inf, tails: bool = True
) -> ReadKernel:
    """Tabulate what is read of every programmed state.

    Parameters
    ----------
    device : Device
    at : float
        Seconds after programming.
    bins : int
        Bins of a read.
    finest : float
        Largest step between programmed states within the device's range, where these spread less than one-shot writes.
    tails : bool
        Whether rare reads must be right; without them it takes a fourth of the time.

    Returns
    -------
    ReadKernel
    """
    edges = _edges(device, at, bins)
    given, device = device, device.aged(at)
    shift, growth = device.relaxation_at(at)
    ages = device.log2_age(at) != 0 and bool(device.drift_mean or device.drift_std)
    fluctuates = bool(device.read) or (bool(device.relaxation or device.relaxation_shift) and growth > 0)
    stuck = np.zeros(bins)
    low, high = device.state_range
    held = np.array(device.stuck_states or device.state_range)
    read = device.read_scale(at) * device.read(np.maximum((held - low) / (high - low), 0.0))
    spread = np.maximum(read * held if device.read_relative else read, 1e-9 * (edges[-1] - edges[0]))
    chance = np.array([device.stuck_low, device.stuck_high])
    if np.any(chance > 0):
        stuck = np.einsum("k,kb->b", chance, _normal_masses(edges, held, spread))
    if not ages and not fluctuates:
        return ReadKernel(given, at, edges, edges - shift, None, stuck)
    nodes = _nodes(device, finest)
    bounds = np.concatenate([[-math.inf], 0.5 * (nodes[1:] + nodes[:-1]), [math.inf]])
    mean, spread, weight = _parts(device, nodes, at, _DRIFT_REACH if tails else _DRIFT_REACH_NEAR)
    spread = np.maximum(spread, 1e-9 * (edges[-1] - edges[0]))
    matrix = _mixtures(edges, mean, spread, weight, _FADE if tails else _FADE_NEAR)
    return ReadKernel(given, at, edges, bounds, matrix, stuck)


def read_masses(device: Device, x: F64, at: float, copies: int = 1) -> tuple[F64, F64]:
    """Distribution of the mean of `copies` reads of cells written one-shot, stuck cells included.

    Parameters
    ----------
    device : Device
    x : ndarray, shape (n,)
        Targets.
    at : float
        Seconds after programming.
    copies : int
        Cells with the same target whose reads are averaged.

    Returns
    -------
    edges : ndarray, shape (bins + 1,)
        Equally spaced, state units; the first and the last bin hold what lies beyond.
    masses : ndarray, shape (n, bins)
        Probability of each bin. Small ones keep their digits: nothing is subtracted from 1 on the way.
    """
    kernel = read_kernel(device, at, BINS if copies == 1 else BINS_OF_MEANS)
    return kernel.mean_edges(copies), kernel.of_means(kernel.with_stuck(kernel.of_targets(x)), copies)
