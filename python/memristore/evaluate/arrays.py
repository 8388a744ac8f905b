"""The arrays that are judged: programmed when they are wanted, forgotten as soon as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from memristore import rng
from memristore.compress import Identity
from memristore.errors import SpecError
from memristore.evaluate.memory import give_back
from memristore.planes import LARGE
from memristore.spec import StorageSpec
from memristore.storage import prepare
from memristore.torch_io import tensors_of

if TYPE_CHECKING:
    from memristore.bit_cells import BitCells
    from memristore.storage import PreparedModel
    from memristore.stored import ReadResult, StoredModel
    from memristore.torch_io import StateDict


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts hold the same bits."""
    if first.keys() != second.keys():
        return False

    def bits(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)

    return all(first[n].dtype == second[n].dtype and torch.equal(bits(first[n]), bits(second[n])) for n in first)


def _net_bits(areas: Sequence[BitCells]) -> float | None:
    """Bits kept in a cell, check bits counted, over the areas that hold any."""
    used = [(area.payload_bytes, area.format.net_bits_per_cell) for area in areas if area.payload_bytes]
    return sum(size for size, _ in used) / sum(size / net for size, net in used) if used else None


def _in_order(model: nn.Module | StateDict, names: Sequence[str]) -> nn.Module | StateDict:
    """Return a network's tensors in the order in which they were stored, which says what lies in which cell.

    Files of weights may have sorted them by name.
    """
    tensors = tensors_of(model)[0]
    if list(tensors) == list(names) or sorted(tensors) != sorted(names):
        return model
    return {name: tensors[name] for name in names}


class Arrays:
    """Arrays to judge, programmed as they are wanted and forgotten as soon as possible.

    Parameters
    ----------
    stored : StoredModel or StorageSpec
        The array of trial 0, or the recipe of all.
    model : Module or state_dict
    prepared : PreparedModel, optional
    seed : int
    keep : bool
        Whether arrays must stay readable.
    threads : int
    """

    def __init__(
        self, stored: StoredModel | StorageSpec, model: nn.Module | StateDict, prepared: PreparedModel | None,
        seed: int, keep: bool, threads: int,
    ) -> None:  # fmt: skip
        self.first = None if isinstance(stored, StorageSpec) else stored
        self.spec = stored if isinstance(stored, StorageSpec) else stored.spec
        self.seed = seed if self.first is None else self.first.seed
        self.model = model if self.first is None else _in_order(model, [entry.name for entry in self.first.entries])
        self.keep = keep
        self.threads = threads
        self.kept: list[StoredModel] = []
        self._current: StoredModel | None = None
        self.weights = sum(tensor.numel() for tensor in tensors_of(model)[0].values())
        self.cells_per_weight = 0.0
        self.net_bits_per_cell: float | None = None
        # Protection is quickly done again for each array; what compression makes is kept, and is small.
        cheap = all(isinstance(part, Identity) for part in self.spec.compress)
        self.prepared = prepared if prepared is not None or cheap else prepare(model, self.spec, threads=threads)

    def clean(self) -> dict[str, torch.Tensor]:
        """What perfect cells would give back."""
        if self.prepared is None:
            found = prepare(self.model, self.spec, threads=self.threads)._consume_clean()
            give_back(self.weights)
            return found
        # Copies: what a metric does to its network must not reach the streams.
        return {name: tensor.clone() for name, tensor in self.prepared.decode_clean().items()}

    def read(self, trial: int, at: float, event: int, last: bool) -> ReadResult:
        """Read the array of a trial.

        Parameters
        ----------
        trial : int
            Arrays after the first have seeds derived from that of the first.
        at : float
            Seconds.
        event : int
        last : bool
            Whether this array is not read again.
        """
        array = self._array(trial)
        give_back(self.weights)
        # Cells and weights of a large network are not held side by side: its cells are programmed again, to the same
        # states, for the next read.
        consume = array is not self.first and not self.keep and (last or self.weights > LARGE)
        if consume or last:
            self._current = None
        found = array.read(at=at, event=event, threads=self.threads, consume=consume)
        del array
        give_back(self.weights)
        return found

    def _array(self, trial: int) -> StoredModel:
        if self._current is not None:
            return self._current
        if trial == 0 and self.first is not None:
            array = self.first
        else:
            array = self._programmed(self.seed if trial == 0 else rng.key(self.seed, "trial", trial))
        if trial == 0:
            self.cells_per_weight = float(array.cells_per_weight)
            self.net_bits_per_cell = _net_bits([array.bits, array.in_place])
        if self.keep:
            self.kept.append(array)
        self._current = array
        return array

    def _programmed(self, seed: int) -> StoredModel:
        give_back(self.weights)
        narrow = self.first is not None and any(
            state.dtype == np.uint16 for stream in self.first.streams.values() for state in stream.block.states
        )
        prepared = self.prepared
        return (prepare(self.model, self.spec, threads=self.threads) if prepared is None else prepared)._program(
            seed, trace=None if self.keep else False, cell_bytes=2 if narrow else 4, progress=False,
            threads=self.threads, consume=prepared is None,
        )  # fmt: skip

    def check(self) -> None:
        """Raise unless the model given is what was stored, which further trials are programmed from."""
        if self.first is None:
            return
        again = self._programmed(self.seed)
        names, size = [entry.name for entry in self.first.entries], 0
        wrong = names != [entry.name for entry in again.entries]
        some: list[str] = []
        # A few tensors at a time: two whole networks beside two arrays would be the most memory of all.
        for entry in () if wrong else self.first.entries:
            some.append(entry.name)
            size += entry.size
            if size >= LARGE // 8 or entry is self.first.entries[-1]:
                pair = (array.load(names=some, threads=self.threads) for array in (again, self.first))
                wrong = wrong or not _same(next(pair), next(pair))
                some, size = [], 0
        if wrong:
            raise SpecError(
                "evaluate: the weights of the model given are not those that were stored, so further trials would "
                "judge another network; give the model that was stored, or trials=1 (float buffers of a module are "
                "kept exactly, those of a bare state_dict are not unless they are batch-norm statistics: store "
                "the module itself)"
            )
