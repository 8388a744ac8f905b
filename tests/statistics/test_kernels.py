"""Are the kernels' draws normal, independent, and of the published sizes?

Every test states its number of samples n, statistic, threshold, false-alarm rate and the smallest effect that it
catches. Keys are fixed, so a run gives the same verdict every time; the rates are those of choosing another key.
``Z`` = 7 standard errors: one comparison raises a false alarm in 2.6e-12 of all keys, a hundred in 2.6e-10.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from memristore import _core, devices
from oracle import bridge, cells, philox, published, samples
from oracle.curves import POLY, ZERO_CURVE, Curve, constant

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

Z = 7.0
KEY = 0x243F6A8885A308D3
CHUNK, CHUNKS = 1 << 20, 96
TIMES = {"1 s": 1.0, "1 day": 86400.0, "1 year": 365.25 * 86400.0}
TAILS = (4.0, 4.5, 5.0, 5.5)
BINS = 1400  # 0.01 wide over [-7, 7)


def draw(n: int, *, key: int = KEY, purpose: int = philox.USER, event: int = 0, first: int = 0) -> F64:
    out = np.empty(n, dtype=np.float32)
    _core.normals(key, purpose, event, first, out)
    return out.astype(np.float64)


class Normals:
    """Sums over 1e8 normals, gathered in one pass."""

    def __init__(self) -> None:
        self.n, self.powers, self.histogram = CHUNKS * CHUNK, np.zeros(5), np.zeros(BINS, dtype=np.int64)
        self.beyond, self.largest = dict.fromkeys(TAILS, 0), 0.0
        self.lag, self.pair, self.squares, self.across = 0.0, 0.0, 0.0, 0.0
        for chunk in range(CHUNKS):
            self._add(draw(CHUNK, first=chunk * CHUNK))

    def _add(self, z: F64) -> None:
        z2 = z * z
        self.powers[1:] += [z.sum(), z2.sum(), z2 @ z, z2 @ z2]
        self.histogram += np.bincount(((z + 7.0) * 100.0).astype(np.int64), minlength=BINS)
        size = np.abs(z)
        self.largest = max(self.largest, float(size.max()))
        for limit in TAILS:
            self.beyond[limit] += int(np.count_nonzero(size > limit))
        # Groups of 64 cells: four values of each of 16 blocks; values 0, 1 and 2, 3 are the Box-Muller pairs.
        value, square = z.reshape(-1, 4, 16), z2.reshape(-1, 4, 16) - 1.0
        self.lag += float(z[1:] @ z[:-1])
        self.pair += float(np.vdot(value[:, 0::2], value[:, 1::2]))
        self.squares += float(np.vdot(square[:, 0::2], square[:, 1::2]))
        self.across += float(np.vdot(value[:, :2], value[:, 2:]))


@pytest.fixture(scope="module")
def normals() -> Normals:
    return Normals()


def test_moments_of_normals(normals: Normals) -> None:
    """n = 1.0e8. Mean, variance, third and fourth moment against N(0, 1), each within Z standard errors.

    False alarms: 4 comparisons, 1.0e-11. Smallest effects: mean 7e-4, variance 1.0e-3, skew 1.8e-3 (as third moment
    2.7e-3), kurtosis 6.9e-3.
    """
    mean, square, third, fourth = normals.powers[1:] / normals.n
    for found, expected, variance in ((mean, 0, 1), (square, 1, 2), (third, 0, 15), (fourth, 3, 96)):
        assert abs(found - expected) < Z * np.sqrt(variance / normals.n)


def test_neighbours_and_box_muller_pairs_are_independent(normals: Normals) -> None:
    """n = 1.0e8 neighbouring cells, 5.0e7 pairs of a block. Correlation of neighbours, of cosine with sine, of their
    squares, and across the two pairs of one block, each within Z standard errors.

    False alarms: 4 comparisons, 1.0e-11. Smallest effects: correlation 7e-4 of neighbours, 1.0e-3 of pairs.
    """
    half = normals.n // 2
    assert abs(normals.lag) < Z * np.sqrt(normals.n)
    assert abs(normals.pair) < Z * np.sqrt(half)
    assert abs(normals.squares) < Z * np.sqrt(4.0 * half)  # the variance of (z^2 - 1)(y^2 - 1) is 4
    assert abs(normals.across) < Z * np.sqrt(half)


def test_tails_of_normals(normals: Normals) -> None:
    """n = 1.0e8. Number of |z| beyond 4, 4.5, 5 and 5.5 (expected 6377, 684, 58, 3.8), two-sided Poisson at 1e-11.

    False alarms: 4 comparisons, 8e-11. Smallest effects: 9 % at 4, 27 % at 4.5, a factor 2.1 at 5 and 6.1 at 5.5.
    Nothing may pass 6.6604, the largest radius of the layout.
    """
    for limit, seen in normals.beyond.items():
        expected = normals.n * special.erfc(limit / np.sqrt(2.0))
        assert stats.poisson.ppf(1e-11, expected) <= seen <= stats.poisson.isf(1e-11, expected), limit
    assert normals.largest <= np.sqrt(2 * np.log(2.0**32)) + 1e-5


def test_distribution_of_normals(normals: Normals) -> None:
    """n = 1.0e8 in bins of 0.01. Chi-square over the bins that expect 25 or more, at 1e-10; sup |F_n - F| at the bin
    edges, sqrt(n) D < 3.6 (Kolmogorov: 1.1e-11).

    False alarms: 1.1e-10. Smallest effects: bins off by 0.17 % (rms, weighted by their expectation); D = 3.6e-4.
    """
    edges = np.linspace(-7.0, 7.0, BINS + 1)
    expected = normals.n * np.diff(special.ndtr(edges))
    full = expected >= 25.0
    seen = np.append(normals.histogram[full], normals.histogram[~full].sum())
    wanted = np.append(expected[full], normals.n - expected[full].sum())
    assert np.sum((seen - wanted) ** 2 / wanted) < stats.chi2.isf(1e-10, full.sum())
    distance = np.abs(np.cumsum(normals.histogram) / normals.n - special.ndtr(edges[1:])).max()
    assert np.sqrt(normals.n) * distance < 3.6


STREAMS: dict[str, dict[str, int]] = {
    **{f"purpose {name}": {"purpose": number} for name, number in _core.PURPOSES.items() if name != "user"},
    "next event": {"event": 1},
    "event 256": {"event": 256},
    "last event": {"event": 2**32 - 1},
    "next key": {"key": KEY + 1},
    "next high key": {"key": KEY + 2**32},
    "top key bit": {"key": KEY ^ 2**63},
    "cells 2^32 on": {"first": 2**32},
    "cells 2^38 on": {"first": 2**38},
    "next group": {"first": 64},
}


@pytest.mark.parametrize("other", STREAMS)
def test_streams_are_independent(other: str) -> None:
    """n = 4.2e6. Correlation of two streams that differ in one thing, and of their squares, within Z standard errors.

    False alarms: 36 comparisons, 9e-11. Smallest effect: a correlation of 3.4e-3 (of squares 3.4e-3).
    """
    n = 1 << 22
    a, b = draw(n), draw(n, **STREAMS[other])
    assert abs(a @ b) < Z * np.sqrt(n)
    assert abs((a * a - 1) @ (b * b - 1)) < Z * np.sqrt(4.0 * n)


def agree(samples_: F64, mean: float, variance: float, fourth: float | None = None) -> float:
    """Largest deviation of mean and variance, in standard errors; `fourth` is the central moment (normal if None)."""
    n = samples_.size
    spread_of_square = 2.0 * variance**2 if fourth is None else fourth - variance**2
    of_mean = (samples_.mean() - mean) / np.sqrt(variance / n)
    of_variance = (np.mean((samples_ - mean) ** 2) - variance) / np.sqrt(spread_of_square / n)
    return float(max(abs(of_mean), abs(of_variance)))


def test_fault_rates() -> None:
    """n = 2.1e7. Cells stuck low (0.5 %), high (0.2 %), and stuck neighbours, within Z binomial standard errors; the
    cells that programming leaves at the stuck states must be just these.

    False alarms: 3 comparisons, 8e-12. Smallest effects: 2.2 % of the low rate, 3.4 % of the high, 22 % in pairs.
    """
    n, low, high = 20 << 20, 0.005, 0.002
    core = bridge.device(replace(STILL, p_stuck_lo=low, p_stuck_hi=high, stuck_lo=1.0, stuck_hi=24.0))
    codes = np.empty(n, dtype=np.uint8)
    _core.faults(core, KEY, 0, codes)
    for code, p in ((1, low), (2, high)):
        assert abs(np.count_nonzero(codes == code) - n * p) < Z * np.sqrt(n * p * (1 - p))
    pairs = np.count_nonzero((codes[1:] > 0) & (codes[:-1] > 0))
    assert abs(pairs - n * (low + high) ** 2) < Z * np.sqrt(n * (low + high) ** 2)
    state, x = np.empty(n, dtype=np.float32), np.full(n, 0.5, dtype=np.float32)
    _core.program(core, KEY, 0, 0, x, state)
    assert np.array_equal(state, np.choose(codes, np.array([MIDDLE, 1.0, 24.0], dtype=np.float32)))


N = 1 << 21
MIDDLE = 12.5
LINE = Curve(form=POLY, a=(0.0, 25.0), lo=0.0, hi=25.0)
STILL = cells.Device(response=LINE, inv_range=1 / 25, clip_lo=0.0, clip_hi=100.0)
STEADY = replace(
    STILL,
    write_std=constant(1.0),
    cell_std=constant(0.7),
    drift_mean=constant(0.02),
    drift_std=constant(0.03),
    relax_std=constant(0.4),
    read_std=constant(0.3),
)
PULSE = cells.Pulse(start=2.0, step=1.0, max_pulses=1)


def array(value: float) -> F32:
    return np.full(N, value, dtype=np.float32)


def programmed(device: cells.Device, event: int = 0) -> F64:
    out = array(0)
    _core.program(bridge.device(device), KEY, event, 0, array(0.5), out)
    return out.astype(np.float64)


def exponents(device: cells.Device, log2_age: float = 10.0) -> F64:
    out = array(0)
    _core.drift(bridge.device(device), bridge.time(cells.ReadTime(log2_age=log2_age)), KEY, 0, array(MIDDLE), out)
    return np.asarray(-np.log2(out.astype(np.float64) / MIDDLE) / log2_age)


def relaxed(device: cells.Device) -> F64:
    out, time = array(0), bridge.time(cells.ReadTime(relax_mean=-0.5, relax_scale=2.0))
    _core.relax(bridge.device(device), time, KEY, 0, array(MIDDLE), array(MIDDLE), out)
    return out.astype(np.float64)


def seen(device: cells.Device, purpose: int = philox.READ, event: int = 0) -> F64:
    out, time = array(0), bridge.time(cells.ReadTime(read_scale=3.0))
    _core.read(bridge.device(device), time, KEY, purpose, event, 0, array(MIDDLE), array(10.0), out)
    return out.astype(np.float64)


def pulsed(device: cells.Device, pulse: cells.Pulse) -> F64:
    """States after one pulse from 2 uS towards 12.5 uS."""
    out, pulses, failed = array(0), np.zeros(N, dtype=np.uint16), np.zeros(N, dtype=np.uint8)
    given = (bridge.device(device), bridge.pulse(pulse), KEY, 0, 0, array(0.5))
    _core.program_and_verify(*given, out, pulses, failed)
    return out.astype(np.float64)


FOLDED = published.folded_moments(0.02, 0.03)
#: Term -> (what it gives, how it is without the term, expected mean and variance).
TERMS: dict[str, tuple[Callable[[], F64], Callable[[], F64], float, float]] = {
    "write": (
        lambda: programmed(replace(STILL, write_std=constant(1.0))), lambda: programmed(STILL), MIDDLE, 1.0,
    ),
    "cell to cell": (
        lambda: programmed(STEADY), lambda: programmed(replace(STEADY, cell_std=ZERO_CURVE)), MIDDLE, 1.0 + 0.49,
    ),
    "drift spread": (
        lambda: exponents(STEADY), lambda: exponents(replace(STEADY, drift_std=ZERO_CURVE)), *FOLDED,
    ),
    "drift mean": (
        lambda: exponents(STEADY), lambda: exponents(replace(STEADY, drift_mean=ZERO_CURVE)), *FOLDED,
    ),
    "relaxation": (
        lambda: relaxed(STEADY), lambda: relaxed(replace(STEADY, relax_std=ZERO_CURVE)), MIDDLE - 0.5, 0.8**2,
    ),
    "read": (
        lambda: seen(STEADY), lambda: seen(replace(STEADY, read_std=ZERO_CURVE)), 10.0, 0.9**2,
    ),
    "verify read": (
        lambda: seen(STEADY, philox.VERIFY_READ), lambda: seen(replace(STEADY, read_std=ZERO_CURVE)), 10.0, 0.9**2,
    ),
    "relative read": (
        lambda: seen(replace(STILL, read_std=constant(0.03), read_relative=True)), lambda: seen(STILL), 10.0, 0.9**2,
    ),
    "verify noise": (
        lambda: pulsed(STILL, replace(PULSE, verify_std=0.5)), lambda: pulsed(STILL, PULSE), MIDDLE, 0.5**2,
    ),
    "verify and pulse noise": (
        lambda: pulsed(STILL, replace(PULSE, verify_std=0.5, noise=0.4)),
        lambda: pulsed(STILL, replace(PULSE, noise=0.4)), MIDDLE, 0.5**2 + 0.4**2,
    ),
    "pulse noise": (
        lambda: pulsed(STILL, replace(PULSE, noise=0.4, spread=0.1)),
        lambda: pulsed(STILL, replace(PULSE, spread=0.1)), MIDDLE, 0.4**2 + 1.05**2,
    ),
    "pulse spread": (
        lambda: pulsed(STILL, replace(PULSE, noise=0.4, spread=0.1)),
        lambda: pulsed(STILL, replace(PULSE, noise=0.4)), MIDDLE, 0.4**2 + 1.05**2,
    ),
    "verify delay": (
        lambda: pulsed(replace(STEADY, cell_std=ZERO_CURVE), replace(PULSE, log2_delay=1.0, verify_std=0.5)),
        lambda: pulsed(STEADY, replace(PULSE, verify_std=0.5)), *published.delayed_moments(0.02, 0.03, 1.0, 0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("term", TERMS)
def test_each_noise_term_has_its_size(term: str) -> None:
    """n = 2.1e6 per term. Mean and variance against the definition, within Z standard errors; and the same test must
    refuse the samples that lack the term, so no term can be lost unseen.

    False alarms: 26 comparisons, 7e-11. Smallest effects: mean 0.5 % of a standard deviation, variance 0.7 %
    (a standard deviation off by 0.34 %). Folding makes the exponent's fourth moment differ from normal: measured there.
    """
    make, without, mean, variance = TERMS[term]
    got = make()
    fourth = float(np.mean((got - mean) ** 4)) if "drift" in term else None
    assert agree(got, mean, variance, fourth) < Z
    assert agree(without(), mean, variance, fourth) > 4 * Z


def correlation(a: F64, b: F64) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_what_a_cell_keeps_and_what_is_drawn_anew() -> None:
    """n = 2.1e6. Two writes of the same cells share the cell-to-cell offset (correlation 0.49 / 1.49) and nothing else;
    exponents and relaxation are the same at any time; reads share nothing. Each within Z standard errors (4.9e-3).

    False alarms: 4 comparisons, 1e-11. Smallest effect: a correlation off by 4.9e-3.
    """
    limit = Z / np.sqrt(N)
    kept = 0.49 / 1.49
    assert abs(correlation(programmed(STEADY, 1), programmed(STEADY, 2)) - kept) < limit
    np.testing.assert_allclose(exponents(STEADY, 6.0), exponents(STEADY, 20.0), atol=2e-7)
    assert np.array_equal(relaxed(STEADY), relaxed(STEADY))
    assert abs(correlation(seen(STEADY, event=1), seen(STEADY, event=2))) < limit
    assert abs(correlation(seen(STEADY, event=1), seen(STEADY, philox.VERIFY_READ, 1))) < limit
    assert abs(correlation(relaxed(STEADY), seen(STEADY))) < limit


LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)
expected_moments = functools.cache(published.read_moments)


def life(device: _core.Device, time: _core.ReadTime, g: float, n: int) -> F64:
    out = np.empty(n, dtype=np.float32)
    x = np.full(n, g, dtype=np.float32)
    _core.program_age_read(device, time, KEY, 0, philox.READ, 0, 0, x, out)
    return out.astype(np.float64)


def deviation(device: _core.Device, time: _core.ReadTime, seconds: float, n: int = 1 << 21) -> float:
    """Largest deviation from the published formulas over the levels, in standard errors."""
    worst = 0.0
    for g in LEVELS:
        m1, m2, m3, m4 = expected_moments(g, seconds)
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        worst = max(worst, agree(life(device, time, g, n), m1, m2 - m1**2, fourth))
    return worst


@pytest.mark.parametrize("when", TIMES)
def test_published_moments_of_phase_change_memory(when: str) -> None:
    """n = 2.1e6 per level, 6 levels. Mean and variance of the read conductance against a quadrature of the published
    formulas, within Z standard errors.

    False alarms: 36 comparisons, 9e-11. Smallest effects: mean 0.5 % of a standard deviation, variance about 0.7 %.
    """
    device, time = bridge.device(samples.ibm_90nm()), bridge.time(samples.ibm_time(TIMES[when]))
    assert deviation(device, time, TIMES[when]) < Z


@pytest.mark.parametrize("when", TIMES)
def test_published_moments_of_the_shipped_device(when: str) -> None:
    """As above, for the device file that users get and its own reading of time: a wrong or swapped table is seen."""
    device = devices.get("pcm-ibm-90nm")
    assert deviation(device.core(), device.read_time(TIMES[when]), TIMES[when]) < Z


WRONG: dict[str, dict[str, Any]] = {
    "no write noise": {"write_std": ZERO_CURVE},
    "no drift": {"drift_mean": ZERO_CURVE, "drift_std": ZERO_CURVE},
    "no drift spread": {"drift_std": ZERO_CURVE},
    "no read noise": {"read_std": ZERO_CURVE},
    "drift tables swapped": {
        "drift_mean": samples.ibm_90nm().drift_std, "drift_std": samples.ibm_90nm().drift_mean,
    },
    "write and read tables swapped": {
        "write_std": samples.ibm_90nm().read_std, "read_std": samples.ibm_90nm().write_std,
    },
    "one coefficient 5 % off": {"write_std": replace(samples.ibm_90nm().write_std, a=(0.2635, 2.06, -1.1731))},
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_device_is_noticed(what: str) -> None:
    """n = 1.0e6 per level. The tests above must refuse a device that lacks a term or has two tables swapped (1 day)."""
    device, time = bridge.device(replace(samples.ibm_90nm(), **WRONG[what])), bridge.time(samples.ibm_time(86400.0))
    assert deviation(device, time, 86400.0, 1 << 20) > 2 * Z


@pytest.mark.parametrize("planes", [1, 2, 4])
def test_raw_bit_error_rate_of_stored_bits(planes: int) -> None:
    """n = 4.2e6 bits. Errors against the normal tail Q(d sqrt(planes) / sigma), d = 1.5, sigma = 1, within Z binomial
    standard errors.

    False alarms: 3 comparisons, 8e-12. Smallest effects: 1.3 % of the rate of one plane, 2.6 % of two, 9.3 % of four.
    """
    device = bridge.device(replace(STILL, write_std=constant(0.8), read_std=constant(0.6)))
    words, bits = samples.words(0, 1 << 16).view(np.uint8), np.arange(2, dtype=np.uint8)
    # Two levels: the second bin begins at 11.5.
    errors = _core.store_levels(
        device, None, bridge.time(cells.ReadTime()), KEY, 0, philox.READ, 0, 0, 1 << 23, planes, words, 1 << 10,
        np.array([0.4, 0.52], np.float32), bits, 1, 10.5, 1.0, np.zeros(0, np.uint8), 2, 1, bits,
        np.array([8, -8], np.int8), False, np.empty_like(words),
    )  # fmt: skip
    n, p = 8 * words.size, float(special.ndtr(-1.5 * np.sqrt(planes)))
    assert abs(errors - n * p) < Z * np.sqrt(n * p * (1 - p))
