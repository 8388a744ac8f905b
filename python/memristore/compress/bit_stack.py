"""Stacks of one-bit residual blocks: signs and a low-rank magnitude each; any prefix of the stack is a network."""

from __future__ import annotations

import fnmatch
import heapq
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.compress.factors import (
    from_halves,
    from_matrix,
    leading,
    matrix_shape,
    named_numbers,
    product,
    to_halves,
    to_matrix,
    whole_words,
)
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Most blocks of a tensor.
MAX_BLOCKS: Final = 32
#: A block's factors are at most one for so many weights.
_SHARE: Final = 8
#: Share of the energy below which there is nothing left but the rounding of float32.
_ENOUGH: Final = 1e-13
_SIGNS, _FACTORS, _COUNT = "signs", "factors", "count"


@dataclass(frozen=True, kw_only=True)
class BitStack(Compressor):
    """Write each matrix as a sum of blocks, a sign for each weight times a magnitude of low rank.

    A block takes the signs of what the blocks before it left over, and the best approximation of its magnitudes by
    `rank` outer products; conv kernels are matrices of output channels by the rest. ``w`` becomes ``w/count``, one
    byte with their number; for block j ``w/signs<j>``, one bit per weight, and ``w/factors<j>``. Every block lowers the
    squared error, by the squared norm of its magnitudes. Tensors of fewer than two dimensions, and matrices so small
    that a block of rank 1 would have more than one factor for two weights, pass unchanged.

    Blocks of all tensors are stacked in the order of error removed per bit. The order follows from the blocks, so that
    :meth:`prefix` can cut a stack to any size later, without the network.

    Parameters
    ----------
    blocks : int
        Most blocks of a tensor, 1 to 32. Each takes about one bit per weight and halves the error of noise-like
        weights roughly: Gaussian ones gain 4.4 dB with the first.
    rank : int
        Outer products of a block, 1 to 64; fewer where there would be more than one factor for eight weights.
    factors : {"analog", "float16"}
        Analog values that may be noisy, or bits: float16 words with a common exponent.
    bits_per_weight : float, optional
        Cut the stack to so many bits per weight of the tensors that are stacked, an analog factor counted as 32.
    importance : tuple of (str, float)
        Pattern (``fnmatch``) of tensor names and loss per squared error, for the order of the stack; the first that
        fits counts, others are 1.

    Raises
    ------
    SpecError
        If a field is out of range.

    Notes
    -----
    Source: X. Wang et al., "BitStack: Any-Size Compression of Large Language Models in Variable Memory Environments",
    ICLR 2025, arXiv:2410.23918. There activations scale the weights first and perplexity orders the blocks; here
    `importance` weighs whole tensors.
    """

    name: ClassVar[str] = "bit-stack"
    source: ClassVar[str] = "X. Wang et al. 2024, arXiv:2410.23918"
    keeps_zeros: ClassVar[bool] = False
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"blocks": 3, "rank": 2, "factors": "float16"},
        {"bits_per_weight": 3.5, "importance": (("w", 2.0),)},
    )
    blocks: int = 6
    rank: int = 4
    factors: str = "analog"
    bits_per_weight: float | None = None
    importance: tuple[tuple[str, float], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_number(self.name, "blocks", self.blocks, 1, MAX_BLOCKS, integer=True)
        check_number(self.name, "rank", self.rank, 1, 64, integer=True)
        if self.factors not in ("analog", "float16"):
            raise SpecError(f"{self.name}: factors must be 'analog' or 'float16', not {self.factors!r}")
        if self.bits_per_weight is not None:
            check_number(self.name, "bits_per_weight", self.bits_per_weight, 0, 1e6)
        object.__setattr__(self, "importance", named_numbers(self.name, "importance", self.importance))

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Stack every matrix; other streams pass."""
        out: list[Stream] = []
        weights = 0
        for stream in payload:
            rank = self._rank(stream.name, context) if isinstance(stream, AnalogStream) else 0
            if isinstance(stream, AnalogStream) and rank:
                out.extend(self._encode(stream, rank, context))
                weights += len(stream)
            else:
                out.append(stream)
        stacked = Payload(out)
        if self.bits_per_weight is None:
            return stacked
        others = sum(_size(s) for s in out if SEPARATOR not in s.name)
        return self.prefix(stacked, context, others + int(self.bits_per_weight * weights), "bits")

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Sum the blocks up; missing or damaged ones give wrong values, never errors."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            shape = context.shapes[base]
            matrix = matrix_shape(shape) or (0, 0)
            rank = self._rank(base, context)
            total = np.zeros(matrix)
            for j in range(min(_count(parts[_COUNT]), MAX_BLOCKS)):
                if f"{_SIGNS}{j}" in parts and f"{_FACTORS}{j}" in parts:
                    total += _block(parts[f"{_SIGNS}{j}"], parts[f"{_FACTORS}{j}"], matrix, rank)
            return AnalogStream(base, from_matrix(total, shape))

        names = [f"{part}{j}" for j in range(MAX_BLOCKS) for part in (_SIGNS, _FACTORS)]
        return merge_parts(payload, (_COUNT,), join, names)

    def order(self, payload: Payload, context: Context) -> list[tuple[str, int]]:
        """Return tensor and number of each block in a payload of :meth:`encode`, the most useful per bit first.

        Blocks of a tensor keep their order.
        """
        bases = [s.name.rpartition(SEPARATOR)[0] for s in payload if s.name.endswith(SEPARATOR + _COUNT)]
        left = {base: _count(payload.bits(f"{base}{SEPARATOR}{_COUNT}")) for base in bases}
        heap = [self._use(payload, base, 0, context) for base in bases if left[base]]
        heapq.heapify(heap)
        out = []
        while heap:
            _, base, j = heapq.heappop(heap)
            out.append((base, j))
            if j + 1 < left[base]:
                heapq.heappush(heap, self._use(payload, base, j + 1, context))
        return out

    def prefix(self, payload: Payload, context: Context, size: float, unit: str = "bytes") -> Payload:
        """Cut a payload of :meth:`encode` to a size: the first blocks of the stack that fit, no later ones.

        Parameters
        ----------
        payload : Payload
            Left untouched.
        context : Context
            That of encoding; its ``cells_per_value`` and ``cells_per_bit`` price cells.
        size : float
            Most bytes, bits or cells of the whole payload; an analog value counts as 32 bits.
        unit : {"bytes", "bits", "cells"}

        Returns
        -------
        Payload

        Raises
        ------
        SpecError
            If the unit is unknown, or the size does not even hold what is not stacked.
        """
        if unit not in ("bytes", "bits", "cells"):
            raise SpecError(f"{self.name}: unit must be 'bytes', 'bits' or 'cells', not {unit!r}")
        per_value, per_bit = {
            "bytes": (4.0, 0.125), "bits": (32.0, 1.0), "cells": (context.cells_per_value, context.cells_per_bit),
        }[unit]  # fmt: skip

        def cost(stream: Stream) -> float:
            return len(stream) * (per_value if isinstance(stream, AnalogStream) else per_bit)

        stack = self.order(payload, context)
        parts = {f"{base}{SEPARATOR}{part}{j}": 0 for base, j in stack for part in (_SIGNS, _FACTORS)}
        used = sum(cost(s) for s in payload if s.name not in parts)
        if used > size:
            raise SpecError(
                f"{self.name}: {size:g} {unit} do not hold the {used:g} {unit} of what is not stacked; allow more"
            )
        kept: dict[str, int] = {}
        for base, j in stack:
            used += sum(cost(payload.streams[f"{base}{SEPARATOR}{part}{j}"]) for part in (_SIGNS, _FACTORS))
            if used > size:
                break
            kept[base] = j + 1
        return _cut(payload, kept)

    def _rank(self, name: str, context: Context) -> int:
        """Rank of a tensor's blocks; 0 if it is not stacked."""
        matrix = matrix_shape(context.shapes.get(name, ()))
        if matrix is None or 2 * sum(matrix) > matrix[0] * matrix[1]:
            return 0
        return max(1, min(self.rank, matrix[0] * matrix[1] // (_SHARE * sum(matrix)), *matrix))

    def _encode(self, stream: AnalogStream, rank: int, context: Context) -> list[Stream]:
        shape = context.shapes[stream.name]
        rest = to_matrix(stream.values, shape)
        base = stream.name + SEPARATOR
        blocks: list[Stream] = []
        error = float(np.square(rest).sum())
        enough = _ENOUGH * error
        count = 0
        while count < self.blocks and error > enough:
            negative = rest < 0
            values = np.concatenate([side.reshape(-1) for side in leading(np.abs(rest), rank)])
            signs = BitStream.from_bools(f"{base}{_SIGNS}{count}", negative, "sign")
            factors = self._factors(f"{base}{_FACTORS}{count}", values)
            after = rest - _block(signs, factors, rest.shape, rank)
            left = float(np.square(after).sum())
            if not left < error:  # only rounding is left
                break
            rest, error, count = after, left, count + 1
            blocks += [signs, factors]
        return [BitStream(base + _COUNT, np.array([count], np.uint8), 8, "index", 8), *blocks]

    def _factors(self, name: str, values: F32) -> Stream:
        if self.factors == "analog":
            return AnalogStream(name, values)
        return BitStream.from_array(name, to_halves(values), "scale")

    def _use(self, payload: Payload, base: str, j: int, context: Context) -> tuple[float, str, int]:
        signs, factors = (payload.streams[f"{base}{SEPARATOR}{part}{j}"] for part in (_SIGNS, _FACTORS))
        matrix = matrix_shape(context.shapes[base]) or (0, 0)
        removed = _removed(factors, matrix, self._rank(base, context))
        weight = next((w for pattern, w in self.importance if fnmatch.fnmatchcase(base, pattern)), 1.0)
        return -weight * removed / (_size(signs) + _size(factors)), base, j


def _size(stream: Stream) -> int:
    """Bits, an analog value counted as 32."""
    return 32 * len(stream) if isinstance(stream, AnalogStream) else len(stream)


def _count(stream: BitStream) -> int:
    return int(fit(stream.data, 1)[0])


def _sides(stream: Stream, matrix: tuple[int, int], rank: int) -> tuple[F32, F32]:
    """Left factors (rank, m) and right ones (rank, n)."""
    size = rank * sum(matrix)
    values = fit(stream.values, size) if isinstance(stream, AnalogStream) else from_halves(whole_words(stream), size)
    return values[: rank * matrix[0]].reshape(rank, -1), values[rank * matrix[0] :].reshape(rank, -1)


def _block(signs: BitStream, factors: Stream, matrix: tuple[int, int], rank: int) -> F64:
    magnitude = product(*_sides(factors, matrix, rank), matrix)
    negative = np.unpackbits(fit(signs.data, -(-magnitude.size // 8)), count=magnitude.size, bitorder="little")
    return np.where(negative.reshape(matrix).view(np.bool_), -magnitude, magnitude)


def _removed(factors: Stream, matrix: tuple[int, int], rank: int) -> float:
    """Squared norm of a block: what it took off the squared error, since it is a projection of what was left."""
    left, right = (side.astype(np.float64) for side in _sides(factors, matrix, rank))
    return float(((left @ left.T) * (right @ right.T)).sum())


def _cut(payload: Payload, kept: dict[str, int]) -> Payload:
    """Keep the first blocks of each tensor."""
    out: list[Stream] = []
    for stream in payload:
        base, _, part = stream.name.rpartition(SEPARATOR)
        number = part.removeprefix(_SIGNS).removeprefix(_FACTORS)
        if f"{base}{SEPARATOR}{_COUNT}" not in payload:
            out.append(stream)
        elif part == _COUNT:
            out.append(BitStream(stream.name, np.array([kept.get(base, 0)], np.uint8), 8, "index", 8))
        elif int(number) < kept.get(base, 0):
            out.append(stream)
    return Payload(out)
