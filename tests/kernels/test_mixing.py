"""Levels coded by mixed predictions: the bytes are those of the definition, and any bytes give some levels."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memristore import _core
from oracle import mixing
from oracle.trellis import BLOCK

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

MAX_LEVEL = _core.TRELLIS_MAX_LEVEL
NO_MASK = np.zeros(0, np.uint8)
#: Rows, columns, taps; and width.
SHAPES: dict[str, tuple[tuple[int, int, int], int]] = {
    "conv 3x3": ((9, 8, 9), 3),
    "conv 5x3": ((8, 5, 15), 3),
    "conv 1-d": ((8, 9, 7), 7),
    "conv 11x10": ((3, 2, 110), 10),
    "linear": ((23, 31, 1), 1),
    "one row": ((1, 700, 1), 1),
    "one column": ((1100, 1, 1), 1),
    "depthwise": ((70, 1, 9), 3),
    "one value": ((1, 1, 1), 1),
}
every_shape = pytest.mark.parametrize("name", SHAPES)
every_mask = pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
#: Of the bytes of `fixed_levels`, for 1 and for 8 states.
GOLDEN = {1: "a6f28c68004210d9", 8: "ca1051cf24f0ce32"}


def rng(salt: int) -> np.random.Generator:
    return np.random.default_rng([salt, 20261])


def case(shape: tuple[int, int, int], scale: float, masked: bool) -> tuple[I32, U8]:
    """Levels whose spread differs by row, column and tap, and which of them there are."""
    draw = rng(math.prod(shape))
    spread = np.exp(sum(draw.normal(size=[n if i == axis else 1 for i, n in enumerate(shape)]) for axis in range(3)))
    levels = np.rint(draw.laplace(size=shape) * spread * scale).clip(-MAX_LEVEL, MAX_LEVEL).astype(np.int32).reshape(-1)
    mask = (draw.random(levels.size) < 0.6).astype(np.uint8) if masked else NO_MASK
    return (levels * mask if masked else levels), mask


def encode(
    levels: I32, mask: U8, shape: tuple[int, int, int], width: int, states: int, first: int = 0, state: int = 0
) -> tuple[bytes, int]:
    return _core.mix_encode(levels, mask, shape[1], shape[2], width, states, first, state)


def decode(
    data: bytes, masked: bool, shape: tuple[int, int, int], width: int, states: int, first: int = 0, state: int = 0
) -> tuple[I32, U8, int]:
    count = math.prod(shape)
    levels, mask = np.full(count, 12345, np.int32), np.full(count if masked else 0, 77, np.uint8)
    after = _core.mix_decode(
        np.frombuffer(data, np.uint8), levels, mask, shape[1], shape[2], width, states, first, state
    )
    return levels, mask, after


def check(levels: I32, mask: U8, shape: tuple[int, int, int], width: int, states: int, *place: int) -> bytes:
    """Kernel and oracle agree, and everything comes back."""
    data, after = encode(levels, mask, shape, width, states, *place)
    assert (data, after) == mixing.encode(levels, mask, shape, width, states, *place)
    back, back_mask, back_after = decode(data, mask.size > 0, shape, width, states, *place)
    assert np.array_equal(back, levels)
    assert np.array_equal(back_mask, mask)
    assert back_after == after
    return data


@every_shape
@every_mask
@pytest.mark.parametrize("states", [1, 4, 32])
def test_bytes_are_those_of_the_definition(name: str, masked: bool, states: int) -> None:
    shape, width = SHAPES[name]
    levels, mask = case(shape, 0.6, masked)
    check(levels, mask, shape, width, states)


@pytest.mark.parametrize("name", ["conv 5x3", "linear", "one row"])
def test_large_levels_too(name: str) -> None:
    shape, width = SHAPES[name]
    for scale in (12.0, 1e5):
        check(*case(shape, scale, False), shape, width, 8)


@pytest.mark.parametrize("states", [1, 8, 64])
def test_the_largest_levels_come_back(states: int) -> None:
    """From both quantisers, and around every place where the way they are written changes."""
    sizes = np.r_[np.arange(18), 2 ** np.arange(4, 20), 2 ** np.arange(4, 20) + 15, MAX_LEVEL - 1, MAX_LEVEL]
    levels = rng(0).permutation(np.r_[sizes, -sizes, sizes, -sizes]).astype(np.int32)
    check(np.minimum(levels, MAX_LEVEL), NO_MASK, (2, levels.size // 2, 1), 1, states)


@every_mask
@pytest.mark.parametrize("place", [(0, 0), (BLOCK - 300, 3), (3 * BLOCK, 3), (2**40 + 17, 2)])
def test_the_trellis_starts_anew_with_every_block(masked: bool, place: tuple[int, int]) -> None:
    shape, width = SHAPES["conv 3x3"]
    levels, mask = case(shape, 0.6, masked)
    data = check(levels, mask, shape, width, 4, *place)
    elsewhere = encode(levels, mask, shape, width, 4, BLOCK // 2, place[1])[0]
    assert (data != elsewhere) == (place in ((BLOCK - 300, 3), (3 * BLOCK, 3)))


@every_mask
def test_any_bytes_give_what_the_definition_says(masked: bool) -> None:
    draw = rng(1)
    for (shape, width), states in zip(SHAPES.values(), (1, 4, 8, 16, 32, 64, 1, 4, 8), strict=True):
        data = {3: b"\xff" * 9, 7: b""}.get(width, draw.bytes(40))
        found = decode(data, masked, shape, width, states)
        wanted = mixing.decode(data, masked, shape, width, states)
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@given(
    data=st.binary(max_size=400), cut=st.integers(0, 400), name=st.sampled_from(sorted(SHAPES)),
    states=st.sampled_from([1, 4, 8, 16, 32, 64]), masked=st.booleans(), first=st.integers(0, 2**62),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_give_levels_within_bounds(
    data: bytes, cut: int, name: str, states: int, masked: bool, first: int
) -> None:
    """Bytes of a tensor, cut, with any bytes after them."""
    shape, width = SHAPES[name]
    whole = encode(*case(shape, 2.0, masked), shape, width, states)[0]
    levels, mask, state = decode(whole[:cut] + data, masked, shape, width, states, first, states - 1)
    assert np.abs(levels).max() <= MAX_LEVEL
    assert state < states
    assert mask.max(initial=0) <= 1
    assert not levels[mask == 0].any() if masked else mask.size == 0


def test_levels_that_differ_in_spread_take_fewer_bits_than_their_entropy() -> None:
    """By row and column; n = 30,000 of fixed draws, so that nothing is left to chance."""
    draw = rng(2)
    spread = np.exp(0.8 * draw.normal(size=(100, 1))) * np.exp(0.8 * draw.normal(size=(1, 300)))
    levels = np.rint(draw.normal(size=(100, 300)) * spread).astype(np.int32).reshape(-1)
    share = np.unique(levels, return_counts=True)[1] / levels.size
    entropy = -float(share @ np.log2(share)) * levels.size
    known = np.rint(draw.normal(size=30_000)).astype(np.int32)
    assert 8 * len(encode(levels, NO_MASK, (100, 300, 1), 1, 1)[0]) < 0.85 * entropy
    # Where there is nothing to learn but one distribution, learning it costs little.
    share = np.unique(known, return_counts=True)[1] / known.size
    entropy = -float(share @ np.log2(share)) * known.size
    assert 8 * len(encode(known, NO_MASK, (100, 300, 1), 1, 1)[0]) < 1.02 * entropy


def fixed_levels() -> I32:
    """Made of whole numbers alone: 12 rows of 10 columns of 3x3."""
    words = np.arange(1, 12 * 10 * 9 + 1, dtype=np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    ones = np.unpackbits((words >> np.uint64(32)).astype("<u4").view(np.uint8).reshape(-1, 4), axis=1).sum(axis=1)
    return (ones.astype(np.int32) - 16) * (1 + np.arange(words.size, dtype=np.int32) % 9) // 9


@pytest.mark.parametrize("states", GOLDEN)
def test_bytes_are_those_of_the_first_release(states: int, isa: str) -> None:
    """On every machine: a stored network must stay readable."""
    data, after = encode(fixed_levels(), NO_MASK, (12, 10, 9), 3, states)
    assert hashlib.sha256(data + bytes([after])).hexdigest()[:16] == GOLDEN[states], isa


def test_nothing_takes_no_bytes() -> None:
    none = np.zeros(0, np.int32)
    for columns in (1, 2**40):
        assert _core.mix_encode(none, NO_MASK, columns, 9, 3, 8, 5, 3) == (b"", 3)
        assert _core.mix_decode(np.ones(9, np.uint8), none.copy(), NO_MASK, columns, 9, 3, 8, 5, 3) == 3


def test_arguments_are_checked() -> None:
    levels, mask = np.zeros(36, np.int32), np.ones(36, np.uint8)
    good: dict[str, Any] = {
        "levels": levels, "mask": mask, "columns": 2, "taps": 9, "width": 3, "states": 8, "first": 0, "state": 7,
    }  # fmt: skip
    data = np.zeros(5, np.uint8)
    _core.mix_encode(**good)
    _core.mix_decode(data, **good)
    for change in (
        {"columns": 0},
        {"columns": 2**63},
        {"taps": 0},
        {"taps": _core.MIX_MAX_TAPS + 1},
        {"width": 0},
        {"width": 10},
        {"levels": np.zeros(35, np.int32)},
        {"columns": 3, "levels": levels},
        {"states": 0},
        {"states": 2},
        {"states": 128},
        {"state": 8},
        {"mask": np.ones(35, np.uint8)},
        {"first": 2**63},
    ):
        # Columns that do not fit are told from the levels.
        what = "levels" if change.get("columns", 0) > 2 else next(iter(change))
        with pytest.raises(ValueError, match=what):
            _core.mix_encode(**{**good, **change})
        with pytest.raises(ValueError, match=what):
            _core.mix_decode(data, **{**good, **change})
    for bad in (levels.astype(np.int64), np.zeros((4, 9), np.int32), np.zeros(72, np.int32)[::2]):
        with pytest.raises((TypeError, ValueError), match="levels"):
            _core.mix_encode(**{**good, "levels": bad})
        with pytest.raises((TypeError, ValueError), match="levels"):
            _core.mix_decode(data, **{**good, "levels": bad})
    with pytest.raises(TypeError, match="mask"):
        _core.mix_encode(**{**good, "mask": mask.astype(np.bool_)})
    with pytest.raises(TypeError, match="data"):
        _core.mix_decode(data.astype(np.int8), **good)
    frozen = levels.copy()
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match="levels"):
        _core.mix_decode(data, **{**good, "levels": frozen})
    for level in (MAX_LEVEL + 1, -MAX_LEVEL - 1, -(2**31)):
        with pytest.raises(ValueError, match="levels"):
            _core.mix_encode(**{**good, "levels": np.full(36, level, np.int32)})
    with pytest.raises(ValueError, match="mask"):
        _core.mix_encode(**{**good, "levels": levels + np.int32(1), "mask": np.zeros(36, np.uint8)})
