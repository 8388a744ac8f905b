"""Rate-distortion functions: published values, closed forms, bounds, an oracle; and the sources they are of."""

from __future__ import annotations

import math

import numpy as np
import pytest

import memristore as ms
from memristore.limits import (
    SOURCES,
    Empirical,
    Gaussian,
    GeneralisedGaussian,
    Laplacian,
    Mixture,
    SpikeAndSlab,
    as_source,
    cells_for,
    distortion,
    efficiency,
    entropy_gain,
    from_db,
    opta,
    rate,
    sdr_db,
    shannon_lower_bound,
    zeros_apart,
)
from oracle.rate_distortion import blahut_point

WEIGHTS = Laplacian(std=0.02).sample(60_000, seed=5)
SPARSE = np.where(np.arange(60_000) % 10 == 0, WEIGHTS, 0.0)
SMOOTH = {
    "gaussian": Gaussian(std=2.0, centre=-1.0),
    "laplacian": Laplacian(),
    "peaky": GeneralisedGaussian(shape=0.5),
    "flat": GeneralisedGaussian(shape=8.0),
    "narrow and wide": Mixture(parts=(Gaussian(std=0.1), Gaussian()), weights=(0.7, 0.3)),
    "two hills": Mixture(parts=(Gaussian(centre=-3.0), Gaussian(centre=3.0)), weights=(0.5, 0.5)),
    "weights": Empirical.of(WEIGHTS),
}
SPIKY = {
    "pruned": SpikeAndSlab(zeros=0.9, slab="laplacian"),
    "half": SpikeAndSlab(zeros=0.5, slab=Gaussian(centre=1.0)),
    "sparse weights": Empirical.of(SPARSE),
    "sparse mixture": Mixture(parts=(SpikeAndSlab(zeros=0.5), Laplacian(std=0.1)), weights=(0.25, 0.75)),
    "quantised": Empirical.of(np.rint(WEIGHTS / 0.02)),
}
ALL = SMOOTH | SPIKY


@pytest.mark.parametrize(("sdr", "bits"), [(3.01, 0.415), (6.02, 0.903), (10, 1.561), (13, 2.058), (17, 2.720)])
def test_laplacian_values(sdr: float, bits: float) -> None:
    assert rate(Laplacian(), from_db(sdr)) == pytest.approx(bits, abs=0.01)


@pytest.mark.parametrize(("sdr", "bits"), [(3.01, 0.5), (6.02, 1.0), (10, 1.661), (13, 2.161), (17, 2.822)])
def test_gaussian_values(sdr: float, bits: float) -> None:
    """The formula, and Blahut's algorithm, which does not know it."""
    assert rate(Gaussian(), from_db(sdr)) == pytest.approx(bits, abs=0.01)
    assert rate(GeneralisedGaussian(shape=2.0), from_db(sdr)) == pytest.approx(sdr / 20 / math.log10(2), abs=0.003)


@pytest.mark.parametrize("sdr", [0.1, 0.5, 1, 2, 25, 40, 60])
def test_gaussian_at_low_and_high_rates(sdr: float) -> None:
    assert rate(GeneralisedGaussian(shape=2.0), from_db(sdr)) == pytest.approx(sdr / 20 / math.log10(2), abs=0.003)


@pytest.mark.parametrize(
    ("shape", "gain"), [(2.0, 0.0), (1.5, 0.014), (1.0, 0.104), (0.8, 0.207), (0.6, 0.420), (0.5, 0.615), (0.3, 1.53)]
)
def test_entropy_gain(shape: float, gain: float) -> None:
    source = GeneralisedGaussian(shape=shape, std=3.0, centre=1.0)
    assert entropy_gain(source) == pytest.approx(gain, abs=0.01)
    assert shannon_lower_bound(source, 1e-6) == pytest.approx(0.5 * math.log2(1e6) - gain, abs=0.01)


def test_pruned_values() -> None:
    """Shannon's entropy of the mask; the kept values on top; and what the exact limit saves."""
    for keep, bits in ((0.1, 0.469), (0.05, 0.286), (0.02, 0.141)):
        source = SpikeAndSlab(zeros=1 - keep)
        assert zeros_apart(source, 1.0) == pytest.approx(bits, abs=0.001)
        assert zeros_apart(source, 1e-3) == pytest.approx(bits + keep * 0.5 * math.log2(1e3), abs=0.001)
        assert rate(source, 0.5) < zeros_apart(source, 0.5) / 2
        assert rate(source, 1e-9) == pytest.approx(zeros_apart(source, 1e-9), abs=0.003)


