"""Micro-structured unification: the weights of a small block share one magnitude, and keep their signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from memristore.compress.factors import matrix_shape
from memristore.compress.prune import drop_masks
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_PRUNED, _ALONE, _SIGNS, _MAGNITUDE, _VALUES = "pruned", "alone", "signs", "magnitude", "values"


@dataclass(frozen=True, kw_only=True)
class Unify(Compressor):
    """Give the weights of each small block one magnitude, their mean one, with signs apart; or prune the block.

    Blocks of `rows` output channels by `columns` inputs (kernel places are inputs) tile each matrix; those at its edges
    are smaller. ``w`` becomes ``w/magnitude``, one analog value per unified block, and ``w/signs``, one bit per weight
    in such blocks. With `prune`, ``w/pruned`` has a bit per block, and pruned blocks nothing else; with `share` below
    1, ``w/alone`` has a bit per block, and ``w/values`` the weights of blocks that keep them. An error e in a magnitude
    adds e**2 for each weight of the block to the squared error, which is its sensitivity. Weights that are zero in a
    unified block do not stay zero; tensors of fewer than two dimensions pass unchanged.

    Parameters
    ----------
    rows, columns : int
        Size of a block, 1 to 4096 each and more than one weight.
    prune : float
        Share of blocks to set to zero, those of least mean square, in [0, 1).
    share : float
        Share of the other blocks to unify, those that lose least, in (0, 1].
    scope : {"global", "layer"}
        Whether blocks are compared in the whole network or within each tensor.

    Raises
    ------
    SpecError
        If a field is out of range.

    Notes
    -----
    Source: S. Lin et al., "Efficient Micro-Structured Weight Unification and Pruning for Neural Network Compression",
    2021, arXiv:2106.08301. There training brings the weights of a block together first, by ADMM; here they are taken as
    they are. Of Laplacian weights blocks of any size keep half of the energy and more, of Gaussian ones 2 / pi.
    """

    name: ClassVar[str] = "unify"
    source: ClassVar[str] = "S. Lin et al. 2021, arXiv:2106.08301"
    keeps_zeros: ClassVar[bool] = False
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rows": 2, "columns": 3, "prune": 0.3, "share": 0.5},
        {"columns": 4, "prune": 0.5, "scope": "layer"},
    )
    rows: int = 1
    columns: int = 8
    prune: float = 0.0
    share: float = 1.0
    scope: str = "global"

    def __post_init__(self) -> None:
        check_number(self.name, "rows", self.rows, 1, 4096, integer=True)
        check_number(self.name, "columns", self.columns, 1, 4096, integer=True)
        if self.rows * self.columns == 1:
            raise SpecError(f"{self.name}: blocks of one weight share nothing; give rows or columns above 1")
        check_number(self.name, "prune", self.prune, 0, 1)
        if self.prune == 1:
            raise SpecError(f"{self.name}: prune must be less than 1; a network without weights has nothing to store")
        check_number(self.name, "share", self.share, 0, 1, open_low=True)
        if self.scope not in ("global", "layer"):
            raise SpecError(f"{self.name}: scope must be 'global' or 'layer', not {self.scope!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Unify every matrix; other streams pass."""
        chosen = [s for s in payload.analog_streams() if matrix_shape(context.shapes.get(s.name, ()))]
        places = {s.name: self._places(context.shapes[s.name]) for s in chosen}
        power, loss = [], []
        for stream in chosen:
            mean_square, mean = (
                _means(part, places[stream.name])
                for part in (np.square(stream.values.astype(np.float64)), np.abs(stream.values))
            )
            power.append(np.sqrt(mean_square).astype(np.float32))
            loss.append(np.sqrt(np.maximum(mean_square - np.square(mean), 0)).astype(np.float32))
        pruned = drop_masks(power, self.prune, self.scope)
        alone = self._alone(loss, pruned)
        made = {s.name: self._encode(s, places[s.name], p, a) for s, p, a in zip(chosen, pruned, alone, strict=True)}
        return Payload(part for s in payload for part in made.get(s.name, [s]))

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Put blocks together; damaged bits give wrong values."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            places = self._places(context.shapes[base])
            count = int(places.max()) + 1
            pruned, alone = (_flags(parts.get(name), count) for name in (_PRUNED, _ALONE))
            alone &= ~pruned
            shared = ~(pruned | alone)
            magnitude = np.zeros(count, np.float32)
            magnitude[shared] = fit(parts[_MAGNITUDE].values, int(shared.sum()))
            values = magnitude[places]
            signed = shared[places]
            negative = _flags(parts[_SIGNS], int(signed.sum()))
            values[np.flatnonzero(signed)[negative]] *= -1
            kept = alone[places]
            if _VALUES in parts:
                values[kept] = fit(parts[_VALUES].values, int(kept.sum()))
            return AnalogStream(base, values)

        return merge_parts(payload, (_MAGNITUDE, _SIGNS), join, (_PRUNED, _ALONE, _VALUES))

    def _places(self, shape: tuple[int, ...]) -> I64:
        """Block of each weight, shape (n,)."""
        rows, columns = matrix_shape(shape) or (0, 0)
        across = -(-columns // self.columns)
        down, right = np.arange(rows) // self.rows, np.arange(columns) // self.columns
        return np.asarray(down[:, None] * across + right, np.int64).reshape(-1)

    def _alone(self, loss: list[F32], pruned: list[Bools]) -> list[Bools]:
        """Which blocks keep their weights: those that lose most, among the ones that are left."""
        if self.share == 1:
            return [np.zeros(mask.shape, np.bool_) for mask in pruned]
        left = [part[~mask] for part, mask in zip(loss, pruned, strict=True)]
        unified = drop_masks(left, self.share, self.scope)
        out = []
        for mask, taken in zip(pruned, unified, strict=True):
            alone = np.zeros(mask.shape, np.bool_)
            alone[~mask] = ~taken
            out.append(alone)
        return out

    def _encode(self, stream: AnalogStream, places: I64, pruned: Bools, alone: Bools) -> list[Stream]:
        shared = ~(pruned | alone)
        signed, kept = shared[places], alone[places]
        base = stream.name + SEPARATOR
        magnitude = _means(np.abs(stream.values), places)[shared].astype(np.float32)
        weight = np.ones(len(stream)) if stream.sensitivity is None else stream.sensitivity.astype(np.float64)
        effect = np.bincount(places, weight, pruned.size)[shared]
        out: list[Stream] = []
        if self.prune > 0:
            out.append(BitStream.from_bools(f"{base}{_PRUNED}", pruned, "flag"))
        if self.share < 1:
            out.append(BitStream.from_bools(f"{base}{_ALONE}", alone, "flag"))
        out.append(BitStream.from_bools(f"{base}{_SIGNS}", np.signbit(stream.values[signed]), "sign"))
        out.append(AnalogStream(f"{base}{_MAGNITUDE}", magnitude, np.minimum(effect, 1e38).astype(np.float32)))
        if self.share < 1:
            own = None if stream.sensitivity is None else stream.sensitivity[kept]
            out.append(AnalogStream(f"{base}{_VALUES}", stream.values[kept], own))
        return out


def _means(values: npt.NDArray[Any], places: I64) -> F64:
    """Mean of each block, float64."""
    counts = np.bincount(places)
    return np.asarray(np.bincount(places, values.astype(np.float64)) / counts, np.float64)


def _flags(stream: BitStream | None, count: int) -> Bools:
    return np.zeros(count, np.bool_) if stream is None else fit(stream.to_bools(), count)
