"""A replay buffer: what is written comes back aged, in its type, by index; cells count; bad input is named."""

from __future__ import annotations

import numpy as np
import pytest

import memristore as ms
from memristore.errors import SpecError, TensorError

_RNG = np.random.default_rng(8)
IMAGES = np.clip(
    128 + 60 * np.sin(np.arange(16)[:, None] / 3 + _RNG.normal(size=(30, 1, 1))) + 20 * _RNG.normal(size=(30, 16, 16)),
    0,
    255,
).astype(np.uint8)
LABELS = _RNG.integers(0, 10, 30)


def test_bounded_images_on_ideal_cells_keep_the_bound_and_labels() -> None:
    spec = ms.StorageSpec(device="ideal", compress=(ms.ErrorBounded(bound=5, relative=False),))
    buffer = ms.Replay(spec, seed=1)
    buffer.write(IMAGES[:20], LABELS[:20])
    buffer.write(IMAGES[20:], LABELS[20:], now="1 day")
    assert len(buffer) == 30
    samples, labels = buffer.read(now="2 days")
    assert samples.dtype == np.uint8
    assert np.abs(samples.astype(int) - IMAGES).max() == 5
    np.testing.assert_array_equal(labels, LABELS)
    some, marks = buffer.read(now="2 days", indices=[25, 3, 3])
    np.testing.assert_array_equal(some, samples[[25, 3, 3]])
    assert marks is not None
    np.testing.assert_array_equal(marks, LABELS[[25, 3, 3]])


def test_less_quality_takes_fewer_cells_and_analog_samples_age() -> None:
    cells = {}
    for sdr in (10.0, 25.0):
        spec = ms.StorageSpec(compress=(ms.RateDistortion(sdr=sdr),), retention="1 year")
        buffer = ms.Replay(spec, seed=2)
        buffer.write(IMAGES)
        cells[sdr] = buffer.cells_per_value
        back, labels = buffer.read(now="1 year")
        assert labels is None
        error = np.square(back.astype(float) - IMAGES).mean()
        # Rounding to integers adds 1/12 at most.
        assert 10 * np.log10(IMAGES.var() / error) == pytest.approx(sdr, abs=0.4)
    assert cells[10.0] < 0.6 * cells[25.0]
    analog = ms.Replay(ms.StorageSpec(retention="1 year"), seed=2)
    analog.write(IMAGES)
    fresh, old = (analog.read(now=t)[0].astype(float) for t in (0.0, "10 years"))
    assert np.square(fresh - IMAGES).mean() < np.square(old - IMAGES).mean()
    assert not np.array_equal(analog.read(event=1)[0], analog.read()[0])
    np.testing.assert_array_equal(analog.read()[0], analog.read()[0])


def test_features_of_other_types() -> None:
    features = _RNG.normal(size=(12, 7)).astype(np.float16)
    buffer = ms.Replay(ms.StorageSpec(device="ideal", compress=(ms.ErrorBounded(bound=0.05),)), seed=0)
    buffer.write(features, labels=features[:, 0] > 0)
    samples, labels = buffer.read()
    assert samples.dtype == np.float16
    assert np.abs(samples.astype(float) - features).max() <= 0.05 * np.ptp(features.astype(float))
    np.testing.assert_array_equal(labels, features[:, 0] > 0)


def test_errors() -> None:
    spec = ms.StorageSpec(device="ideal")
    buffer = ms.Replay(spec, seed=0)
    with pytest.raises(TensorError, match="empty"):
        buffer.read()
    buffer.write(IMAGES, LABELS, now=10.0)
    for samples, labels in (
        (IMAGES[:, :5], LABELS),
        (IMAGES.astype(np.float32), LABELS),
        (IMAGES, None),
        (IMAGES, LABELS[:3]),
        (IMAGES, LABELS.astype(float)),
        (np.float32(1), None),
        (np.full((3, 16, 16), np.nan), None),
        (IMAGES[:0], LABELS[:0]),
    ):
        with pytest.raises(TensorError):
            buffer.write(samples, labels, now=11.0)
    assert len(buffer) == 30
    with pytest.raises(SpecError, match="before"):
        buffer.write(IMAGES, LABELS, now=5.0)
    with pytest.raises(SpecError, match="before"):
        buffer.read(now=5.0)
    for bad in ([30], [-1], [0.5], [[1]]):
        with pytest.raises(TensorError, match="indices"):
            buffer.read(now=10.0, indices=bad)
    assert buffer.read(now=10.0, indices=[])[0].shape == (0, 16, 16)
    with pytest.raises(SpecError):
        ms.Replay({"device": "ideal"}, seed=0)
    with pytest.raises(SpecError):
        ms.Replay(spec, seed=-1)
