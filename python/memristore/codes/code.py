"""The code protocols: analog codes emit planes of symbols, bit codes emit coded words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from memristore.channel import BitChannel
from memristore.config import Configurable

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]

_Bits = TypeVar("_Bits", bound="BitCode")


class PlaneWriter(Protocol):
    """What an encoder may do with cells. Planes are written once, in order."""

    def write(self, values: F32, *, averaged: int = 1, followed: bool = False) -> None:
        """Write values, shape (n,), into the next plane(s).

        `averaged` planes hold the same symbols. `followed` says that later planes will hold what these leave over.
        """

    def alone(self, values: F32, planes: int) -> int:
        """Return how many of `planes` planes should each be followed by one that holds what it leaves over.

        The others repeat what is left then. By the error predicted for the values at the end of the retention time.
        """

    def recover(self) -> F32:
        """Return the unbiased estimate of the values just written, from a verify read of their cells."""

    def predicted(self, values: F32, code: AnalogCode) -> float:
        """Return the mean squared error per value predicted for values stored with another code."""

    def spread(self, values: F32, copies: tuple[int, int], curve: str) -> None:
        """Write each value into two coordinates, of so many planes each, along a curve through the plane."""

    def fold(self, values: F32, copies: int) -> None:
        """Write two values into each symbol of `copies` planes, along a curve through the plane of pairs."""


class PlaneReader(Protocol):
    """What a decoder may do with cells, at one age and read event."""

    @property
    def writes(self) -> int:
        """Writes that the side information tells of, at least 1."""

    def estimate(self, part: int) -> F32:
        """Return the best estimate of the values of the `part`-th write."""

    def recover(self, part: int) -> F32:
        """Return the unbiased estimate of the values of the `part`-th write, as the encoder's verify read gave it."""

    def chained(self) -> F32:
        """Return the best estimate of values whose writes each hold what the one before left over."""

    def spread(self, copies: tuple[int, int]) -> F32:
        """Return the best estimate of values that :meth:`PlaneWriter.spread` wrote."""

    def fold(self, copies: int) -> F32:
        """Return the best estimate of values that :meth:`PlaneWriter.fold` wrote."""


class AnalogCode(Configurable):
    """Redundancy for values: `planes` cells per symbol (times the mapper's cells per symbol)."""

    #: Whether several values or planes are written together, so that windows are not chosen plane by plane.
    joint: ClassVar[bool] = False
    planes: int

    def symbols(self, values: int) -> int:
        """Symbols, hence cells of a plane, for so many values."""
        return values

    def encode(self, values: F32, cells: PlaneWriter) -> None:
        """Write values, shape (n,)."""
        raise NotImplementedError

    def decode(self, cells: PlaneReader) -> F32:
        """Return the estimate of the values."""
        raise NotImplementedError

    def parts(self) -> Sequence[int]:
        """Planes of each write, in order, unless the writer chooses others; they add up to `planes`."""
        raise NotImplementedError

    def layout(self, writes: int) -> Sequence[int]:
        """Planes of each write of a stream whose side information tells of so many writes."""
        return self.parts()

    def with_planes(self, planes: int) -> AnalogCode:
        """Return the same code with another number of planes."""
        return dataclasses.replace(self, planes=planes)  # type: ignore[type-var]


class BitCode(Configurable):
    """Redundancy for bits, in blocks: `data_bits` data bits, then `check_bits` check bits.

    Bits are packed, least significant bit of each byte first; data bits are a multiple of 8, so that a row of bytes is
    data, then check. A family whose parameters are left open (``Bch()``) is valid in a recipe and settled by
    :func:`memristore.sized_for`.
    """

    #: Whether the decoder wants log-likelihood ratios instead of decided bits.
    soft: ClassVar[bool] = False

    @property
    def families(self) -> tuple[BitCode, ...]:
        """Codes to choose from; by default only this one."""
        return (self,)

    @property
    def check_bits(self) -> int:
        """Check bits per block."""
        raise NotImplementedError

    @property
    def block_data_bits(self) -> int:
        """Data bits per block, a multiple of 8."""
        raise NotImplementedError

    @property
    def rate(self) -> float:
        """Data bits over all bits of a block."""
        return self.block_data_bits / (self.block_data_bits + self.check_bits)

    @property
    def measured_floor(self) -> float:
        """Smallest block error that `block_error` does not extrapolate to; 0 where a formula holds throughout."""
        return 0.0

    def encode(self, data: U8, threads: int = 0) -> U8:
        """Return check bytes, shape (blocks, ceil(check_bits / 8)), of data, shape (blocks, data_bits / 8).

        Unused high bits of the last byte are zero.
        """
        raise NotImplementedError

    def decode(self, data: U8, check: U8, threads: int = 0) -> I32:
        """Correct decided bits in place.

        Parameters
        ----------
        data, check : ndarray of uint8, shape (blocks, bytes)

        Returns
        -------
        ndarray, shape (blocks,), int32
            Bits corrected in each block, or -1 where the block is known to be wrong (it is left as it was).
        """
        raise NotImplementedError

    def decode_soft(self, llr: I8, threads: int = 0) -> tuple[U8, I32]:
        """Decode log-likelihood ratios.

        Parameters
        ----------
        llr : ndarray of int8, shape (blocks, data_bits + check_bits)
            ``LLR_STEPS * ln(P(0) / P(1))``, rounded, in [-127, 127].

        Returns
        -------
        data : ndarray of uint8, shape (blocks, data_bits / 8)
        status : ndarray of int32, shape (blocks,)
            Decided bits of the input that were changed, or -1 where a check still fails.
        """
        raise NotImplementedError

    def with_data_bits(self: _Bits, data_bits: int) -> _Bits:
        """Return the code shortened to `data_bits` data bits (a multiple of 8); it has the same check bits."""
        return dataclasses.replace(self, data_bits=data_bits)  # type: ignore[type-var]

    def block_error(self, channel: BitChannel) -> float:
        """Probability that a block does not come back right."""
        raise NotImplementedError

    def candidates(self, channel: BitChannel, block_error: float) -> Iterator[BitCode]:
        """Yield codes of this family, with all parameters settled, that reach a block error on a channel."""
        raise NotImplementedError
