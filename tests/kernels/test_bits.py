"""The (72, 64) code, splitting and merging by size, fused reads: beyond what the common cases say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from memristore import _core, devices
from oracle import bits, cases


def decode(words: np.ndarray, check: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    words, check, status = words.copy(), check.copy(), cases.blank(len(words), np.uint8)
    _core.secded_decode(words, check, status)
    return words, check, status


def with_flips(word: int, check: int, flips: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """One copy of a code word per tuple of flipped bit numbers; 64 to 71 are the check byte."""
    words, checks = np.full(len(flips), word, dtype=np.uint64), np.full(len(flips), check, dtype=np.uint8)
    for i, positions in enumerate(flips):
        for p in positions:
            if p < 64:
                words[i] ^= np.uint64(1 << p)
            else:
                checks[i] ^= np.uint8(1 << (p - 64))
    return words, checks


@pytest.mark.parametrize("word", [0, 2**64 - 1, 0x0123456789ABCDEF, 1 << 63])
def test_every_single_error_is_corrected_and_every_double_detected(word: int) -> None:
    check = cases.blank(1, np.uint8)
    _core.secded_encode(np.array([word], dtype=np.uint64), check)
    for wrong, status in ((0, bits.CLEAN), (1, bits.CORRECTED), (2, bits.FAILED)):
        flips: list[tuple[int, ...]] = list(combinations(range(72), wrong))
        words, checks = with_flips(word, int(check[0]), flips)
        fixed, fixed_checks, got = decode(words, checks)
        assert np.all(got == status)
        if status == bits.FAILED:
            assert np.array_equal(fixed, words)
            assert np.array_equal(fixed_checks, checks)
        else:
            assert np.all(fixed == np.uint64(word))
            assert np.all(fixed_checks == check[0])


def test_triple_errors_do_as_the_definition_does() -> None:
    words, checks = with_flips(0xDEADBEEF00C0FFEE, 0, list(combinations(range(72), 3))[::7])
    checks ^= bits.secded_encode(np.array([0xDEADBEEF00C0FFEE], dtype=np.uint64))[0]
    for got, wanted in zip(decode(words, checks), bits.secded_decode(words, checks), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_the_code_words_have_the_published_layout() -> None:
    """Extended Hamming: data bits at positions 3, 5, 6, 7, 9, ...; the check of a single bit is its position."""
    single = np.uint64(1) << np.arange(64, dtype=np.uint64)
    check = cases.blank(64, np.uint8)
    _core.secded_encode(single, check)
    np.testing.assert_array_equal(check & 0x7F, bits.POSITIONS)
    assert bits.POSITIONS.tolist()[:5] == [3, 5, 6, 7, 9]
    assert bits.POSITIONS[-1] == 71
    assert np.all((np.bitwise_count(check) + 1) % 2 == 0)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 1000, 100_003])
def test_partition_and_merge(count: int, isa: str) -> None:
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    large = np.abs(values) > 1
    room = count
    parts = [cases.blank(room), cases.blank(room)]
    flags = cases.blank((count + 7) // 8, np.uint8)
    found = _core.partition(values, 1.0, *parts, flags)
    small_part, large_part = parts[0][: count - found], parts[1][:found]
    assert found == large.sum()
    assert np.array_equal(small_part, values[~large])
    assert np.array_equal(large_part, values[large])
    assert np.array_equal(flags, np.packbits(large, bitorder="little"))
    out = cases.blank(count)
    _core.merge(flags, small_part, large_part, out)
    assert np.array_equal(out, values)
    # Damaged flags ask for more of a kind than there is: zeros fill up.
    _core.merge(~flags, small_part, large_part, out)
    expected = np.zeros(count, np.float32)
    expected[~large] = np.pad(large_part, (0, count))[: (~large).sum()]
    expected[large] = np.pad(small_part, (0, count))[: large.sum()]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, 1), (5, 4096), (4095, 4097), (2**40 + 17, 70_001)])
@pytest.mark.parametrize("extrapolate", [True, False])
def test_read_and_decode_is_the_two_in_turn(first: int, count: int, extrapolate: bool, isa: str, threads: int) -> None:
    device = devices.get("pcm-ibm-90nm")
    programmed = (25 * np.random.default_rng(1).random(count)).astype(np.float32)
    table = np.linspace(-1, 1, 257, dtype=np.float32) ** 3
    soft, wanted, out = (cases.blank(count) for _ in range(3))
    place = (device.core(), device.read_time(86400.0), cases.KEY, _core.PURPOSES["read"], 3, first, programmed)
    _core.age_and_read(*place, soft)
    _core.lookup(soft, table, 0.5, 12.0, extrapolate, wanted)
    _core.age_read_decode(*place, table, 0.5, 12.0, extrapolate, out, threads)
    assert np.array_equal(out.view(np.uint32), wanted.view(np.uint32))
