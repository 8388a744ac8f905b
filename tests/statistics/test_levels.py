"""Level errors: the definition's bytes however they are drawn, and the rates of independent cells.

Every statistical test states its number of samples n, statistic, threshold, false-alarm rate and the smallest effect
that it catches. Keys are fixed, so a run gives the same verdict every time; the rates are those of choosing another
key.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from memristore import _core
from oracle import levels
from oracle.levels import LevelModel

U8 = npt.NDArray[np.uint8]

KEY = 0x13198A2E03707344
Z = 7.0
LABELS: dict[str, Callable[[int], U8]] = {"gray": levels.gray, "natural": levels.natural}
MAX_EVENT = 2**24 - 1


def model(bits: int, labels: str, rate: float) -> LevelModel:
    """Rates that differ from level to level and between up and down; `rate` is their largest sum."""
    count = 2**bits
    share = np.linspace(0.3, 1.0, count)
    up, down = 0.6 * rate * share, 0.4 * rate * share[::-1]
    up[-1] = down[0] = 0.0
    return LevelModel(bits, LABELS[labels](bits), up.astype(np.float32), down.astype(np.float32))


def bytes_of(n: int) -> U8:
    """Every byte value, in an order that has nothing to do with the groups of 64."""
    return (np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(56)).astype(np.uint8)


def run(m: LevelModel, symbols: U8, *, event: int = 0, first: int = 0, threads: int = 0, key: int = KEY) -> U8:
    out = np.full_like(symbols, 0xA5)
    _core.level_errors(key, event, first, m.bits, m.level_of, m.up, m.down, symbols, out, threads)
    return out


FORMS = [(bits, labels) for bits in (1, 2, 4) for labels in LABELS]
forms = pytest.mark.parametrize(("bits", "labels"), FORMS, ids=[f"{bits}-bit-{labels}" for bits, labels in FORMS])


@forms
@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.02, 0.5, 1.0])
@pytest.mark.parametrize(
    ("first", "n", "event"),
    [(0, 0, 0), (0, 1, 0), (2**40 + 17, 1, 3), (64, 63, 1), (2**32 - 3, 257, MAX_EVENT), (5, 20_011, 7)],
)
def test_matches_its_definition(
    bits: int, labels: str, rate: float, first: int, n: int, event: int, isa: str, threads: int
) -> None:
    m, symbols = model(bits, labels, rate), bytes_of(n)
    got = run(m, symbols, event=event, first=first, threads=threads)
    np.testing.assert_array_equal(got, levels.level_errors(m, KEY, event, first, symbols))


@forms
def test_several_chunks_match_the_definition(bits: int, labels: str, isa: str, threads: int) -> None:
    """More bytes than a thread's chunk; few errors, as in use, then many."""
    symbols = bytes_of(150_001)
    for rate in (0.003, 0.4):
        m = model(bits, labels, rate)
        got = run(m, symbols, event=2, first=2**32 - 3, threads=threads)
        np.testing.assert_array_equal(got, levels.level_errors(m, KEY, 2, 2**32 - 3, symbols))


