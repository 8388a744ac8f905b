"""Errors of cells with few levels: what is refused, and whether the errors have the chances that they should.

Agreement with the definition, threads, levels of instruction and cuts are tested with all the other kernels.
"""

from __future__ import annotations

import numpy as np
import pytest

from memristore import _core
from oracle import cases

Z = 7.0
KEY = 0x13198A2E03707344


def test_level_errors_may_be_made_in_place() -> None:
    model, given = cases.level_model("4bit"), cases.symbols(5, 5000)
    out, same = cases.blank(5000, np.uint8), given.copy()
    _core.level_errors(cases.KEY, 1, 5, *model, given, out)
    _core.level_errors(cases.KEY, 1, 5, *model, same, same)
    assert np.array_equal(out, same)
    assert np.mean(out != given) > 0.1


def test_levels_are_checked() -> None:
    given = cases.symbols(0, 8)

    def call(width: int, level_of: list[int], up: list[float], down: list[float], event: int = 0) -> None:
        rates = (np.array(up, dtype=np.float32), np.array(down, dtype=np.float32))
        _core.level_errors(cases.KEY, event, 0, width, np.array(level_of, dtype=np.uint8), *rates, given, given.copy())

    call(1, [1, 0], [0.5, 0.0], [0.0, 1.0])
    for width in (0, 3, 8):
        with pytest.raises(ValueError, match="bits"):
            call(width, [0, 1], [0.0, 0.0], [0.0, 0.0])
    for level_of in ([0, 0], [0, 2]):
        with pytest.raises(ValueError, match="level_of"):
            call(1, level_of, [0.0, 0.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="length"):
        call(1, [0, 1], [0.0], [0.0, 0.0])
    for up, down in (
        ([0.1, 0.1], [0.0, 0.0]),
        ([0.0, 0.0], [0.1, 0.0]),
        ([1.5, 0.0], [0.0, 0.0]),
        ([-1.0, 0.0], [0.0, 0.0]),
    ):
        with pytest.raises(ValueError, match="up, down"):
            call(1, [0, 1], up, down)
    with pytest.raises(ValueError, match="up, down"):
        call(1, [0, 1], [float("nan"), 0.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="event"):
        call(1, [0, 1], [0.0, 0.0], [0.0, 0.0], 2**24)


@pytest.mark.parametrize("kind", cases.LEVELS)
def test_level_errors_have_their_chances_and_are_independent(kind: str) -> None:
    """n = 4.2e6 bytes. Rises and falls of every cell position and level, and bytes with errors in two given cells
    (neighbours; first and last), against their binomial expectation, within Z standard errors.

    False alarms: 140 comparisons over all kinds, 3.7e-10. Smallest effects: Z / sqrt(expected number) of each, for
    example 10 % of a chance of 0.005 of two-bit cells (5243 expected).
    """
    width, level_of, up, down = cases.level_model(kind)
    given = cases.symbols(0, 1 << 22)
    got = np.empty_like(given)
    _core.level_errors(KEY, 5, 0, width, level_of, up, down, given, got)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    before, after = (level_of[(b >> shifts) & np.uint8(2**width - 1)].astype(np.int8) for b in (given, got))
    for level in range(2**width):
        chosen = before == level
        n = chosen.sum(axis=1)
        for move, chances in ((1, up), (-1, down)):
            p, seen = float(chances[level]), np.sum(chosen & (after == level + move), axis=1)
            assert np.all(np.abs(seen - n * p) <= Z * np.sqrt(n * p * (1 - p)))
        assert np.all(np.abs(after - before) <= 1)
    wrong, chance = after != before, (up + down).astype(np.float64)[before]
    for a, b in ((0, 1), (0, -1)):
        both = chance[a] * chance[b]
        assert (
            abs(np.sum(wrong[a] & wrong[b]) - both.sum()) < Z * np.sqrt(np.sum(both * (1 - both))) + Z * Z / 3
        )  # few: Bernstein
