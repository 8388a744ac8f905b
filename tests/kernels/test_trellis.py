"""The trellis of quantisers: its codes, the search, and the way of levels to symbols and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from memristore import _core
from oracle import trellis
from oracle.trellis import BLOCK

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]

STATES = (4, 8, 16, 32, 64)
NONE = np.zeros(0, np.uint8)
FLAT = np.zeros(5, np.float32)
SHIFTS = np.array([-0.25, 0.125, -0.375, 0.0625, -0.125], np.float32)
ALONE = np.zeros(1, np.uint32)

every_code = pytest.mark.parametrize("states", STATES)


def rng(salt: int) -> np.random.Generator:
    return np.random.default_rng([salt, 20260])


def search(
    x: F32, states: int, inverse: float, costs: F32, classes: U8 = NONE, shifts: F32 = FLAT, threads: int = 1
) -> I32:
    levels = np.full(x.size, 12345, np.int32)
    limit = costs.shape[1] // 2
    _core.trellis_search(x, states, inverse, limit, costs.reshape(-1), classes, shifts, levels, threads)
    return levels


def case(states: int, n: int, classes: int = 1, limit: int = 6) -> tuple[F32, F32, U8]:
    """Values on a grid of 64ths and costs on one of 32nds: sums are exact in float32 and can be compared exactly."""
    draw = rng(states + n)
    x = (np.rint(64 * draw.normal(scale=3, size=n)) / 64).astype(np.float32)
    bits = np.abs(np.arange(-limit, limit + 1))[None, :, None] + draw.uniform(0, 2, (classes, 2 * limit + 1, states))
    costs = (np.rint(32 * bits) / 32).astype(np.float32)
    return x, costs, draw.integers(0, classes, n).astype(np.uint8)


@every_code
def test_codes_have_the_published_free_distance(states: int) -> None:
    assert trellis.free_distance(trellis.trellis(states)) == trellis.CODES[states][2]


@every_code
def test_levels_satisfy_the_parity_check(states: int) -> None:
    """The kernels' own walk, asked through points: every sequence of levels is a code word of (h1, h0)."""
    h1, h0, _ = trellis.CODES[states]
    levels = rng(states).integers(-9, 10, 500).astype(np.int32)
    points = np.empty(500, np.float32)
    _core.trellis_points(levels, states, FLAT, points)
    z0, z1 = (points.astype(np.int64) - 2 * levels) & 1, levels & 1
    memory = states.bit_length() - 1
    for i in range(memory, 500):
        terms = [(h1 >> j & 1) * z1[i - j] + (h0 >> j & 1) * z0[i - j] for j in range(memory + 1)]
        assert sum(terms) % 2 == 0


@every_code
@pytest.mark.parametrize("n", [1, 2, 64, 65, 150])
@pytest.mark.parametrize("classes", [1, 3])
def test_search_finds_the_cheapest_way(states: int, n: int, classes: int, isa: str) -> None:
    x, costs, kinds = case(states, n, classes)
    given = kinds if classes > 1 else NONE
    levels = search(x, states, 0.5, costs, given, SHIFTS)
    t = trellis.trellis(states)
    kind = kinds if classes > 1 else None
    assert trellis.way_cost(t, x, 0.5, levels, costs, kind, SHIFTS) == trellis.search(t, x, 0.5, costs, kind, SHIFTS)


@every_code
def test_every_instruction_set_and_thread_count_finds_the_same_way(states: int) -> None:
    draw = rng(states)
    x = draw.standard_t(3, size=3 * BLOCK + 77).astype(np.float32)
    costs = draw.uniform(0, 3, (2, 9, states)).astype(np.float32)
    kinds = draw.integers(0, 2, x.size).astype(np.uint8)
    before, found = _core.isa(), []
    for isa in _core.isa_available():
        _core.set_isa(isa)
        found += [search(x, states, 1.7, costs, kinds, SHIFTS, threads).tobytes() for threads in (1, 2)]
    _core.set_isa(before)
    assert len(set(found)) == 1
    # Each block is searched by itself.
    last = search(x[2 * BLOCK :], states, 1.7, costs, kinds[2 * BLOCK :], SHIFTS)
    assert found[0].endswith(last.tobytes())


def test_search_holds_where_values_are_absurd() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 0.0, -0.0], np.float32)
    levels = search(x, 8, 1e30, np.zeros((1, 3, 8), np.float32))
    assert np.abs(levels).max() <= _core.TRELLIS_MAX_LEVEL
    zeros = search(np.zeros(100, np.float32), 8, 1.0, np.zeros((1, 3, 8), np.float32))
    assert not zeros.any()


@every_code
def test_points_match_their_definition(states: int, threads: int) -> None:
    levels = rng(states).integers(-5, 6, BLOCK + 100).astype(np.int32)
    out = np.empty(levels.size, np.float32)
    _core.trellis_points(levels, states, SHIFTS, out, threads)
    t = trellis.trellis(states)
    for part in (slice(0, 500), slice(BLOCK, None)):
        assert np.array_equal(out[part], trellis.points(t, levels[part], SHIFTS))


