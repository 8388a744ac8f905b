"""LDPC codes against their definition, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from memristore import _core
from memristore.channel import BitChannel
from memristore.codes.ldpc import Ldpc, table
from memristore.errors import SpecError
from oracle import ldpc as oracle

SHORT = [base for base in table() if base.length == "short"]
LONG = [base for base in table() if base.length == "long"]


def as_oracle(code: Ldpc) -> oracle.Base:
    return oracle.Base(code.base.z, code.base.rows)


def sent(code: Ldpc, blocks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random data, and the bits of the code words."""
    data = rng.integers(0, 256, (blocks, code.block_data_bits // 8), dtype=np.uint8)
    return data, oracle.unpack(np.concatenate([data, code.encode(data)], axis=1))


def heard(bits: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Likelihood ratios over Gaussian noise."""
    y = 1 - 2 * bits + sigma * rng.standard_normal(bits.shape)
    return np.clip(np.rint(8 * 2 * y / sigma**2), -127, 127).astype(np.int8)


@pytest.mark.parametrize("base", [*SHORT, *LONG], ids=lambda b: f"{b.length}-{b.rate}")
def test_code_words_satisfy_all_checks(base, threads):
    code = Ldpc(design_rate=base.rate, length=base.length)
    rng = np.random.default_rng(1)
    _, bits = sent(code, 3, rng)
    words = bits.reshape(len(bits), -1, base.z)
    for row in base.rows:
        checks = sum(np.roll(words[:, column], -shift, axis=1) for column, shift in row)
        assert not (checks % 2).any()
    data = np.zeros((1, code.block_data_bits // 8), np.uint8)
    assert not code.encode(data, threads).any()
    few = rng.integers(0, 256, (5, code.block_data_bits // 8), dtype=np.uint8)
    assert np.array_equal(code.encode(few, threads), np.concatenate([code.encode(few[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("base", [*SHORT, *LONG], ids=lambda b: f"{b.length}-{b.rate}")
def test_base_matrices_have_no_short_cycles(base):
    # Two columns that meet in two rows at the same distance would close a cycle of four.
    seen = set()
    by_column: dict[int, list[tuple[int, int]]] = {}
    for r, row in enumerate(base.rows):
        for column, shift in row:
            by_column.setdefault(column, []).append((r, shift))
    for entries in by_column.values():
        for i, (r1, s1) in enumerate(entries):
            for r2, s2 in entries[i + 1 :]:
                key = (r1, r2, (s1 - s2) % base.z)
                assert key not in seen
                seen.add(key)
    assert min(len(entries) for c, entries in by_column.items() if c <= base.columns - len(base.rows)) >= 3


@pytest.mark.parametrize(
    ("base", "sigma", "data_bits"),
    [(SHORT[-1], 0.86, None), (SHORT[len(SHORT) // 2], 0.6, None), (SHORT[0], 0.4, None), (SHORT[-1], 1.1, 136)],
    ids=["low rate", "middle rate", "high rate", "shortened"],
)
def test_decoder_matches_its_definition(base, sigma, data_bits, isa):
    code = Ldpc(design_rate=base.rate, length="short", data_bits=data_bits, iterations=6, attempts=4)
    rng = np.random.default_rng(2)
    _, bits = sent(code, 6, rng)
    llr = heard(bits, sigma, rng)
    llr[0] = rng.integers(-128, 128, llr.shape[1])  # nothing to find
    llr[1, ::5] = 0  # erasures
    data, status = code.decode_soft(llr)
    wanted, wanted_status = oracle.decode(as_oracle(code), llr, code.block_data_bits, 6, 4)
    assert np.array_equal(data, wanted)
    assert np.array_equal(status, wanted_status)
    assert status[0] == -1


def test_levels_and_threads_give_the_same_bits():
    rng = np.random.default_rng(3)
    for base in (SHORT[-1], SHORT[0], LONG[len(LONG) // 2]):
        code = Ldpc(design_rate=base.rate, length=base.length)
        llr = rng.integers(-40, 60, (7, code.block_data_bits + code.check_bits)).astype(np.int8)
        seen = []
        before = _core.isa()
        for isa in _core.isa_available():
            _core.set_isa(isa)
            seen += [code.decode_soft(llr, threads) for threads in (1, 2, 3)]
        _core.set_isa(before)
        for data, status in seen[1:]:
            assert np.array_equal(data, seen[0][0])
            assert np.array_equal(status, seen[0][1])


@pytest.mark.parametrize("base", [*SHORT[::4], LONG[0], LONG[-1]], ids=lambda b: f"{b.length}-{b.rate}")
def test_decodes_noise_erasures_and_shortened_blocks(base, threads):
    rng = np.random.default_rng(4)
    for data_bits in (None, 8, 8 * (base.data_bits // 24)):
        code = Ldpc(design_rate=base.rate, length=base.length, data_bits=data_bits)
        data, bits = sent(code, 3, rng)
        llr = np.where(bits, -30, 30).astype(np.int8)
        llr[0, rng.random(llr.shape[1]) < 0.2 * (1 - base.rate)] = 0
        flipped = rng.random(llr.shape[1]) < 0.015 * (1 - base.rate)
        llr[1, flipped] *= -1
        got, status = code.decode_soft(llr, threads)
        assert np.array_equal(got, data)
        assert status[0] == np.count_nonzero((llr[0] == 0) & (bits[0] == 1))
        assert status[1] == np.count_nonzero(flipped)
        assert status[2] == 0


def test_hard_decisions_are_corrected_in_place_or_left():
    code = Ldpc(design_rate=0.5, length="short")
    rng = np.random.default_rng(5)
    data, _ = sent(code, 3, rng)
    check = code.encode(data)
    wrong, wrong_check = data.copy(), check.copy()
    wrong[0, [3, 50]] ^= 17
    wrong_check[0, 9] ^= 1
    wrong[1] = rng.integers(0, 256, data.shape[1])
    before = wrong.copy()
    status = code.decode(wrong, wrong_check)
    assert status.tolist() == [5, -1, 0]
    assert np.array_equal(wrong[[0, 2]], data[[0, 2]])
    assert np.array_equal(wrong_check, check)
    assert np.array_equal(wrong[1], before[1])


def test_settings():
    code = Ldpc(design_rate=2 / 3)
    assert code == Ldpc(design_rate=0.6667, length="long") == Ldpc.from_dict(code.to_dict())
    assert code.block_data_bits == code.base.data_bits
    assert code.rate == pytest.approx(2 / 3, abs=1e-4)
    short = code.with_data_bits(800)
    assert (short.check_bits, short.block_data_bits) == (code.check_bits, 800)
    for bad in (
        {"design_rate": 0.62, "length": "long"},
        {"design_rate": 2.0},
        {"length": "medium"},
        {"data_bits": 800},
        {"design_rate": 0.5, "data_bits": 12},
        {"design_rate": 0.5, "data_bits": 1 << 20},
        {"design_rate": 0.5, "iterations": 0},
        {"design_rate": 0.5, "attempts": 0},
    ):
        with pytest.raises(SpecError):
            Ldpc(**bad)
    free = Ldpc()
    for use in (lambda: free.check_bits, lambda: free.rate, lambda: free.block_error(BitChannel(0.1, 0.5))):
        with pytest.raises(SpecError, match="sized_for"):
            use()
    with pytest.raises(SpecError, match="40 iterations"):
        Ldpc(design_rate=0.5, iterations=5).block_error(BitChannel(0.1, 0.5))


def test_candidates_reach_their_target():
    found = list(Ldpc().candidates(BitChannel(0.02, 0.86), 1e-3))
    assert {code.length for code in found} == {"short", "long"}
    assert all(code.block_error(BitChannel(0.02, 0.86)) <= 1e-3 for code in found)
    # Far below what was measured only long codes are trusted.
    assert {code.length for code in Ldpc().candidates(BitChannel(0.02, 0.86), 1e-12)} == {"long"}
    rates = [code.design_rate for code in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < 0.86
    assert all(code.length == "short" for code in Ldpc(length="short").candidates(BitChannel(0.02, 0.86), 1e-9))
    assert not list(Ldpc().candidates(BitChannel(0.3, 0.1), 1e-9))
    # Where the waterfall is long past, the lightest known words are left.
    code = Ldpc(design_rate=0.9, length="short")
    past = code.base.midpoint + 7.3 * code.base.spread
    assert 1e-12 < code.block_error(BitChannel(0.0, past)) < 1e-7
    # Better cells never make a block worse.
    errors = [found[0].block_error(BitChannel(0.0, i)) for i in np.linspace(0, 1, 50)]
    assert errors == sorted(errors, reverse=True)


def test_bad_buffers():
    code = Ldpc(design_rate=0.5, length="short")
    n = code.block_data_bits + code.check_bits
    with pytest.raises(SpecError, match="shape"):
        code.decode_soft(np.zeros((2, n - 1), np.int8))
    with pytest.raises(SpecError, match="shape"):
        code.encode(np.zeros((2, 3), np.uint8))
    with pytest.raises(TypeError, match="dtype"):
        code.decode_soft(np.zeros((2, n), np.int16))
    with pytest.raises(ValueError, match="threads"):
        code.decode_soft(np.zeros((2, n), np.int8), -1)
    assert code.encode(np.zeros((0, code.block_data_bits // 8), np.uint8)).shape == (0, code.check_bits // 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": 63}, "multiple of 64"),
        ({"row_start": [0, 3, 9]}, "number of entries"),
        ({"row_start": [0, 0, 8]}, "entries"),
        ({"shift": [5, 1, 0, 64, 9, 0, 1, 0]}, "below z"),
        ({"column": [1, 0, 2, 3, 0, 1, 2, 3]}, "rise along a row"),
        ({"shift": [5, 1, 0, 0, 9, 0, 1, 3]}, "dual diagonal"),
        ({"shift": [5, 1, 2, 0, 9, 0, 1, 0]}, "first check column"),
        ({"columns": 2}, "more than the rows"),
    ],
)
def test_base_matrices_are_checked(change, message):
    # Two rows cannot hold three entries of the first check column, so that even the unchanged matrix is refused.
    given = {
        "z": 64,
        "columns": 4,
        "row_start": [0, 4, 8],
        "column": [0, 1, 2, 3, 0, 1, 2, 3],
        "shift": [5, 1, 1, 0, 9, 0, 1, 0],
    } | change
    with pytest.raises(ValueError, match=message):
        _core.Ldpc(
            given["z"],
            given["columns"],
            np.array(given["row_start"], np.uint32),
            np.array(given["column"], np.uint16),
            np.array(given["shift"], np.uint16),
        )
