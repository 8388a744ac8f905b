"""The BCH code as a part: settings, sizing, shortening, and what it refuses."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import comb

import numpy as np
import pytest

import memristore as ms
from memristore.codes.bch import Bch, check_bits_of, more_than
from memristore.codes.code import BitChannel


def channel(raw_error: float) -> BitChannel:
    return BitChannel(raw_error=raw_error, information=1.0)


def test_sizes_follow_from_the_settings():
    code = Bch(t=11)
    assert (code.data_bits, code.field_degree, code.check_bits) == (4096, 13, 143)
    assert Bch(t=1, data_bits=8).field_degree == 5
    assert Bch(t=1, data_bits=8, m=9).check_bits == 9
    # 2^13 - 1 has no room for 8192 data bits, nor for 4096 beside 4200 check bits.
    assert Bch(t=2, data_bits=8192).field_degree == 14
    assert Bch(t=400, data_bits=4096).field_degree == 14
    # Classes that fall together cost no check bits: 129 is in the class of 65.
    assert Bch(t=64, m=13).check_bits == Bch(t=65, m=13).check_bits == 64 * 13
    assert Bch.from_dict(code.to_dict()) == code
    assert Bch.from_dict(Bch().to_dict()) == Bch()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"t": 0}, "t must be an integer"),
        ({"t": 2000}, "t must be an integer"),
        ({"t": 16, "m": 5}, "t must be an integer"),
        ({"t": 2.0}, "t must be an integer"),
        ({"m": 4}, "m must be an integer"),
        ({"m": 15}, "m must be an integer"),
        ({"data_bits": 12}, "multiple of 8"),
        ({"data_bits": 0}, "data_bits must be"),
        ({"data_bits": 32, "m": 5}, "data_bits must be"),
        ({"t": 2, "data_bits": 24, "m": 5}, "do not fit into the 31 bits"),
        ({"t": 11, "data_bits": 4000, "m": 12}, "do not fit into the 4095 bits.* or a larger m"),
        ({"t": 1000, "data_bits": 16000}, "do not fit"),
    ],
    ids=str,
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ms.SpecError, match=message):
        Bch(**settings)


def test_a_family_wants_to_be_sized():
    calls = [
        lambda: Bch().check_bits,
        lambda: Bch(data_bits=64).encode(np.zeros((1, 8), np.uint8)),
        lambda: Bch().block_error(channel(1e-3)),
        lambda: Bch().with_data_bits(64),
    ]
    for call in calls:
        with pytest.raises(ms.SpecError, match="sized_for"):
            call()


@pytest.mark.parametrize("data_bits", [8, 640, 4088, 4096])
def test_blocks_go_there_and_back(data_bits, threads):
    code = Bch(t=5).with_data_bits(data_bits)
    assert (code.check_bits, code.field_degree, code.data_bits) == (65, 13, data_bits)
    rng = np.random.default_rng(data_bits)
    clean = rng.integers(0, 256, (300, data_bits // 8), dtype=np.uint8)
    check = code.encode(clean, threads)
    assert check.shape == (300, 9)
    data = clean.copy()
    data[:, 0] ^= 0b10110
    assert np.array_equal(code.decode(data, check, threads), np.full(300, 3))
    assert np.array_equal(data, clean)
    # A shortened code's check bits are those of the long block with zeros at its end.
    longer = np.zeros((300, 512), np.uint8)
    longer[:, : data_bits // 8] = clean
    assert np.array_equal(Bch(t=5).encode(longer), check)


def test_arrays_are_checked():
    code = Bch(t=2, data_bits=64)
    data, check = np.zeros((4, 8), np.uint8), np.zeros((4, 2), np.uint8)
    for bad in (data[:, :7], data.reshape(-1), data.astype(np.int8), data[::2].repeat(2, axis=1)[:, ::2]):
        with pytest.raises(ms.SpecError, match="data must"):
            code.encode(bad)
    with pytest.raises(ms.SpecError, match="check must have shape \\(4, 2\\)"):
        code.decode(data, check[:3])
    data.flags.writeable = False
    with pytest.raises(TypeError, match="data: must be writable"):
        code.decode(data, check)
    with pytest.raises(ms.SpecError, match="hard decisions"):
        code.decode_soft(np.zeros((1, 78), np.int8))
    with pytest.raises(ms.SpecError, match="at most 64"):
        code.with_data_bits(72)


@pytest.mark.parametrize(
    ("raw_error", "t", "overhead", "rounded_t"),
    [
        (1e-6, 4, 0.013, 4),
        (1e-5, 6, 0.019, 6),
        (1e-4, 11, 0.035, 11),
        (1e-3, 26, 0.083, 26),
        (3e-3, 48, 0.152, 48),
        (1e-2, 115, 0.359, 116),
        (2e-2, 226, 0.670, 233),
    ],
)
def test_sizes_at_a_block_error_of_1e_12(raw_error, t, overhead, rounded_t):
    """The least t for 4096 data bits. Counting m check bits per error, as is often done, asks for `rounded_t`."""
    (code,) = Bch(data_bits=4096).candidates(channel(raw_error), 1e-12)
    assert (code.t, code.field_degree) == (t, 13)
    assert code.check_bits / 4096 == pytest.approx(overhead, abs=5e-4)
    assert code.block_error(channel(raw_error)) <= 1e-12
    assert Bch(t=t - 1, m=13).block_error(channel(raw_error)) > 1e-12
    plain = [bool(more_than(k, 4096 + 13 * k, raw_error) <= 1e-12) for k in (rounded_t - 1, rounded_t)]
    assert plain == [False, True]


def test_candidates_of_free_and_fixed_families():
    sizes = [(c.data_bits, c.t) for c in Bch().candidates(channel(1e-3), 1e-12)]
    assert sizes == [(8192, 36), (4096, 26), (2048, 19), (1024, 15), (512, 12)]
    for code in Bch().candidates(channel(2e-2), 1e-12):
        assert code.check_bits <= code.data_bits
        assert code.block_error(channel(2e-2)) <= 1e-12
    assert [c.t for c in Bch(m=14, data_bits=64).candidates(channel(1e-3), 1e-6)] == [4]
    assert not list(Bch(m=14, data_bits=64).candidates(channel(1e-3), 1e-9))
    assert not list(Bch().candidates(channel(0.2), 1e-12))
    assert list(Bch(t=11).candidates(channel(1e-4), 1e-12)) == [Bch(t=11)]
    assert not list(Bch(t=11).candidates(channel(1e-3), 1e-12))
    with pytest.raises(ms.SpecError, match="raw_error"):
        list(Bch().candidates(channel(1.5), 1e-12))


@pytest.mark.parametrize(("t", "n", "p"), [(11, 4239, 1e-4), (4, 4148, 1e-6), (2, 532, 1e-3), (100, 5000, 1e-3)])
def test_binomial_tails_are_exact(t, n, p):
    """Against the sum of its terms with 50 digits: 1e-12 relative, at tails of 1e-2 to 1e-92."""
    with localcontext() as context:
        context.prec = 50
        wrong = Decimal(p)
        exact = sum(comb(n, k) * wrong**k * (1 - wrong) ** (n - k) for k in range(t + 1, t + 20))
    assert float(more_than(t, n, p)) == pytest.approx(float(exact), rel=1e-12)


def test_no_errors_and_only_errors():
    code = Bch(t=3, data_bits=64)
    assert code.block_error(channel(0.0)) == 0.0
    assert code.block_error(channel(1.0)) == 1.0
    assert check_bits_of(5, 15) == 30
