"""Philox words and normals: known answers, counter layout, exactness of the normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memristore import _core
from oracle import cases, philox

GOLDEN = Path(__file__).parent.parent / "golden"


def known_answers() -> list[tuple[int, ...]]:
    lines = (GOLDEN / "philox_kat.txt").read_text().splitlines()
    return [tuple(int(word, 16) for word in line.split()) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("row", known_answers(), ids=["zeros", "ones", "pi"])
def test_known_answers(row: tuple[int, ...], isa: str) -> None:
    low, high, purpose, event, key_low, key_high = row[:6]
    key, block = key_low | key_high << 32, low | high << 32
    out = np.zeros(4, dtype=np.uint32)
    _core.philox(key, purpose, event, block, out)
    assert out.tolist() == list(row[6:])
    assert philox.philox(key, purpose, event, block, 1).tolist() == list(row[6:])


def test_three_known_answers_are_tested() -> None:
    assert [len(row) for row in known_answers()] == [10, 10, 10]


def test_purposes_are_the_file_format() -> None:
    assert _core.PURPOSES == {
        "write": philox.WRITE,
        "cell": philox.CELL,
        "drift": philox.DRIFT,
        "relax": philox.RELAX,
        "read": philox.READ,
        "fault": philox.FAULT,
        "verify_read": philox.VERIFY_READ,
        "pulse": philox.PULSE,
        "user": philox.USER,
        "level": philox.LEVEL,
        "level_more": philox.LEVEL_MORE,
    }


@pytest.mark.parametrize("first_block", [2**32 - 9, 2**32 - 16, 2**32 - 1, 2**63 - 5])
def test_block_numbers_carry_into_the_high_word(first_block: int, isa: str) -> None:
    out = np.zeros(4 * 37, dtype=np.uint32)
    _core.philox(cases.KEY, philox.USER, 1, first_block, out)
    np.testing.assert_array_equal(out, philox.philox(cases.KEY, philox.USER, 1, first_block, 37))


@pytest.mark.parametrize("cell", [0, 15, 16, 63, 64, 1000, 2**32 - 1, 2**40 + 17])
def test_one_cell_is_recomputed_from_one_block(cell: int, isa: str) -> None:
    """The counter layout, spelled out: block (i / 64) * 16 + i % 16, value (i / 16) % 4, Box-Muller by pairs."""
    words = np.zeros(4, dtype=np.uint32)
    _core.philox(cases.KEY, philox.USER, 6, (cell // 64) * 16 + cell % 16, words)
    value = cell // 16 % 4
    even, odd = (int(w) for w in words[value // 2 * 2 :][:2])
    radius = np.sqrt(-2.0 * np.log((even >> 1) * 2.0**-31 + 2.0**-32))
    angle = 2.0 * np.pi * odd / 2.0**32
    z = np.zeros(1, dtype=np.float32)
    _core.normals(cases.KEY, philox.USER, 6, cell, z, 1)
    assert z[0] == pytest.approx(radius * (np.sin(angle) if value % 2 else np.cos(angle)), abs=4e-6)


@pytest.mark.parametrize(
    ("even", "expected"),
    [(0, np.sqrt(2 * np.log(2.0**32))), (0xFFFFFFFF, np.sqrt(-2 * np.log1p(-(2.0**-32))))],
    ids=["largest", "smallest"],
)
def test_radius_of_the_extreme_words(even: int, expected: float) -> None:
    """The layout's largest |z| is 6.66; its smallest radius is 2.2e-5. Oracle only: no key is known that draws them."""
    z, radius = philox.box_muller(np.array([[even, 0, even, 0x40000000]], dtype=np.uint32))
    np.testing.assert_allclose(radius, expected, rtol=1e-5)
    np.testing.assert_allclose(z, [[expected, 0, 0, expected]], atol=1e-8, rtol=1e-5)


def test_normals_keep_their_exactness_over_a_million_cells(isa: str) -> None:
    """1.5e-6 everywhere but where the radius is tiny; and on average far better."""
    out = np.zeros(1 << 20, dtype=np.float32)
    _core.normals(cases.KEY, philox.USER, 11, 0, out)
    wrong = np.abs(out - philox.normals(cases.KEY, philox.USER, 11, 0, len(out)))
    assert np.all(wrong <= cases.normals_tolerance(0, len(out), philox.USER, 11))
    assert np.sqrt(np.mean(wrong**2)) < 3e-7
