"""The search for windows, extremes and masses: what their numpy definitions say, alike on every instruction set."""

from __future__ import annotations

import math

import numpy as np
import pytest

from memristore import _core
from oracle import windows

POSITIONS, KNOTS = 129, 257
SOURCES = {
    "both signs": lambda rng, n: rng.laplace(size=n),
    "magnitudes": lambda rng, n: np.abs(rng.standard_normal(n)),
    "below zero": lambda rng, n: -np.abs(rng.standard_normal(n)) - 0.1,
    "about one": lambda rng, n: rng.normal(1.0, 0.1, n),
    "outlier": lambda rng, n: np.append(rng.standard_normal(n - 1), 50.0),
    "equal": lambda rng, n: np.append(np.full(n - 1, 0.5), 1.0),
}


def search(sample: np.ndarray, clip: float, symmetric: bool, posterior: bool) -> windows.Search:
    position, at = np.linspace(0, 1, POSITIONS), np.linspace(-0.5, 1.5, KNOTS)
    spread = 0.05 + 0.1 * position
    density = np.exp(-0.5 * np.square((at - position[:, None]) / spread[:, None])) / (spread[:, None] * 2.5066)
    return windows.Search(
        float(sample[0]), float(sample[-1]), 3.0 * sample.size, clip, 2.0, symmetric,
        np.square(spread), density if posterior else np.empty(0), float(at[1] - at[0]),
    )  # fmt: skip


def run(s: windows.Search, sample: np.ndarray) -> tuple[float, float, float]:
    return _core.best_window(
        sample,
        s.low,
        s.high,
        s.count,
        s.clip,
        s.clip_cost,
        s.symmetric,
        s.inverse_variance,
        s.density.reshape(-1),
        s.step,
    )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [2, 31, 128, 129, 575, 600, 9001])
def test_best_window_is_that_of_the_definition(source: str, n: int) -> None:
    sample = np.sort(SOURCES[source](np.random.default_rng(n), n).astype(np.float32))
    for clip in (0.0, math.inf, 2.5):
        for symmetric in (False, True):
            for posterior in (False, True):
                s = search(sample, clip, symmetric, posterior)
                lo, hi, error = windows.best_window(s, sample)
                found = run(s, sample)
                np.testing.assert_allclose(found, (lo, hi, error), rtol=1e-7, atol=1e-13 * (hi - lo) ** 2)


def test_every_instruction_set_finds_the_same() -> None:
    rng, before, seen = np.random.default_rng(5), _core.isa(), []
    sample = np.sort(rng.standard_normal(9001).astype(np.float32))
    powers, scales = rng.uniform(0, 30, 3 * 70), rng.uniform(0, 5, 3 * 7)
    try:
        for isa in _core.isa_available():
            _core.set_isa(isa)
            masses = np.empty(scales.size)
            _core.shape_masses(powers, scales, masses, 3)
            found = [run(search(sample, 0.0, False, posterior), sample) for posterior in (False, True)]
            seen.append((masses.tobytes(), found, _core.extremes(sample)))
    finally:
        _core.set_isa(before)
    assert all(item == seen[0] for item in seen)


@pytest.mark.parametrize("points", [1, 7, 64, 451])
def test_shape_masses(points: int) -> None:
    distance = np.abs(np.linspace(-3, 4, points) - 0.3)
    powers = np.array([distance**0.3, distance, distance**8])
    powers -= powers.min(axis=1, keepdims=True)
    scales = np.geomspace(0.01, 1e9, 3 * 5).reshape(3, 5)
    out = np.empty(scales.size)
    _core.shape_masses(powers.reshape(-1), scales.reshape(-1), out, 3)
    np.testing.assert_allclose(out.reshape(scales.shape), windows.shape_masses(powers, scales), rtol=1e-14)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000, 200_003])
@pytest.mark.parametrize("threads", [1, 3])
def test_extremes(n: int, threads: int) -> None:
    values = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    assert _core.extremes(values, threads) == (values.min(), values.max(), True)
    for bad in (np.nan, np.inf, -np.inf):
        for where in {0, n // 2, n - 1}:
            wrong = values.copy()
            wrong[where] = bad
            assert not _core.extremes(wrong, threads)[2]


@pytest.mark.parametrize("n", [0, 1, 8, 63, 64, 65, 1003])
def test_count_bits(n: int) -> None:
    data = np.random.default_rng(n).integers(0, 256, (n + 7) // 8, dtype=np.uint8)
    assert _core.count_bits(data, n) == np.unpackbits(data, count=n, bitorder="little").sum()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("n", [1, 16, 100, 70_001])
def test_partition_and_merge_in_place(n: int, share: float, isa: str) -> None:
    rng = np.random.default_rng(n)
    values = rng.standard_normal(n).astype(np.float32)
    threshold = float(np.quantile(np.abs(values), 1 - share)) if share < 1 else 0.0
    small, large, flags = values.copy(), np.empty(n, np.float32), np.empty((n + 7) // 8, np.uint8)
    count = _core.partition(small, threshold, small, large, flags)
    chosen = np.abs(values) > threshold
    np.testing.assert_array_equal(small[: n - count], values[~chosen])
    np.testing.assert_array_equal(large[:count], values[chosen])
    for first in (True, False):
        out = np.empty(n, np.float32)
        parts = [values[~chosen], values[chosen]]
        tail = parts[0 if first else 1]
        out[n - tail.size :] = tail
        parts[0 if first else 1] = out[n - tail.size :]
        _core.merge(flags, *parts, out)
        np.testing.assert_array_equal(out, values)


def test_wrong_arguments_are_refused() -> None:
    sample, variance = np.zeros(4, np.float32), np.ones(3)
    with pytest.raises(ValueError, match="low must lie below high"):
        _core.best_window(sample, 1.0, 1.0, 4, 0.0, 1.0, False, variance, np.empty(0), 1.0)
    with pytest.raises(ValueError, match="density"):
        _core.best_window(sample, 0.0, 1.0, 4, 0.0, 1.0, False, variance, np.empty(4), 1.0)
    with pytest.raises(ValueError, match="positions"):
        _core.best_window(sample, 0.0, 1.0, 4, 0.0, 1.0, False, np.ones(1), np.empty(0), 1.0)
    with pytest.raises(ValueError, match="holds no values"):
        _core.best_window(sample[:0], 0.0, 1.0, 4, 0.0, 1.0, False, variance, np.empty(0), 1.0)
    with pytest.raises(ValueError, match="rows"):
        _core.shape_masses(np.zeros(4), np.zeros(3), np.zeros(3), 3)
    with pytest.raises(ValueError, match="there are none"):
        _core.extremes(sample[:0])
