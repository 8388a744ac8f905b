"""The code protocols: analog codes emit planes of symbols, bit codes emit coded words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from memristore.config import Configurable

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

_Code = TypeVar("_Code", bound="AnalogCode")


class PlaneWriter(Protocol):
    """What an encoder may do with cells. Planes are written once, in order."""

    def write(self, values: F32, *, averaged: int = 1, followed: bool = False) -> None:
        """Write values, shape (n,), into the next plane(s).

        `averaged` planes hold the same symbols. `followed` says that later planes will hold what these leave over.
        """

    def recover(self) -> F32:
        """Return the unbiased estimate of the values just written, from a verify read of their cells."""


class PlaneReader(Protocol):
    """What a decoder may do with cells, at one age and read event."""

    def estimate(self, part: int) -> F32:
        """Return the best estimate of the values of the `part`-th write."""

    def recover(self, part: int) -> F32:
        """Return the unbiased estimate of the values of the `part`-th write, as the encoder's verify read gave it."""


class AnalogCode(Configurable):
    """Redundancy for values: `planes` cells per symbol (times the mapper's cells per symbol)."""

    planes: int

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        """Write values, shape (n,)."""
        raise NotImplementedError

    def decode(self, cells: PlaneReader) -> F32:
        """Return the estimate of the values."""
        raise NotImplementedError

    def parts(self) -> Sequence[int]:
        """Planes of each write, in order; they add up to `planes`."""
        raise NotImplementedError

    def with_planes(self: _Code, planes: int) -> _Code:
        """Return the same code with another number of planes."""
        return dataclasses.replace(self, planes=planes)  # type: ignore[type-var]


class BitCode(Configurable):
    """Redundancy for bits, in words of 64 data bits."""

    #: Check bits per 64 data bits.
    check_bits: int

    def encode(self, words: U64, threads: int = 0) -> U8:
        """Return check bytes, shape (n,), of words, shape (n,)."""
        raise NotImplementedError

    def decode(self, words: U64, check: U8, threads: int = 0) -> tuple[int, int]:
        """Correct words in place; return how many were corrected and how many are known to be wrong."""
        raise NotImplementedError

    def block_error(self, bit_error: float) -> float:
        """Probability that a word is not returned right, at a raw bit error rate."""
        raise NotImplementedError