def test_opta() -> None:
    assert opta(Gaussian(), 2.08, 1.0) == pytest.approx(12.5, abs=0.05)
    assert rate(Gaussian(), from_db(20)) == pytest.approx(3.32, abs=0.005)
    assert cells_for(Gaussian(), 20, 2.08) == pytest.approx(1.60, abs=0.005)
    assert efficiency(Gaussian(), 20, 2.08, 3.2) == pytest.approx(0.5, abs=0.002)
    assert opta(Laplacian(), 2.0, 2.0) == pytest.approx(opta(Laplacian(), 4.0, 1.0))
    assert opta(Laplacian(), 2.08, 1.0) > 13.1
    assert opta(Gaussian(), 0.0, 1.0) == 0.0
    assert opta(Gaussian(), math.inf, 1.0) == math.inf
    assert cells_for(Gaussian(), 20, 0.0) == math.inf
    assert sdr_db(from_db(17.0)) == pytest.approx(17.0)


@pytest.mark.parametrize("name", SMOOTH)
def test_between_the_bounds(name: str) -> None:
    source = SMOOTH[name]
    bits = np.array([rate(source, from_db(sdr)) for sdr in (0.5, 2, 5, 9, 14, 20, 30, 45)])
    floor = np.array([shannon_lower_bound(source, from_db(sdr)) for sdr in (0.5, 2, 5, 9, 14, 20, 30, 45)])
    roof = np.array([0.5, 2, 5, 9, 14, 20, 30, 45]) / 20 / math.log10(2)
    assert np.all(bits >= floor - 0.002)
    assert np.all(bits <= roof + 0.002)
    assert bits[-1] == pytest.approx(floor[-1], abs=0.002)


@pytest.mark.parametrize("name", ALL)
def test_falls_and_is_convex(name: str) -> None:
    source = ALL[name]
    errors = np.concatenate([np.geomspace(1e-3, 0.1, 4), np.linspace(0.2, 1.0, 6)])
    bits = np.array([rate(source, float(error)) for error in errors])
    assert bits[-1] == 0
    assert np.all(np.diff(bits) < 0.001)
    slopes = np.diff(bits) / np.diff(errors)
    # Points are exact to 0.001 bit, so that slopes of short steps are not.
    assert np.all(np.diff(slopes) > -0.004 / np.minimum(np.diff(errors)[1:], np.diff(errors)[:-1]))


@pytest.mark.parametrize("name", ALL)
def test_inverse(name: str) -> None:
    source = ALL[name]
    most = source.split().choice if source.split().rest is None else 7.0
    for bits in np.array([0.01, 0.2, 0.95]) * most:
        error = distortion(source, float(bits))
        assert 0 < error < 1
        assert rate(source, error) == pytest.approx(bits, abs=0.001)
    assert distortion(source, 0.0) == 1.0
    assert rate(source, 1.0) == rate(source, 2.0) == 0.0


@pytest.mark.parametrize("db", [0.0, 4.0, 9.0])
@pytest.mark.parametrize("points", [(-1.0, 1.0), (-1.0, 0.3, 3.0), tuple(range(-8, 9))])
def test_against_the_oracle(points: tuple[float, ...], db: float) -> None:
    """Sources of few values, whose reproductions may lie anywhere: a fine grid and a plain matrix."""
    places = np.array(points)
    masses = np.exp(-np.abs(places) / 2)
    masses /= masses.sum()
    source = Empirical(knots=(), levels=(), points=tuple(places.tolist()), masses=tuple(masses.tolist()))
    slope = 10 ** (db / 10) / (2 * source.variance)
    error, nats = blahut_point(places, masses, np.linspace(places[0], places[-1], 201), slope)
    assert rate(source, error / source.variance) == pytest.approx(nats / math.log(2), abs=0.005)


def test_values_that_repeat_need_their_entropy() -> None:
    source = Empirical.of(np.repeat([-1.0, 0.0, 2.0, 5.0], 50))
    assert rate(source, 0.0) == pytest.approx(2.0)
    assert rate(source, 1e-6) == pytest.approx(2.0, abs=1e-3)
    assert distortion(source, 2.0) == 0.0
    assert rate(Laplacian(), 0.0) == rate(SPIKY["pruned"], 0.0) == math.inf
    assert shannon_lower_bound(SPIKY["pruned"], 0.1) == 0.0
    assert shannon_lower_bound(Laplacian(), 0.0) == math.inf


