"""What TensorRing promises besides the contracts: rings are found, sweeps help, bent ones reach further."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from memristore.compress import TensorRing
from memristore.compress.ring import SLOPES, axes_of, contract, fit_ring
from memristore.errors import SpecError
from memristore.streams import AnalogStream, Payload
from memristore.transform import Context

F32 = npt.NDArray[np.float32]


def ring(shape: tuple[int, ...], rank: int, slope: float = 1.0, seed: int = 0) -> F32:
    rng = np.random.default_rng(seed)
    cores = [rng.normal(size=(rank, axis, rank)).astype(np.float32) for axis in axes_of(shape)]
    return (0.1 * contract(cores, slope)).reshape(shape).astype(np.float32)


def encode(part: TensorRing, values: F32) -> tuple[Payload, float]:
    context = Context(shapes={"w": values.shape})
    payload = part.encode(Payload([AnalogStream("w", values.reshape(-1))]), context)
    back = part.decode(payload, context).analog("w").values.astype(np.float64)
    return payload, float(np.square(back - values.reshape(-1)).sum() / np.square(values.astype(np.float64)).sum())


def test_axes_share_the_work() -> None:
    assert axes_of((64, 32, 3, 3)) == (8, 8, 4, 8, 9)
    assert axes_of((10, 17)) == (10, 17)
    assert axes_of((32, 1, 3, 3)) == (4, 8, 9)


def test_contraction_is_the_trace_of_products() -> None:
    rng = np.random.default_rng(1)
    cores = [rng.normal(size=(3, axis, 3)).astype(np.float32) for axis in (2, 4, 3, 5)]
    whole = np.einsum("adb,bec,cfg,gha->defh", *[core.astype(float) for core in cores])
    np.testing.assert_allclose(contract(cores).reshape(2, 4, 3, 5), whole, rtol=1e-12, atol=1e-12)
    # Bent: each half has two cores, whose product bends once.
    left, right = (np.einsum("adb,bec->adec", *[c.astype(float) for c in half]) for half in (cores[:2], cores[2:]))
    bent = [np.where(part < 0, 0.25 * part, part) for part in (left, right)]
    expected = np.einsum("adec,cfga->defg", *bent)
    np.testing.assert_allclose(contract(cores, 0.25).reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(32, 16, 3, 3), (60, 50), (32, 1, 5, 5)])
def test_a_ring_is_found(shape: tuple[int, ...]) -> None:
    values = ring(shape, 2)
    payload, error = encode(TensorRing(rank=2, sweeps=30), values)
    assert error < 1e-8
    assert sum(len(s) for s in payload.analog_streams()) == 4 * sum(axes_of(shape))
    assert next(iter(payload)).name == "w/ring"


def test_each_sweep_lowers_the_error() -> None:
    tensor = np.random.default_rng(2).normal(size=(4, 4, 4, 4, 9))
    errors = [float(np.square(contract(fit_ring(tensor, 3, n)) - tensor.reshape(-1)).sum()) for n in range(8)]
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]


def test_bent_rings_reach_what_linear_ones_do_not_and_are_never_worse() -> None:
    values = ring((36, 30), 2, slope=SLOPES[-1], seed=3)
    linear, (payload, bent) = encode(TensorRing(rank=2), values)[1], encode(TensorRing(rank=2, nonlinear=True), values)
    assert bent < 0.7 * linear
    assert int(payload.bits("w/ring").data[1]) > 0
    noise = np.random.default_rng(4).normal(size=(16, 16, 3, 3)).astype(np.float32)
    assert encode(TensorRing(rank=2, nonlinear=True), noise)[1] <= encode(TensorRing(rank=2), noise)[1]


@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.9])
def test_budget_and_what_passes(ratio: float) -> None:
    values = np.random.default_rng(5).normal(size=(48, 32, 3, 3)).astype(np.float32)
    payload, _ = encode(TensorRing(ratio=ratio, sweeps=1), values)
    stored = sum(len(s) for s in payload.analog_streams())
    assert 0.6 * ratio - 0.02 < stored / values.size <= ratio
    norms = [float(np.linalg.norm(s.values)) for s in payload.analog_streams()]
    assert max(norms) == pytest.approx(min(norms), rel=1e-4)
    for small in (np.ones((2, 3), np.float32), np.ones(40, np.float32), np.zeros((40, 40), np.float32)):
        assert list(encode_only(small)) == ["w"]
    for bad in ({"ratio": 0.0}, {"ratio": 0.5, "rank": 2}, {"rank": 0}, {"nonlinear": 1}, {"sweeps": -1}):
        with pytest.raises(SpecError):
            TensorRing(**bad)


def encode_only(values: F32) -> dict[str, object]:
    context = Context(shapes={"w": values.shape})
    return dict(TensorRing().encode(Payload([AnalogStream("w", values.reshape(-1))]), context).streams)