@every_code
def test_points_go_on_from_a_state(states: int) -> None:
    """From the middle of a block; blocks after the first start at state 0."""
    levels = rng(states).integers(-5, 6, BLOCK + 900).astype(np.int32)
    whole, rest = np.empty(levels.size, np.float32), np.empty(BLOCK + 500, np.float32)
    _core.trellis_points(levels, states, SHIFTS, whole)
    state = int(trellis.walk(trellis.trellis(states), levels[:401])[400])
    _core.trellis_points(levels[400:BLOCK], states, SHIFTS, rest[: BLOCK - 400], 1, state)
    assert np.array_equal(rest[: BLOCK - 400], whole[400:BLOCK])
    _core.trellis_points(levels[400:], states, SHIFTS, rest, 1, state)
    again = np.empty(500, np.float32)
    _core.trellis_points(levels[400 + BLOCK :], states, SHIFTS, again)
    assert np.array_equal(rest[BLOCK:], again)
    with pytest.raises(ValueError, match="state"):
        _core.trellis_points(levels, states, SHIFTS, whole, 1, states)


@every_code
@pytest.mark.parametrize("decay", [0, 1, 4])
def test_split_and_join_are_inverse(states: int, decay: int) -> None:
    levels = np.rint(rng(states).standard_t(2, size=3000) * 2).astype(np.int32)
    t = trellis.trellis(states)
    bounds = np.array([200, 800, 2000], np.uint32)[: 3 if decay else 0]
    memory = np.r_[np.uint32(decay), bounds].astype(np.uint32)
    for group in (t.quantiser.astype(np.uint8), np.arange(states, dtype=np.uint8)):
        groups = int(group.max()) + 1
        if groups * memory.size > 256:
            continue
        where = trellis.contexts(t, levels, group, decay, bounds)
        counts = np.zeros(groups * memory.size, np.uint32)
        symbols, escapes = np.empty(3000, np.int32), np.empty(3000, np.int32)
        used = _core.trellis_split(levels, states, 4, group, groups, memory, counts, symbols, escapes)
        assert np.array_equal(counts, np.bincount(where, minlength=counts.size))
        assert np.array_equal(symbols, np.clip(levels, -4, 4)[np.argsort(where, kind="stable")] + 4)
        assert np.array_equal(escapes[:used], np.abs(levels[np.abs(levels) >= 4]) - 4)
        table = np.zeros(counts.size * 9, np.uint32)
        _core.trellis_count(levels, states, 4, group, groups, memory, table)
        assert np.array_equal(table, np.bincount(where * 9 + np.clip(levels, -4, 4) + 4, minlength=table.size))
        back = np.empty(3000, np.int32)
        _core.trellis_join(symbols, states, 4, group, groups, memory, counts, escapes[:used].copy(), back)
        assert np.array_equal(back, levels)


def test_join_fills_what_is_missing_with_zeros() -> None:
    group, counts = np.zeros(8, np.uint8), np.array([3], np.uint32)
    levels = np.empty(6, np.int32)
    _core.trellis_join(np.array([3, 8, 5], np.int32), 8, 4, group, 1, ALONE, counts, np.zeros(0, np.int32), levels)
    assert levels.tolist() == [-1, 4, 1, 0, 0, 0]


def test_classes_match_their_definition(threads: int) -> None:
    sizes = np.rint(np.abs(rng(0).normal(scale=4, size=BLOCK + 50))).astype(np.int64)
    bounds = np.array([100, 700, 1000, 1500], np.uint32)
    out = np.empty(sizes.size, np.uint8)
    _core.trellis_classes(-sizes.astype(np.float32), np.r_[np.uint32(2), bounds].astype(np.uint32), out, threads)
    for part in (slice(0, 500), slice(BLOCK, None)):
        assert np.array_equal(out[part], trellis.classes_of(sizes[part], 2, bounds))


def test_arguments_are_checked() -> None:
    x, levels = np.zeros(4, np.float32), np.zeros(4, np.int32)
    costs = np.zeros(24, np.float32)
    _core.trellis_search(x, 8, 1.0, 1, costs, NONE, FLAT, levels)
    for change, what in (
        ({"states": 7}, "states"),
        ({"limit": 0}, "limit"),
        ({"limit": 2}, "costs"),
        ({"shifts": np.zeros(4, np.float32)}, "shifts"),
        ({"classes": np.ones(4, np.uint8)}, "classes"),
        ({"levels": np.zeros(3, np.int32)}, "levels"),
        ({"threads": -1}, "threads"),
    ):
        given = {"values": x, "states": 8, "inverse_step": 1.0, "limit": 1, "costs": costs, "classes": NONE,
                 "shifts": FLAT, "levels": levels} | change  # fmt: skip
        with pytest.raises(ValueError, match=what):
            _core.trellis_search(**given)
    group, counts = np.zeros(8, np.uint8), np.zeros(1, np.uint32)
    many = np.zeros(BLOCK + 1, np.int32)
    with pytest.raises(ValueError, match="block"):
        _core.trellis_split(many, 8, 4, group, 1, ALONE, counts, many.copy(), many.copy())
    with pytest.raises(ValueError, match="add up"):
        _core.trellis_join(levels, 8, 4, group, 1, ALONE, counts, NONE.view(np.int32), levels.copy())
    with pytest.raises(ValueError, match="group"):
        _core.trellis_count(levels, 8, 4, group + np.uint8(1), 1, ALONE, np.zeros(9, np.uint32))
    with pytest.raises(ValueError, match="memory"):
        _core.trellis_classes(x, np.array([16], np.uint32), np.zeros(4, np.uint8))