@pytest.mark.parametrize("name", ALL)
def test_sources_agree_with_themselves(name: str) -> None:
    source = ALL[name]
    split = source.split()
    low, high = source.span(1e-9)
    x = np.linspace(low, high, 200_001)
    jumps = (split.masses * (x[:, None] >= split.points)).sum(axis=1)
    smooth = np.append(0.0, np.cumsum(0.5 * (source.density(x)[1:] + source.density(x)[:-1]) * np.diff(x)))
    assert np.allclose(smooth + jumps, source.cdf(x), atol=2e-3)
    assert source.cdf(np.array([low - 1, high]))[[0, 1]] == pytest.approx([0.0, 1.0], abs=1e-8)
    weight = np.gradient(x) * source.density(x)
    mean = weight @ x + split.masses @ split.points
    second = weight @ np.square(x) + split.masses @ np.square(split.points)
    assert mean == pytest.approx(source.mean, abs=2e-3 * math.sqrt(source.variance))
    assert second - mean**2 == pytest.approx(source.variance, rel=5e-3)
    if split.points.size:
        assert source.entropy == -math.inf
        assert entropy_gain(source) == math.inf
    else:
        positive = weight[source.density(x) > 0]
        log = np.log2(source.density(x)[source.density(x) > 0])
        assert -(positive @ log) == pytest.approx(source.entropy, abs=0.01)


@pytest.mark.parametrize("name", ALL)
def test_samples(name: str) -> None:
    """Kolmogorov-Smirnov: n = 20000, sqrt(n) D < 2.7, false alarms 1e-6 each; a shift by 0.05 std is caught."""
    source = ALL[name]
    values = source.sample(20_000, seed=7)
    assert np.array_equal(values[:100], source.sample(100, seed=7))
    assert not np.array_equal(values, source.sample(20_000, seed=8))
    distinct, counts = np.unique(values, return_counts=True)
    assert math.sqrt(20_000) * np.abs(np.cumsum(counts) / 20_000 - source.cdf(distinct)).max() < 2.7


def test_empirical_finds_what_repeats() -> None:
    source = Empirical.of(SPARSE.astype(np.float32))
    assert source.points == (0.0,)
    assert source.masses[0] == pytest.approx(0.9, abs=0.002)
    assert source == Empirical.of(SPARSE.astype(np.float32))
    assert source.variance == pytest.approx(SPARSE.var(), rel=0.05)
    assert entropy_gain(Empirical.of(WEIGHTS)) == pytest.approx(entropy_gain(Laplacian()), abs=0.02)
    assert rate(source, 0.1) == pytest.approx(rate(SPIKY["pruned"], 0.1), abs=0.01)
    assert len(Empirical.of(np.rint(WEIGHTS / 0.002)).knots) == 0
    # A type with few digits is no quantiser.
    coarse = (WEIGHTS.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    assert entropy_gain(Empirical.of(coarse[coarse != 0])) == pytest.approx(entropy_gain(Laplacian()), abs=0.03)
    few = Empirical.of([0.5, 0.25, 1.0])
    assert rate(few, 0.0) == pytest.approx(math.log2(3))


@pytest.mark.parametrize("name", ALL)
def test_dicts(name: str) -> None:
    source = ALL[name]
    assert as_source(source.to_dict()) == source
    assert SOURCES[source.name].from_dict(source.to_dict()) == source
    assert hash(source) == hash(as_source(source.to_dict()))


def test_errors() -> None:
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ms.SpecError, match="a distortion is relative to the variance"):
            rate(Laplacian(), wrong)
    with pytest.raises(ms.SpecError, match="bits must be"):
        distortion(Laplacian(), -1.0)
    with pytest.raises(ms.SpecError, match="cells_per_value must be"):
        opta(Laplacian(), 2.0, 0.0)
    with pytest.raises(ms.SpecError, match="shape must be"):
        GeneralisedGaussian(shape=0.1)
    with pytest.raises(ms.SpecError, match="std must be"):
        Gaussian(std=0.0)
    with pytest.raises(ms.SpecError, match="zeros must be"):
        SpikeAndSlab(zeros=1.0)
    with pytest.raises(ms.SpecError, match="no source is called 'cauchy'; there are empirical, gaussian"):
        SpikeAndSlab(slab="cauchy")
    with pytest.raises(ms.SpecError, match="weights must sum to 1"):
        Mixture(parts=("gaussian",), weights=(0.5,))
    with pytest.raises(ms.SpecError, match="a constant needs no cells"):
        Empirical.of(np.ones(100))
    with pytest.raises(ms.SpecError, match="finite values"):
        Empirical.of([1.0, math.nan])
    with pytest.raises(ms.SpecError, match="levels must rise from 0 to 1"):
        Empirical(knots=(0.0, 1.0), levels=(0.1, 1.0))
    with pytest.raises(ms.SpecError, match="must rise"):
        Empirical(knots=(1.0, 0.0))
    with pytest.raises(ms.SpecError, match="masses must be positive"):
        Empirical(points=(0.0,), masses=(2.0,))