@forms
def test_cuts_give_the_same_bytes(bits: int, labels: str, isa: str, threads: int) -> None:
    """Cut anywhere, even within a group of 64; and in place, where input and output are one array."""
    m, symbols = model(bits, labels, 0.3), bytes_of(70_001)
    whole = run(m, symbols, first=2**40 + 17, threads=threads)
    cuts = [0, 1, 40, 103, 104, 168, 420, 65_519, 65_583, 70_001]
    parts = [run(m, symbols[a:b], first=2**40 + 17 + a, threads=threads) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    inplace = symbols.copy()
    _core.level_errors(KEY, 0, 2**40 + 17, m.bits, m.level_of, m.up, m.down, inplace, inplace, threads)
    np.testing.assert_array_equal(inplace, whole)


def test_certain_and_impossible_errors(isa: str) -> None:
    """A middle level that always rises does so in every cell; rates of zero change nothing."""
    m = LevelModel(2, levels.gray(2), np.array([0, 1, 0, 0], np.float32), np.zeros(4, np.float32))
    symbols = bytes_of(100_000)
    before, after = m.levels(symbols), m.levels(run(m, symbols))
    np.testing.assert_array_equal(after, np.where(before == 1, 2, before))
    still = LevelModel(2, levels.gray(2), np.zeros(4, np.float32), np.zeros(4, np.float32))
    np.testing.assert_array_equal(run(still, symbols), symbols)


@forms
def test_a_gray_error_is_one_bit(bits: int, labels: str) -> None:
    """One level's error flips one bit of a Gray label; errors never leave the range of levels."""
    m, symbols = model(bits, labels, 0.5), bytes_of(100_000)
    got = run(m, symbols)
    steps = m.levels(got) - m.levels(symbols)
    assert set(np.unique(steps)) == {-1, 0, 1}
    if labels == "gray":
        flipped = np.bitwise_count(got ^ symbols)
        np.testing.assert_array_equal(flipped, np.abs(steps).sum(axis=1))


@forms
def test_joint_distribution_of_a_byte(bits: int, labels: str) -> None:
    """n = 4.2e6 reads of each of two bytes. Chi-square of the 256 outcomes against the product over independent cells
    (`outcomes`), those that expect fewer than 25 taken together, at 1e-10; impossible outcomes must not be seen.

    False alarms: 12 comparisons, 1.2e-9. Smallest effect: outcomes off by 0.58 % (1 bit per cell: 256 outcomes), 0.44 %
    (2 bits: 36), 0.36 % (4 bits: 9), rms, weighted by their expectation. It sees every rate, direction and dependence
    within a byte.
    """
    n, m = 1 << 22, model(bits, labels, 0.4)
    for event, symbol in enumerate((0b00_10_11_01, 0b11_01_00_10)):
        seen = np.bincount(run(m, np.full(n, symbol, np.uint8), event=event), minlength=256)
        expected = n * levels.outcomes(m, symbol)
        assert expected.sum() == pytest.approx(n, rel=1e-6)
        assert not np.any(seen[expected == 0])
        full = expected >= 25.0
        seen, expected = np.append(seen[full], seen[~full].sum()), np.append(expected[full], expected[~full].sum())
        some = expected > 0
        chi2 = float(np.sum((seen - expected)[some] ** 2 / expected[some]))
        assert chi2 < stats.chi2.isf(1e-10, np.count_nonzero(some) - 1)


@forms
def test_rates_of_every_level_and_cell(bits: int, labels: str) -> None:
    """n = 1.7e7 bytes of every value, largest rate 0.03. Errors up and down by level and cell, bytes with an error, and
    bytes with several, each within Z standard errors (of a sum of unlike coin tosses, expected 3,000 or more).

    False alarms: at most 66 comparisons for each of 6 forms, 1e-9. Smallest effects: 0.9 % of the rate of bytes with an
    error, 10 % of those with several, 3 % to 11 % of the rate of one level in one cell.
    """
    n, m = 1 << 24, model(bits, labels, 0.03)
    symbols = bytes_of(n)
    got = run(m, symbols, event=9)
    # The bytes are few, so their pairs (written, read) say everything.
    pairs = np.bincount(symbols.astype(np.uint16) * 256 + got.astype(np.uint16), minlength=65536).reshape(256, 256)
    written = np.bincount(symbols, minlength=256)
    table = m.levels(np.arange(256, dtype=np.uint8))
    steps = table[None, :] - table[:, None]  # (written, read, cell)
    up, down = m.up.astype(np.float64)[table], m.down.astype(np.float64)[table]

    def agrees(found: float, chances: npt.NDArray[np.float64], weights: npt.NDArray[np.int64]) -> None:
        mean, variance = float(weights @ chances), float(weights @ (chances * (1 - chances)))
        assert abs(found - mean) <= Z * np.sqrt(variance) + 1e-9

    for cell in range(m.cells):
        for level in range(2**bits):
            here = table[:, cell] == level
            for sign, chance in ((1, up), (-1, down)):
                found = int(pairs[here][steps[here, :, cell] == sign].sum())
                agrees(found, chance[here, cell], written[here])
    clean = np.prod(1 - up - down, axis=1)
    agrees(int(pairs[np.any(steps != 0, axis=2)].sum()), 1 - clean, written)
    once = np.sum((up + down) / (1 - up - down), axis=1) * clean
    agrees(int(pairs[np.count_nonzero(steps, axis=2) > 1].sum()), 1 - clean - once, written)


def test_bytes_and_events_are_independent() -> None:
    """n = 4.2e6 bytes, of which about half have an error. Correlation of "has an error" between bytes 1, 16, 64 and 256
    apart (next lane, same block, next group, further), and between two events of one byte, each within Z / sqrt(n).

    False alarms: 5 comparisons, 1.3e-11. Smallest effect: a correlation of 0.0034.
    """
    n, m = 1 << 22, model(2, "gray", 0.25)
    symbols = np.full(n, 0b01_11_01_11, np.uint8)
    wrong = [(run(m, symbols, event=event) != symbols).astype(np.float64) for event in (0, 1)]
    q = 1 - levels.outcomes(m, int(symbols[0]))[symbols[0]]
    a, b = ((w - q) / np.sqrt(q * (1 - q)) for w in wrong)
    assert abs(a @ b) < Z * np.sqrt(n)
    for lag in (1, 16, 64, 256):
        assert abs(a[lag:] @ a[:-lag]) < Z * np.sqrt(n)


def test_rates_of_gaussian_levels() -> None:
    """n = 1.7e7 bytes, 2 bits per cell, Gray, Gaussian reads of 0.15 level spacings: 6 Q(1 / 0.3) = 0.26 % of random
    bytes are wrong. The number of wrong bytes is within Z standard errors of the closed form.

    False alarms: 2.6e-12. Smallest effect: 3.4 % of the rate.
    """
    n, tail = 1 << 24, float(special.ndtr(-0.5 / 0.15))
    up, down = np.array([tail, tail, tail, 0], np.float32), np.array([0, tail, tail, tail], np.float32)
    m, symbols = LevelModel(2, levels.gray(2), up, down), bytes_of(n)
    q = 1 - (1 - 1.5 * tail) ** 4
    assert abs(np.count_nonzero(run(m, symbols) != symbols) - n * q) < Z * np.sqrt(n * q)


GOOD: dict[str, Any] = {
    "key": KEY,
    "event": 0,
    "first": 0,
    "bits": 2,
    "level_of": levels.gray(2),
    "up": np.array([0.1, 0.1, 0.1, 0.0], np.float32),
    "down": np.array([0.0, 0.1, 0.1, 0.1], np.float32),
    "symbols": bytes_of(40),
    "out": np.zeros(40, np.uint8),
}


def singles(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "3 bits": ({"bits": 3}, "bits"),
    "0 bits": ({"bits": 0}, "bits"),
    "8 bits": ({"bits": 8}, "bits"),
    "too few labels": ({"level_of": np.arange(2, dtype=np.uint8)}, "level_of"),
    "too many rates": ({"up": singles(0.1, 0.1, 0.1, 0.1, 0.0)}, "up"),
    "too few rates": ({"down": singles(0.0, 0.1)}, "down"),
    "a level twice": ({"level_of": np.array([0, 1, 1, 2], np.uint8)}, "permutation"),
    "a level beyond": ({"level_of": np.array([0, 1, 2, 4], np.uint8)}, "permutation"),
    "negative": ({"up": singles(-0.1, 0.1, 0.1, 0.0)}, "probabilities"),
    "over one": ({"down": singles(0.0, 0.95, 0.1, 0.1)}, "probabilities"),
    "not a number": ({"up": singles(np.nan, 0.1, 0.1, 0.0)}, "probabilities"),
    "infinite": ({"down": singles(0.0, np.inf, 0.1, 0.1)}, "probabilities"),
    "above the top": ({"up": singles(0.1, 0.1, 0.1, 0.1)}, "cannot rise"),
    "below the bottom": ({"down": singles(0.1, 0.1, 0.1, 0.1)}, "cannot"),
    "output too short": ({"out": np.zeros(39, np.uint8)}, "out"),
    "event too large": ({"event": 2**24}, "event"),
}
TYPES: dict[str, tuple[dict[str, Any], str]] = {
    "symbols of 16 bits": ({"symbols": np.zeros(40, np.uint16)}, "symbols"),
    "rates of 64 bits": ({"up": np.zeros(4)}, "up"),
    "signed levels": ({"level_of": np.arange(4, dtype=np.int8)}, "level_of"),
    "strided": ({"symbols": np.zeros(80, np.uint8)[::2]}, "symbols"),
    "read-only output": ({"out": np.frombuffer(bytes(40), np.uint8)}, "out"),
    "a list": ({"symbols": [0] * 40}, "level_errors"),
    "negative event": ({"event": -1}, "level_errors"),
}


@pytest.mark.parametrize(("changes", "says"), VALUES.values(), ids=VALUES)
def test_refuses_values(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _core.level_errors(**{**GOOD, **changes})


@pytest.mark.parametrize(("changes", "says"), TYPES.values(), ids=TYPES)
def test_refuses_types(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        _core.level_errors(**{**GOOD, **changes})


def test_the_good_call_is_good() -> None:
    """What the refusals above change is accepted as it stands."""
    _core.level_errors(**GOOD)
    assert np.any(GOOD["out"] != GOOD["symbols"])
