"""Tensor rings instead of weights: a chain of small cores, closed to a ring, linear or bent between the cores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.compress.factors import from_matrix
from memristore.compress.ring import SLOPES, axes_of, contract, fit_bent_rings, fit_ring, level, value_count
from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Two axes for each of two channels, one for the kernel.
_CORES: Final = 5
_MOST: Final = 255
#: Most float64 values that all cores but one may make together while a ring is fitted: 2 GiB.
_ROOM: Final = 1 << 28


@dataclass(frozen=True, kw_only=True)
class TensorRing(Compressor):
    """Replace tensors by rings of cores, where that takes fewer values.

    Output channels, input channels and kernel places are the axes, channels of 16 and more split in two factors. A
    value is the trace of a product of matrices, one from the core of each axis. ``w`` becomes ``w/ring`` (rank and
    slope, 2 bytes) and ``w/core0``, ``w/core1``, ... with equal norms, so that noise of one relative size does as much
    harm in any of them. Cores are analog: an error in one is spread over many weights. Tensors of fewer than two
    dimensions, and those that would not get smaller or better than zeros, pass unchanged.

    The non-linear variant bends: products of two cores and more, in either half of the ring, have their negative values
    multiplied by 3/4, 1/2 or 1/4 before the next contraction; the last contraction, which closes the ring, is linear.
    In the source, the non-linearity acts on a layer's activations between its cores, and the layer is trained with it.
    Here it acts on what becomes the weights: they are a non-linear function of the cores, fitted to given weights, and
    must be rebuilt before the layer is used. Each tensor takes the slope, 1 included, with the least error; without
    training the linear ring is often the best, for which alternating least squares are hard to beat.

    Parameters
    ----------
    ratio : float, optional
        Values of the cores over number of weights, of each tensor, in (0, 1]; the largest rank that it allows is
        taken. 0.4 if nothing is given.
    rank : int, optional
        The same rank for all tensors, 1 to 255.
    nonlinear : bool
        Whether to fit the non-linear variant too; takes many times as long.
    sweeps : int
        Rounds of alternating least squares after the SVD sweep, 0 to 1000.

    Raises
    ------
    SpecError
        If a field is out of range, or both `ratio` and `rank` are given.

    Notes
    -----
    Sources: Q. Zhao et al., "Tensor Ring Decomposition", 2016, arXiv:1606.05535; X. P. Li et al., "Nonlinear Tensor
    Ring Network", 2021, arXiv:2111.06532. Cores are rounded to 20 bits, below which they depend on the machine's linear
    algebra; those of the non-linear variant, found by an optimiser, may depend on it above that. Reconstruction is the
    same everywhere.
    """

    name: ClassVar[str] = "tensor-ring"
    source: ClassVar[str] = "Q. Zhao et al. 2016, arXiv:1606.05535; nonlinear: arXiv:2111.06532"
    keeps_zeros: ClassVar[bool] = False
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rank": 2, "sweeps": 3},
        {"rank": 2, "sweeps": 2, "nonlinear": True},
    )
    ratio: float | None = None
    rank: int | None = None
    nonlinear: bool = False
    sweeps: int = 10

    def __post_init__(self) -> None:
        if self.ratio is not None and self.rank is not None:
            raise SpecError(f"{self.name}: give ratio or rank, not both")
        if self.ratio is None and self.rank is None:
            object.__setattr__(self, "ratio", 0.4)
        if self.ratio is not None:
            check_number(self.name, "ratio", self.ratio, 0, 1, open_low=True)
        if self.rank is not None:
            check_number(self.name, "rank", self.rank, 1, _MOST, integer=True)
        if not isinstance(self.nonlinear, bool):
            raise SpecError(f"{self.name}: nonlinear must be True or False, not {self.nonlinear!r}")
        check_number(self.name, "sweeps", self.sweeps, 0, 1000, integer=True)

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Replace what gets smaller; other streams pass.

        Raises
        ------
        TensorError
            If a decomposition does not converge, or would take more than 2 GiB.
        """
        out: list[Stream] = []
        for stream in payload:
            made = self._encode(stream, context) if isinstance(stream, AnalogStream) else None
            out.extend([stream] if made is None else made)
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Contract the rings; missing cores count as zero, damaged bits give wrong values."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            shape = context.shapes[base]
            axes = axes_of(shape)
            head = fit(parts["ring"].data, 2)
            # Damage must not ask for more than the largest ring that pays.
            rank = min(int(head[0]), max(1, math.isqrt(math.prod(shape) // max(1, sum(axes)))))
            cores = []
            for k, axis in enumerate(axes):
                values = parts[f"core{k}"].values if f"core{k}" in parts else np.zeros(0, np.float32)
                cores.append(fit(values, rank * axis * rank).reshape(rank, axis, rank))
            whole = contract(cores, SLOPES[head[1] % len(SLOPES)])
            return AnalogStream(base, from_matrix(whole, shape))

        return merge_parts(payload, ("ring",), join, [f"core{k}" for k in range(_CORES)])

    def _rank(self, stream: AnalogStream, axes: tuple[int, ...]) -> int:
        """Rank of a tensor's ring; 0 if it does not pay."""
        size = len(stream)
        if self.rank is not None:
            rank = self.rank
        else:
            rank = min(_MOST, math.isqrt(int((self.ratio or 0) * size + 1e-9) // max(1, sum(axes))))
        return rank if rank and value_count(axes, rank) < size else 0

    def _encode(self, stream: AnalogStream, context: Context) -> list[Stream] | None:
        shape = context.shapes.get(stream.name, ())
        axes = axes_of(shape) if len(shape) >= 2 and len(stream) else ()
        if len(axes) < 2 or not (rank := self._rank(stream, axes)):
            return None
        top = float(np.abs(stream.values).max())
        if top == 0:
            return None
        if rank * rank * (len(stream) // min(axes)) > _ROOM:
            raise TensorError(f"{stream.name}: fitting a ring of rank {rank} takes over 2 GiB; use a smaller rank")
        tensor = stream.values.astype(np.float64).reshape(axes) / top
        try:
            cores, slope, error = self._best(tensor, rank, top, stream.values)
        except np.linalg.LinAlgError:
            raise TensorError(f"{stream.name}: no ring was found for it; leave it out of tensor-ring") from None
        if not error < float(np.square(stream.values, dtype=np.float64).sum()):
            return None
        base = stream.name + SEPARATOR
        head = BitStream(f"{base}ring", np.array([rank, slope], np.uint8), 16, "index", 8)
        return [head, *(AnalogStream(f"{base}core{k}", core.reshape(-1)) for k, core in enumerate(cores))]

    def _best(self, tensor: F64, rank: int, top: float, values: F32) -> tuple[list[F32], int, float]:
        """Cores, the place of their slope in `SLOPES`, and the squared error with them."""
        linear = fit_ring(tensor, rank, self.sweeps)
        rings = [linear, *(fit_bent_rings(tensor, linear) if self.nonlinear and tensor.ndim > 2 else ())]
        levelled = [level(cores, top) for cores in rings]
        errors = []
        for cores, slope in zip(levelled, SLOPES, strict=False):
            found = from_matrix(contract(cores, slope), values.shape)
            errors.append(float(np.square(found.astype(np.float64) - values).sum()))
        best = int(np.argmin(errors))
        return levelled[best], best, errors[best]
