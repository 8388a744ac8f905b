"""BCH codes: correct up to t wrong bits of a block, with at most m check bits each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.channel import BitChannel
from memristore.codes.code import I32, U8, BitCode
from memristore.config import check_number
from memristore.errors import SpecError

MIN_M, MAX_M, MAX_T = 5, 14, 1024
#: Data bits of a block, where the user names none.
DEFAULT_DATA_BITS = 4096
#: Block lengths that are tried for a code that is not sized, data bits.
DATA_BITS = (512, 1024, 2048, 4096, 8192)


@lru_cache(maxsize=16)
def tables(m: int, t: int) -> _core.BchCode:
    """Tables of a code: 0.1 MB for t = 11 and 0.7 MB for t = 116 at m = 13."""
    return _core.BchCode(m, t)


@lru_cache(maxsize=4096)
def check_bits_of(m: int, t: int) -> int:
    """Degree of the generator polynomial; at most m t, less where conjugacy classes are short or fall together."""
    return _core.bch_check_bits(m, t)


def most_errors(m: int) -> int:
    """Largest t of GF(2^m) that this code takes."""
    return min((1 << (m - 1)) - 1, MAX_T)


def field_for(data_bits: int, t: int) -> int | None:
    """Smallest m of a code with room for the data bits, `None` if there is none."""
    for m in range(MIN_M, MAX_M + 1):
        if t <= most_errors(m) and data_bits + check_bits_of(m, t) < 2**m:
            return m
    return None


def more_than(t: npt.ArrayLike, n: npt.ArrayLike, p: float) -> npt.NDArray[np.float64]:
    """Probability of more than t errors in n bits that are each wrong with probability p.

    The binomial tail as an incomplete beta function (Abramowitz and Stegun, 26.5.24), which keeps its relative accuracy
    down to the smallest float64.
    """
    from scipy.special import betainc

    errors, bits = np.asarray(t, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return np.asarray(betainc(errors + 1.0, bits - errors, p), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Bch(BitCode):
    """Binary narrow-sense primitive BCH code, shortened and systematic; corrects any t wrong bits of a block.

    Parameters
    ----------
    t : int, optional
        Bits corrected per block, 1 to 1024. Without it the code is a family to be sized for a channel.
    data_bits : int, optional
        Data bits of a block, a multiple of 8. 4096 where t is given without it; a family without it is free in it.
    m : int, optional
        Works over GF(2^m), 5 to 14: blocks have up to 2^m - 1 bits. The smallest that fits where it is not given.

    Raises
    ------
    SpecError
        For numbers out of range, and where the block has no room in GF(2^m).

    Notes
    -----
    The generator is the product of the distinct minimal polynomials of a, a^3, ..., a^(2t - 1), with a root of
    x^5+x^2+1, x^6+x+1, x^7+x^3+1, x^8+x^4+x^3+x^2+1, x^9+x^4+1, x^10+x^3+1, x^11+x^2+1, x^12+x^6+x^4+x+1,
    x^13+x^4+x^3+x+1 or x^14+x^10+x^6+x+1 (Lin and Costello, Error Control Coding, 2nd edition, 2004, chapter 6 and
    table 2.7). Check bit i is the coefficient of x^i, data bit i that of x^(check_bits + i).

    A block with more than t errors is either reported (status -1) or taken for another code word. The second happens
    to about the share of all words that lie within t of a code word, which is near C(n, t) / 2^check_bits for n-bit
    blocks and at most about 1/t!; shortening makes it smaller. `block_error` counts both.
    """

    name: ClassVar[str] = "bch"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"t": 11}, {"t": 3, "data_bits": 64}, {"t": 2, "m": 14})
    t: int | None = None
    data_bits: int | None = None
    m: int | None = None

    def __post_init__(self) -> None:
        if self.m is not None:
            check_number(self.name, "m", self.m, MIN_M, MAX_M, integer=True)
        if self.data_bits is not None:
            check_number(self.name, "data_bits", self.data_bits, 8, 2 ** (self.m or MAX_M) - 1, integer=True)
            if self.data_bits % 8:
                raise SpecError(f"{self.name}: data_bits must be a multiple of 8, not {self.data_bits}")
        if self.t is None:
            return
        check_number(self.name, "t", self.t, 1, most_errors(self.m or MAX_M), integer=True)
        if self.data_bits is None:
            object.__setattr__(self, "data_bits", DEFAULT_DATA_BITS)
        self._shape()

    def _shape(self) -> tuple[int, int, int]:
        """m, t and data bits of a concrete code."""
        if self.t is None or self.data_bits is None:
            raise SpecError("bch: has no t yet; name one, as in Bch(t=11), or let sized_for find it for a channel")
        m = self.m or field_for(self.data_bits, self.t)
        if m is None or self.data_bits + check_bits_of(m, self.t) >= 2**m:
            raise SpecError(
                f"bch: {self.data_bits} data bits and the check bits of t = {self.t} do not fit into the "
                f"{2 ** (m or MAX_M) - 1} bits of a block over GF(2^{m or MAX_M}); take fewer data bits, a smaller t"
                + ("" if m in {None, MAX_M} else " or a larger m")
            )
        return m, self.t, self.data_bits

    @property
    def block_data_bits(self) -> int:
        return self._shape()[2]

    @property
    def field_degree(self) -> int:
        """The m in use."""
        return self._shape()[0]

    @property
    def check_bits(self) -> int:
        m, t, _ = self._shape()
        return check_bits_of(m, t)

    @property
    def overhead(self) -> float:
        """Check bits per data bit."""
        return self.check_bits / self._shape()[2]

    def _check(self, what: str, rows: U8, width: int, blocks: int | None = None) -> None:
        if rows.dtype != np.uint8 or not rows.flags.c_contiguous:
            raise SpecError(f"bch: {what} must be C-contiguous uint8, not {rows.dtype}; convert it first")
        if rows.ndim != 2 or rows.shape[1] != width or blocks not in {None, rows.shape[0]}:
            wanted = "blocks" if blocks is None else blocks
            raise SpecError(f"bch: {what} must have shape ({wanted}, {width}), not {rows.shape}")

    def encode(self, data: U8, threads: int = 0) -> U8:
        m, t, data_bits = self._shape()
        self._check("data", data, data_bits // 8)
        check = np.empty((data.shape[0], (self.check_bits + 7) // 8), dtype=np.uint8)
        _core.bch_encode(tables(m, t), data_bits, data.reshape(-1), check.reshape(-1), threads)
        return check

    def decode(self, data: U8, check: U8, threads: int = 0) -> I32:
        m, t, data_bits = self._shape()
        self._check("data", data, data_bits // 8)
        self._check("check", check, (self.check_bits + 7) // 8, data.shape[0])
        status = np.empty(data.shape[0], dtype=np.int32)
        _core.bch_decode(tables(m, t), data_bits, data.reshape(-1), check.reshape(-1), status, threads)
        return status

    def decode_soft(self, llr: npt.NDArray[np.int8], threads: int = 0) -> tuple[U8, I32]:
        raise SpecError("bch: decodes hard decisions only; take their signs and call decode")

    def with_data_bits(self, data_bits: int) -> Bch:
        if data_bits > self._shape()[2]:
            raise SpecError(f"bch: a shortened code has at most {self.data_bits} data bits, not {data_bits}")
        return dataclasses.replace(self, data_bits=data_bits, m=self.field_degree)

    def block_error(self, channel: BitChannel) -> float:
        """Probability of more than t wrong bits in a block: exact where bits are wrong independently of each other."""
        check_number(self.name, "raw_error", channel.raw_error, 0.0, 1.0)
        _, t, data_bits = self._shape()
        return float(more_than(t, data_bits + self.check_bits, channel.raw_error))

    def candidates(self, channel: BitChannel, block_error: float) -> Iterator[Bch]:
        """Yield the code itself if it has a t, else the least t of each block length, highest rate first.

        Codes with more check bits than data bits are left out: several cells per bit do better.
        """
        check_number(self.name, "raw_error", channel.raw_error, 0.0, 1.0)
        check_number(self.name, "block_error", block_error, 0.0, 1.0, open_low=True)
        if self.t is not None:
            if self.block_error(channel) <= block_error:
                yield self
            return
        lengths = DATA_BITS if self.data_bits is None else (self.data_bits,)
        found = [code for length in lengths if (code := self._least(length, channel.raw_error, block_error))]
        yield from sorted(found, key=lambda code: code.overhead)

    def _least(self, data_bits: int, raw_error: float, block_error: float) -> Bch | None:
        """The code with the least t that reaches a block error."""
        for m in range(MIN_M, MAX_M + 1) if self.m is None else (self.m,):
            room = min(data_bits, 2**m - 1 - data_bits)
            fits: list[int] = []
            while len(fits) < most_errors(m) and (check_bits := check_bits_of(m, len(fits) + 1)) <= room:
                fits.append(check_bits)
            errors = np.arange(1, len(fits) + 1)
            good = np.flatnonzero(more_than(errors, data_bits + np.array(fits), raw_error) <= block_error)
            if good.size:
                return dataclasses.replace(self, t=int(errors[good[0]]), data_bits=data_bits, m=m)
        return None
