"""BCH kernels against their definition, every error pattern of small codes, and what they do beyond t errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from memristore import _core
from oracle import bch

U8 = npt.NDArray[np.uint8]


class Kernel(NamedTuple):
    """A code with a block length."""

    m: int
    t: int
    data_bits: int

    @property
    def core(self) -> _core.BchCode:
        return _core.BchCode(self.m, self.t)

    @property
    def check_bits(self) -> int:
        return _core.bch_check_bits(self.m, self.t)

    @property
    def length(self) -> int:
        return self.data_bits + self.check_bits

    def encode(self, data: U8, threads: int = 1) -> U8:
        check = np.full((len(data), (self.check_bits + 7) // 8), 0xAA, np.uint8)
        _core.bch_encode(self.core, self.data_bits, data.reshape(-1), check.reshape(-1), threads)
        return check

    def decode(self, data: U8, check: U8, threads: int = 1) -> tuple[U8, U8, npt.NDArray[np.int32]]:
        data, check, status = data.copy(), check.copy(), np.full(len(data), 99, np.int32)
        _core.bch_decode(self.core, self.data_bits, data.reshape(-1), check.reshape(-1), status, threads)
        return data, check, status

    def flip(self, data: U8, check: U8, patterns: Iterable[Sequence[int] | npt.NDArray[np.int64]]) -> tuple[U8, U8]:
        """Copies with bits of one pattern per block wrong; check bits are numbered first."""
        data, check, given = data.copy(), check.copy(), list(patterns)
        block = np.repeat(np.arange(len(given)), [len(pattern) for pattern in given])
        wrong = np.concatenate([np.asarray(pattern, dtype=np.int64) for pattern in given])
        for rows, first, last in ((check, 0, self.check_bits), (data, self.check_bits, self.length)):
            here = (wrong >= first) & (wrong < last)
            bit = wrong[here] - first
            np.bitwise_xor.at(rows, (block[here], bit // 8), (1 << bit % 8).astype(np.uint8))
        return data, check

    def word(self, data: U8, check: U8) -> int:
        return bch.from_bytes(data) << self.check_bits | bch.from_bytes(check)


CODES = [
    Kernel(*code)
    for code in (
        (5, 1, 8), (5, 1, 24), (5, 2, 8), (5, 3, 16), (5, 5, 8), (6, 1, 56), (6, 4, 24), (6, 10, 8), (7, 1, 8),
        (7, 9, 64), (7, 15, 16), (8, 2, 232), (8, 10, 128), (8, 21, 80), (9, 6, 320), (10, 4, 64), (10, 12, 512),
        (11, 3, 1024), (12, 5, 2048), (13, 1, 4096), (13, 3, 1000), (13, 11, 4096), (14, 2, 8192), (14, 9, 24),
    )
]  # fmt: skip
by_code = pytest.mark.parametrize("code", CODES, ids=lambda c: f"m{c.m}-t{c.t}-{c.data_bits}")


def random_data(code: Kernel, blocks: int, seed: int = 0) -> U8:
    return np.random.default_rng([seed, *code]).integers(0, 256, (blocks, code.data_bits // 8), dtype=np.uint8)


def random_patterns(code: Kernel, counts: Iterable[int], seed: int = 1) -> list[npt.NDArray[np.int64]]:
    rng = np.random.default_rng([seed, *code])
    return [rng.choice(code.length, count, replace=False) for count in counts]


@by_code
def test_check_bits_and_syndromes_match_their_definition(code: Kernel, isa: str, threads: int) -> None:
    oracle = bch.Bch(code.m, code.t)
    assert code.core.check_bits() == code.check_bits == oracle.check_bits
    data = random_data(code, 9)
    data[0], data[1] = 0, 255
    check = code.encode(data, threads)
    for row, bits in zip(data, check, strict=True):
        assert np.array_equal(bits, bch.to_bytes(oracle.check(bch.from_bytes(row)), code.check_bits))
    data, check = code.flip(data, check, random_patterns(code, [min(i, code.length) for i in range(9)]))
    out = np.zeros((9, code.t), np.uint16)
    _core.bch_syndromes(code.core, code.data_bits, data.reshape(-1), check.reshape(-1), out.reshape(-1), threads)
    for i in range(9):
        assert oracle.syndromes(code.word(data[i], check[i]))[::2] == out[i].tolist()


@by_code
def test_decoding_matches_its_definition(code: Kernel, isa: str, threads: int) -> None:
    """Zero to t + 2 errors: the code word within t, or a failure that leaves the block as it was."""
    oracle = bch.Bch(code.m, code.t)
    counts = [*range(code.t + 3)] if code.length < 700 else [0, 1, 2, code.t - 1, code.t]
    counts = [c for c in counts if 0 <= c <= code.length]
    clean = random_data(code, len(counts))
    data, check = code.flip(clean, code.encode(clean), random_patterns(code, counts))
    fixed, fixed_check, status = code.decode(data, check, threads)
    for i, count in enumerate(counts):
        got = code.word(fixed[i], fixed_check[i]), int(status[i])
        if code.length < 700:
            assert got == oracle.decode(code.word(data[i], check[i]), code.length)
        if count <= code.t:
            assert np.array_equal(fixed[i], clean[i])
            assert status[i] == count


@pytest.mark.parametrize("code", [Kernel(5, 1, 8), Kernel(5, 2, 8)], ids=["t1", "t2"])
def test_every_word_of_a_small_code(code: Kernel, isa: str) -> None:
    """All 2^13 and 2^18 words against all 256 code words: the one within t, else a failure."""
    words = np.arange(1 << code.length, dtype=np.uint32)
    every = np.arange(256, dtype=np.uint8)[:, None]
    check = code.encode(every)
    known = np.array([code.word(*row) for row in zip(every, check, strict=True)], dtype=np.uint32)
    distance = np.full(len(words), 99, np.uint8)
    nearest = np.zeros_like(words)
    for word in known:
        own = np.bitwise_count(words ^ word).astype(np.uint8)
        nearest[own < distance] = word
        distance = np.minimum(distance, own)
    data = (words >> code.check_bits).astype(np.uint8)[:, None]
    low = words & np.uint32((1 << code.check_bits) - 1)
    read = np.ascontiguousarray(low.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : check.shape[1]])
    fixed, fixed_check, status = code.decode(data, read)
    got = fixed[:, 0].astype(np.uint32) << code.check_bits
    for k in range(check.shape[1]):
        got |= fixed_check[:, k].astype(np.uint32) << (8 * k)
    good = distance <= code.t
    assert np.array_equal(status, np.where(good, distance.astype(np.int32), -1))
    assert np.array_equal(got, np.where(good, nearest, words))


@pytest.mark.parametrize(
    "code", [Kernel(5, 3, 16), Kernel(5, 3, 8), Kernel(6, 2, 48), Kernel(6, 3, 40), Kernel(9, 2, 64)], ids=str
)
def test_every_pattern_of_up_to_t_errors_is_corrected(code: Kernel, isa: str) -> None:
    patterns = list(chain.from_iterable(combinations(range(code.length), k) for k in range(code.t + 1)))
    clean = np.repeat(random_data(code, 1), len(patterns), axis=0)
    check = code.encode(clean)
    fixed, fixed_check, status = code.decode(*code.flip(clean, check, patterns))
    assert np.array_equal(fixed, clean)
    assert np.array_equal(fixed_check, check)
    assert status.tolist() == [len(p) for p in patterns]


LARGE = [Kernel(*code) for code in ((13, 26, 4096), (13, 48, 4096), (13, 116, 4096), (13, 233, 4096), (14, 300, 8192),
                                    (14, 188, 8192), (12, 74, 2048), (10, 57, 512), (14, 1024, 4096))]  # fmt: skip


@pytest.mark.parametrize("code", LARGE, ids=lambda c: f"m{c.m}-t{c.t}")
def test_large_codes_correct_up_to_t_errors(code: Kernel) -> None:
    """Twenty numbers of errors up to t, on every instruction set."""
    counts = np.unique(np.linspace(0, code.t, 20).astype(int)).tolist()
    clean = random_data(code, len(counts))
    before = _core.isa()
    try:
        for level in _core.isa_available():
            _core.set_isa(level)
            check = code.encode(clean)
            fixed, fixed_check, status = code.decode(*code.flip(clean, check, random_patterns(code, counts)))
            assert status.tolist() == counts
            assert np.array_equal(fixed, clean)
            assert np.array_equal(fixed_check, check)
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize("code", [Kernel(5, 2, 16), Kernel(6, 2, 40), Kernel(8, 3, 64), Kernel(13, 26, 4096)], ids=str)
def test_beyond_t_errors_a_block_is_refused_or_a_code_word(code: Kernel) -> None:
    """t + 1 to n errors: never less than all of the truth, and the same on every instruction set and thread count."""
    counts = np.random.default_rng(3).integers(code.t + 1, code.length + 1, 3000 if code.m < 13 else 100)
    clean = random_data(code, len(counts))
    data, check = code.flip(clean, code.encode(clean), random_patterns(code, counts))
    before, results = _core.isa(), []
    try:
        for level in _core.isa_available():
            _core.set_isa(level)
            results += [code.decode(data, check, threads) for threads in (1, 2)]
    finally:
        _core.set_isa(before)
    fixed, fixed_check, status = results[0]
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert np.array_equal(got, wanted)
    failed = status == -1
    assert np.array_equal(fixed[failed], data[failed])
    assert np.array_equal(fixed_check[failed], check[failed])
    assert np.array_equal(code.encode(fixed)[~failed], fixed_check[~failed])
    changed = np.bitwise_count(fixed ^ data).sum(1, dtype=int) + np.bitwise_count(fixed_check ^ check).sum(1, dtype=int)
    assert np.array_equal(changed[~failed], status[~failed])
    assert failed.any()
    assert (~failed).any() or code.m == 13


def test_chunks_of_blocks_are_cut_at_blocks(threads: int) -> None:
    code = Kernel(10, 3, 40)
    clean = random_data(code, 5003)
    check = code.encode(clean, threads)
    assert np.array_equal(check, code.encode(clean, 1))
    counts = np.arange(5003) % 4
    fixed, fixed_check, status = code.decode(*code.flip(clean, check, random_patterns(code, counts)), threads)
    assert np.array_equal(fixed, clean)
    assert np.array_equal(fixed_check, check)
    assert np.array_equal(status, counts)


def test_unused_bits_of_the_last_check_byte_do_not_matter(isa: str) -> None:
    code = Kernel(13, 11, 4096)
    clean = random_data(code, 2)
    check = code.encode(clean)
    assert code.check_bits % 8 == 7
    assert np.all(check[:, -1] < 128)
    check[:, -1] |= 128
    fixed, fixed_check, status = code.decode(*code.flip(clean, check, [(), (5, 200)]))
    assert status.tolist() == [0, 2]
    assert np.array_equal(fixed, clean)
    assert np.array_equal(fixed_check, check)


def test_numbers_are_checked() -> None:
    for m, t in ((4, 1), (15, 1), (5, 0), (5, 16), (13, 1025)):
        with pytest.raises(ValueError, match=r"^[mt]: must be in \["):
            _core.BchCode(m, t)
        with pytest.raises(ValueError, match=r"^[mt]: must be in \["):
            _core.bch_check_bits(m, t)
    code = _core.BchCode(8, 2)
    data, check = np.zeros(16, np.uint8), np.zeros(32, np.uint8)
    for data_bits in (0, 7, 240):
        with pytest.raises(ValueError, match="data_bits: must be a positive multiple of 8 and at most 239"):
            _core.bch_encode(code, data_bits, data, check)
    with pytest.raises(ValueError, match="data: has length 16, wanted whole blocks of 3 bytes"):
        _core.bch_encode(code, 24, data, check)
    with pytest.raises(ValueError, match="threads"):
        _core.bch_encode(code, 8, data, check, -1)


@pytest.mark.parametrize("position", range(3))
def test_buffers_are_checked(position: int) -> None:
    code, names = _core.BchCode(8, 2), ("data", "check", "status")
    good = [np.zeros(16, np.uint8), np.zeros(32, np.uint8), np.zeros(16, np.int32)]
    _core.bch_decode(code, 8, *good)
    wrong = [
        (good[position].astype(np.uint64), TypeError),
        (np.repeat(good[position], 2)[::2], TypeError),
        (good[position].reshape(2, -1), ValueError),
    ]
    if position:
        wrong.append((good[position][1:], ValueError))
    locked = good[position].copy()
    locked.flags.writeable = False
    for bad, error in [*wrong, (locked, TypeError)]:
        with pytest.raises(error, match=names[position]):
            _core.bch_decode(code, 8, *good[:position], bad, *good[position + 1 :])


def test_no_blocks() -> None:
    code = Kernel(8, 2, 64)
    none = np.zeros((0, 8), np.uint8)
    check = code.encode(none)
    assert check.shape == (0, 2)
    assert code.decode(none, check)[2].shape == (0,)
