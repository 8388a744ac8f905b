"""How often a BCH block is lost, against the binomial formula. Fixed seeds; rates are those of a new one."""

from __future__ import annotations

import numpy as np
import pytest

from memristore.codes.bch import Bch
from memristore.codes.code import BitChannel


def with_errors(rng, rows, bits, p):
    """Rows of bytes with each of their first `bits` bits wrong with probability p, and how many are."""
    wrong = np.zeros((len(rows), 8 * rows.shape[1]), bool)
    count = rng.binomial(len(rows) * bits, p)
    # Drawn with replacement and drawn again until all differ: a uniform set of that size.
    places = np.unique(rng.integers(0, len(rows) * bits, count))
    while len(places) < count:
        places = np.union1d(places, rng.integers(0, len(rows) * bits, count - len(places)))
    wrong[places // bits, places % bits] = True
    return rows ^ np.packbits(wrong, axis=1, bitorder="little"), wrong.sum(1)


@pytest.mark.parametrize("raw_error", [1e-3, 2e-3, 4e-3])
def test_lost_blocks_agree_with_the_formula(raw_error):
    """n = 30,000 blocks of 532 bits, t = 2: within 3.29 standard errors, a false alarm of 0.1 %.

    Losses of 1.6 to 36 %: a bias of 15 % at the first rate and 2.5 % at the last would be seen.
    """
    code, n, rng = Bch(t=2, data_bits=512), 30_000, np.random.default_rng(7)
    clean = rng.integers(0, 256, (n, 64), dtype=np.uint8)
    check = code.encode(clean)
    data, in_data = with_errors(rng, clean, 512, raw_error)
    read, in_check = with_errors(rng, check, code.check_bits, raw_error)
    status = code.decode(data, read)
    lost = (status < 0) | (data != clean).any(1)
    assert np.array_equal(lost, in_data + in_check > 2)
    expected = code.block_error(BitChannel(raw_error, 1.0))
    assert abs(lost.mean() - expected) < 3.29 * np.sqrt(expected * (1 - expected) / n)


def test_the_share_of_words_taken_for_another_code_word():
    """n = 40,000 random words, t = 2: the spheres around code words hold sum C(532, i) / 2^20 = 13.5 % of all words.

    Within 3.29 standard errors (0.6 % of words), a false alarm of 0.1 %.
    """
    code, n, rng = Bch(t=2, data_bits=512), 40_000, np.random.default_rng(8)
    data = rng.integers(0, 256, (n, 64), dtype=np.uint8)
    check = rng.integers(0, 256, (n, 3), dtype=np.uint8)
    share = (code.decode(data, check) >= 0).mean()
    expected = (1 + 532 + 532 * 531 / 2) / 2**20
    assert abs(share - expected) < 3.29 * np.sqrt(expected * (1 - expected) / n)


def test_a_hundred_million_bits_at_the_design_point():
    """t = 11 at a raw error of 1e-4: 24,500 blocks of 4096 bits are lost with probability 1e-9; all come back."""
    code, n, rng = Bch(t=11), 24_500, np.random.default_rng(9)
    clean = rng.integers(0, 256, (n, 512), dtype=np.uint8)
    check = code.encode(clean)
    data, in_data = with_errors(rng, clean, 4096, 1e-4)
    read, in_check = with_errors(rng, check, code.check_bits, 1e-4)
    status = code.decode(data, read)
    assert np.array_equal(status, in_data + in_check)
    assert np.array_equal(data, clean)
    assert np.array_equal(read, check)
    assert status.sum() > 9_000
