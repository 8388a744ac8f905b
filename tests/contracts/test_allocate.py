"""Contracts of every allocator in the registry; per-layer redundancy against brute force."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memristore.allocate import Allocator, PerLayer, allocators
from memristore.errors import SpecError

PARTS = [
    pytest.param(allocators[name].from_dict({"type": name, **example}), id=f"{name}-{i}")
    for name in allocators.names()
    for i, example in enumerate(getattr(allocators[name], "examples", ({},)))
]
SIZES: dict[str, dict[str, int]] = {
    "lenet": {"c1.w": 150, "c1.b": 6, "c2.w": 2400, "c2.b": 16, "f1.w": 48000, "f2.w": 10080, "f3.w": 840},
    "one": {"w": 7},
    "empty": {},
    "empty-tensor": {"w": 0, "v": 5},
    "equal": {f"w{i}": 100 for i in range(9)},
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_gets_planes_in_order_and_repeatably(part: Allocator, sizes: str) -> None:
    planes = part.planes(SIZES[sizes])
    assert list(planes) == list(SIZES[sizes])
    assert all(type(p) is int and p >= 1 for p in planes.values())
    assert planes == part.planes(SIZES[sizes])


@pytest.mark.parametrize("part", PARTS)
def test_dict_form(part: Allocator) -> None:
    assert allocators.from_dict(json.loads(json.dumps(part.to_dict()))) == part
    with pytest.raises(SpecError, match="unknown key"):
        allocators.from_dict({**part.to_dict(), "no-such-key": 1})


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    low=st.integers(1, 2),
    span=st.integers(0, 3),
    share=st.floats(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_per_layer_is_the_optimum(sizes: list[int], low: int, span: int, share: float) -> None:
    mean = low + share * span
    part = PerLayer(mean=mean, minimum=low, maximum=low + span)
    found = list(part.planes({str(i): n for i, n in enumerate(sizes)}).values())
    budget = mean * sum(sizes) * (1 + 1e-12) + 1e-9
    best = min(
        sum(1 / p for p in planes)
        for planes in itertools.product(range(low, low + span + 1), repeat=len(sizes))
        if sum(n * p for n, p in zip(sizes, planes, strict=True)) <= budget
    )
    assert sum(n * p for n, p in zip(sizes, found, strict=True)) <= budget
    assert sum(1 / p for p in found) == pytest.approx(best, abs=1e-9)


def test_per_layer_is_the_optimum_of_seven_layers() -> None:
    levels = np.array(list(itertools.product(range(1, 5), repeat=7)))
    value = (1 / levels).sum(axis=1)
    rng = np.random.default_rng(1)
    for _ in range(60):
        sizes = rng.integers(1, 200, 7)
        mean = float(rng.uniform(1, 4))
        found = list(PerLayer(mean=mean, maximum=4).planes({str(i): int(n) for i, n in enumerate(sizes)}).values())
        best = value[levels @ sizes <= mean * sizes.sum()].min()
        assert sum(1 / p for p in found) == pytest.approx(best, abs=1e-9)


def test_per_layer_follows_the_inverse_square_root() -> None:
    sizes = {str(i): 4**i * 100 for i in range(5)}
    # With this budget the optimum without integer limits, mean * sum(n) / sum(sqrt(n)) / sqrt(n), is made of integers.
    planes = PerLayer(mean=32 / 11, maximum=64).planes(sizes)
    assert list(planes.values()) == [32, 16, 8, 4, 2]


def test_per_layer_spends_whole_budgets_exactly() -> None:
    for mean in (1, 2, 3, 8):
        assert set(PerLayer(mean=mean).planes({"a": 10, "b": 10}).values()) == {mean}
    assert sorted(PerLayer(mean=1.1).planes({str(i): 10 for i in range(10)}).values()) == [1] * 9 + [2]


def test_per_layer_copes_with_a_large_network() -> None:
    rng = np.random.default_rng(0)
    sizes = {str(i): int(n) for i, n in enumerate(np.exp(rng.uniform(4, 15, 400)))}
    part = PerLayer(mean=1.7)
    start = time.perf_counter()
    planes = part.planes(sizes)
    assert time.perf_counter() - start < 20
    assert sum(sizes[k] * planes[k] for k in sizes) <= 1.7 * sum(sizes.values())
    # No worse than giving every layer the same whole number of planes.
    assert sum(1 / p for p in planes.values()) < len(sizes)


@pytest.mark.parametrize(
    "settings_",
    [{"mean": 0.5}, {"mean": 9}, {"mean": 2, "minimum": 3}, {"mean": 2, "minimum": 2, "maximum": 1}, {"mean": "2"}],
)
def test_bad_settings_are_refused(settings_: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        PerLayer.from_dict(settings_)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(SpecError, match="size of w"):
        PerLayer(mean=2.0).planes({"w": -1})
