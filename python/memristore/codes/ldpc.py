"""LDPC: low-density parity-check codes decoded from log-likelihood ratios; near capacity, detected failures."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, Final

import numpy as np
from scipy.stats import norm

from memristore import _core
from memristore.channel import BitChannel
from memristore.codes.code import I8, I32, U8, BitCode
from memristore.config import check_number
from memristore.errors import SpecError

LENGTHS: Final = ("short", "long")
#: Iterations and attempts with which the block errors of the table were measured.
ITERATIONS: Final[int] = 40
ATTEMPTS: Final[int] = 8
#: More attempts cost time only where a block fails, and save most of those: with 8, four of 86,868 blocks were lost on
#: cells (8 levels, rate 0.70, pcm-ibm-90nm and pcm-partial-reset after a year) where the law says 1e-7; with 64, none.
DEFAULT_ATTEMPTS: Final[int] = 64
#: What `decode` takes decided bits for: 3 nats, a raw error rate of 5 %.
_DECIDED: Final[int] = 24
#: How far a rate may be from the one it names.
_RATE_TOLERANCE: Final[float] = 2e-3


@dataclass(frozen=True)
class Base:
    """A base matrix of the table, and how well it decodes.

    Parameters
    ----------
    length : str
        Family: ``short`` (about 2,000 bits) or ``long`` (about 32,000).
    rate : float
        Data bits over all bits, to four digits.
    z : int
        Size of the cyclic shifts.
    rows : tuple of tuple of (int, int)
        Column and shift of each entry, by row; the last ``len(rows)`` columns are the dual diagonal of the check bits.
    information, block_error : tuple of float
        Mean mutual information per coded bit over BI-AWGN, and the share of blocks that came back wrong there.
    midpoint, spread : float
        The waterfall is ``Q((information - midpoint) / spread)``.
    lightest : tuple of int
        Least weight of the code words that were found by a search, and how many have it, up to rotations.
    """

    length: str
    rate: float
    z: int
    lightest: tuple[int, int]
    rows: tuple[tuple[tuple[int, int], ...], ...]
    information: tuple[float, ...]
    block_error: tuple[float, ...]
    midpoint: float
    spread: float

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Base:
        """Read an entry of the table: rows are texts like ``"0:17 3:5"``, column and shift."""
        pairs = [[entry.split(":") for entry in row.split()] for row in data["rows"]]
        rows = tuple(tuple((int(column), int(shift)) for column, shift in row) for row in pairs)
        lists = {key: tuple(map(float, data[key])) for key in ("information", "block_error")}
        weight, count = data["lightest"]
        return cls(**{**data, "rows": rows, "lightest": (int(weight), int(count)), **lists})

    @property
    def columns(self) -> int:
        """Block columns, data and check."""
        return 1 + max(column for row in self.rows for column, _ in row)

    @property
    def check_bits(self) -> int:
        """Check bits of a block."""
        return len(self.rows) * self.z

    @property
    def data_bits(self) -> int:
        """Data bits of a block that is not shortened."""
        return self.columns * self.z - self.check_bits


@functools.cache
def table() -> tuple[Base, ...]:
    """Return all base matrices, highest rate first."""
    text = resources.files("memristore.codes").joinpath("ldpc.json").read_text(encoding="utf-8")
    return tuple(sorted(map(Base.from_dict, json.loads(text)["codes"]), key=lambda base: -base.rate))


@functools.cache
def _kernel(length: str, rate: float) -> _core.Ldpc:
    (base,) = (b for b in table() if b.length == length and b.rate == rate)
    start = np.cumsum([0, *map(len, base.rows)], dtype=np.uint32)
    column, shift = (np.array([e[i] for row in base.rows for e in row], dtype=np.uint16) for i in (0, 1))
    return _core.Ldpc(base.z, base.columns, start, column, shift)


@dataclass(frozen=True, kw_only=True)
class Ldpc(BitCode):
    """Quasi-cyclic irregular repeat-accumulate code, layered decoding with 8-bit messages.

    Parameters
    ----------
    design_rate : float, optional
        Rate of the code before it is shortened, one of the table's (0.5 to about 0.97). Not given: any, to be settled
        by :func:`memristore.sized_for`.
    length : str, optional
        ``short`` (blocks of about 2,000 bits) or ``long`` (about 32,000 bits, closer to capacity). Not given: any where
        the rate is open, else ``long``.
    data_bits : int, optional
        Data bits per block, a multiple of 8; fewer than the code holds shorten it. By default all that it holds.
    iterations : int
        After so many an attempt ends.
    attempts : int
        The decoder gives up after so many. Attempts after the first hear slightly disturbed likelihood ratios.

    Notes
    -----
    Check messages follow the A-min* rule (Jones, Valles, Smith and Villasenor, MILCOM 2003) in steps of a quarter nat,
    which costs less than 0.05 dB beside floating-point belief propagation.

    `block_error` maps the mean mutual information between a coded bit and its log-likelihood ratio to the share of
    blocks lost. ``Q((information - midpoint) / spread)`` is fitted to simulations over BI-AWGN with 40 iterations and 8
    attempts. What the lightest known code words cost is added, each ``Q(sqrt(weight) m / 2)`` with m the standard
    deviation of the likelihood ratios over the BI-AWGN channel of that information. Where the law says 1e-2, Gray-coded
    levels lose what it says within a factor of five; bits read with two comparators do so up to rate 0.75, at rate 0.9
    they lose ten times as many.

    Below `measured_floor` the law is an extrapolation, and an optimistic one for short codes: at rate 1/2 a few blocks
    in a million are lost 1.9 dB from capacity, where it says 1e-8 (detected, all of them). Long codes of rate 1/2 lost
    none of 16,000 blocks 0.7 and 0.85 dB from capacity. A shortened code is taken to be no better than the whole one,
    which is cautious. Lost blocks are detected, but for the rare one that is closer to another code word.
    """

    name: ClassVar[str] = "ldpc"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"design_rate": 0.75, "length": "short"})
    soft: ClassVar[bool] = True
    design_rate: float | None = None
    length: str | None = None
    data_bits: int | None = None
    iterations: int = ITERATIONS
    attempts: int = DEFAULT_ATTEMPTS

    def __post_init__(self) -> None:
        check_number(self.name, "iterations", self.iterations, 1, 10_000, integer=True)
        check_number(self.name, "attempts", self.attempts, 1, 1_000, integer=True)
        if self.length is not None and self.length not in LENGTHS:
            raise SpecError(f"ldpc: length must be one of {', '.join(LENGTHS)}, not {self.length!r}")
        if self.design_rate is None:
            if self.data_bits is not None:
                raise SpecError("ldpc: data_bits needs a design_rate; without one, the sizing chooses both")
            return
        check_number(self.name, "design_rate", self.design_rate, 0, 1)
        object.__setattr__(self, "length", self.length or "long")
        bases = [base for base in table() if base.length == self.length]
        nearest = min(bases, key=lambda base: abs(base.rate - float(self.design_rate or 0)))
        if abs(nearest.rate - self.design_rate) > _RATE_TOLERANCE:
            rates = ", ".join(f"{base.rate:g}" for base in reversed(bases))
            raise SpecError(f"ldpc: no {self.length} code has rate {self.design_rate:g}; there are {rates}")
        object.__setattr__(self, "design_rate", nearest.rate)
        if self.data_bits is None:
            object.__setattr__(self, "data_bits", nearest.data_bits)
        check_number(self.name, "data_bits", self.data_bits, 8, nearest.data_bits, integer=True)
        if self.block_data_bits % 8:
            raise SpecError(f"ldpc: data_bits must be a multiple of 8, not {self.data_bits}")

    @property
    def base(self) -> Base:
        """The base matrix; raises `SpecError` where the rate is still open."""
        for base in table():
            if (base.length, base.rate) == (self.length, self.design_rate):
                return base
        raise SpecError("ldpc: no design_rate is chosen yet; use memristore.sized_for(Ldpc(), device, retention).code")

    @property
    def block_data_bits(self) -> int:
        return self.base.data_bits if self.data_bits is None else self.data_bits

    @property
    def check_bits(self) -> int:
        return self.base.check_bits

    @property
    def measured_floor(self) -> float:
        return min(self.base.block_error)

    def _core(self) -> _core.Ldpc:
        base = self.base
        return _kernel(base.length, base.rate)

    def encode(self, data: U8, threads: int = 0) -> U8:
        check = np.empty((data.shape[0], self.check_bits // 8), dtype=np.uint8)
        self._core().encode(_rows(data, self.block_data_bits // 8), self.block_data_bits, check.reshape(-1), threads)
        return check

    def decode_soft(self, llr: I8, threads: int = 0) -> tuple[U8, I32]:
        flat = _rows(llr, self.block_data_bits + self.check_bits)
        data = np.empty((llr.shape[0], self.block_data_bits // 8), dtype=np.uint8)
        status = np.empty(llr.shape[0], dtype=np.int32)
        self._core().decode(
            flat, self.block_data_bits, self.iterations, self.attempts, data.reshape(-1), status, threads
        )
        return data, status

    def decode(self, data: U8, check: U8, threads: int = 0) -> I32:
        bits = np.unpackbits(np.concatenate([data, check], axis=1), axis=1, bitorder="little")
        found, status = self.decode_soft(np.where(bits, -_DECIDED, _DECIDED).astype(np.int8), threads)
        good = status >= 0
        data[good] = found[good]
        check[good] = self.encode(found[good], threads)
        return status

    def block_error(self, channel: BitChannel) -> float:
        if self.iterations < ITERATIONS or self.attempts < ATTEMPTS:
            raise SpecError(
                f"ldpc: block errors are known for {ITERATIONS} iterations and {ATTEMPTS} attempts or more, not for "
                f"{self.iterations} and {self.attempts}"
            )
        base = self.base
        waterfall = norm.sf((channel.information - base.midpoint) / base.spread)
        weight, count = base.lightest
        floor = base.z * count * norm.sf(math.sqrt(weight) * _ratio_spread(channel.information) / 2)
        return float(min(1.0, waterfall + floor))

    def candidates(self, channel: BitChannel, block_error: float) -> Iterator[BitCode]:
        if self.design_rate is not None:
            if self.block_error(channel) <= block_error:
                yield self
            return
        for base in table():
            # Short codes show error floors that the law does not know; they are not sized by extrapolating it.
            floored = base.length == "short" and block_error < min(base.block_error)
            if self.length not in (None, base.length) or floored:
                continue
            code = Ldpc(design_rate=base.rate, length=base.length, iterations=self.iterations, attempts=self.attempts)
            if code.block_error(channel) <= block_error:
                yield code


def _ratio_spread(information: float) -> float:
    """Return the standard deviation, in nats, of the likelihood ratios over the BI-AWGN channel of an information.

    By the fit of Brannstrom, Rasmussen and Grant, IEEE Trans. Inf. Theory 51, 3354 (2005).
    """
    if information <= 0.0:
        return 0.0
    if information >= 1.0:
        return math.inf
    return float((-math.log2(1.0 - information ** (1.0 / 1.1064)) / 0.3073) ** (1.0 / (2.0 * 0.8935)))


def _rows(array: np.ndarray, width: int) -> np.ndarray:
    """Flatten an array of shape (blocks, width), which the kernels take as one row."""
    if array.ndim != 2 or array.shape[1] != width:
        raise SpecError(f"ldpc: blocks must have shape (blocks, {width}), not {array.shape}")
    return np.ascontiguousarray(array).reshape(-1)
