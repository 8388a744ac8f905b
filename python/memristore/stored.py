"""A stored network: programmed cells, and how to read them back."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from memristore.array import READ, read_cells
from memristore.array import channel as channel_at
from memristore.bit_cells import BitCells, BitReport
from memristore.codes import AnalogCode
from memristore.devices.grid import unpack_state
from memristore.devices.moments import Channel
from memristore.errors import SpecError, TensorError
from memristore.ledger import Ledger, build_ledger, planes_stream
from memristore.mapping import PlaneParams
from memristore.planes import CellBlock, Reader, each_stream
from memristore.rng import key as make_key
from memristore.spec import StorageSpec
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.torch_io import Entry, base_of, rebuild
from memristore.transform import SEPARATOR, Context
from memristore.units import Time, parse_time

#: Stream of the reference cells' mean at programming. Tensor names cannot clash: theirs hold no bare separator.
REFERENCE_START: Final = f"{SEPARATOR}reference"
#: Stream of one byte per tensor that says how it was split.
DIRECTORY: Final = f"{SEPARATOR}directory"


@dataclass(frozen=True, eq=False)
class StreamCells:
    """Cells of one analog stream, and what programming them took."""

    block: CellBlock
    code: AnalogCode
    pulses_total: int = 0
    failed_total: int = 0


@dataclass(frozen=True)
class ReadReport:
    """What happened during a read.

    Parameters
    ----------
    at_seconds : float
        True age of the cells.
    believed_seconds : float
        Age that the decoder found from the reference cells; 0 without them.
    bits : BitReport
        Raw bit errors, corrected words, failed words.
    beyond_retention : bool
        Whether the read came later than what windows and bits were sized for.
    """

    at_seconds: float
    believed_seconds: float
    bits: BitReport
    beyond_retention: bool = False

    @property
    def bits_raw_errors(self) -> int:
        """Bits read wrong before decoding."""
        return self.bits.raw_errors

    @property
    def words_corrected(self) -> int:
        """Words that the bit code corrected."""
        return self.bits.corrected

    @property
    def words_wrong(self) -> int:
        """Words that came back wrong, known to the bit code or not; only a simulator can tell."""
        return self.bits.wrong

    @property
    def words_failed(self) -> int:
        """Words that the bit code knows to be wrong."""
        return self.bits.failed


@dataclass(frozen=True, eq=False)
class ReadResult:
    """A network as read back, and what happened on the way."""

    state_dict: dict[str, torch.Tensor]
    report: ReadReport


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one stream, as arrays of shape (planes, n).

    Parameters
    ----------
    address : ndarray of uint64
        Index of each cell in its array.
    target, programmed, read : ndarray of float32
        Write parameter x in [0, 1]; state after programming and as read, uS or log10(ohm).
    pulses, failed : ndarray of uint16, uint8
        Pulses used and 1 where a cell was not accepted; one pulse and no failure for one-shot writes.
    """

    address: np.ndarray
    target: np.ndarray
    programmed: np.ndarray
    read: np.ndarray
    pulses: np.ndarray
    failed: np.ndarray
    unit: str = field(default="uS")


def decode_tensor(
    entries: Iterable[Entry], payload: Payload, spec: StorageSpec, threads: int = 0, consume: bool = False
) -> dict[str, torch.Tensor]:
    """Undo protection and compression of a payload and put tensors together, tied ones sharing memory again."""
    wanted = list(entries)
    context = Context({e.base: e.shape for e in wanted}, threads=threads, consume=consume)
    for transform in reversed([*spec.compress, *spec.protect]):
        payload = transform.decode(payload, context)
    made: dict[str, torch.Tensor] = {}
    out: dict[str, torch.Tensor] = {}
    for entry in wanted:
        if entry.base not in made:
            made[entry.base] = rebuild(entry, payload)
        out[entry.name] = made[entry.base]
    return out


class StoredModel:
    """A network in cells, from :func:`memristore.store` or :meth:`open`. Reading is pure: of state, time and event."""

    def __init__(
        self,
        spec: StorageSpec,
        seed: int,
        entries: list[Entry],
        references: CellBlock,
        cells: dict[str, StreamCells],
        bits: BitCells,
        in_place: BitCells,
    ) -> None:
        self.spec = spec
        self.seed = seed
        self.key = make_key(seed, "array")
        self.entries = entries
        self.references = references
        self.streams = cells
        self.bits = bits
        self.in_place = in_place

    # -- reading ------------------------------------------------------------------------------------------------

    def load(
        self, *, at: Time = 0.0, event: int = 0, names: Sequence[str] | None = None, threads: int = 0
    ) -> dict[str, torch.Tensor]:
        """Read the network back.

        Parameters
        ----------
        at : float or str
            Time since programming: seconds, or words such as ``"1 year"``.
        event : int
            Number of the read; another number draws fresh read noise.
        names : sequence of str, optional
            Only these tensors; they come out bit for bit as in a whole load.
        threads : int
            Threads for kernels; 0 means all. Results do not depend on it.

        Returns
        -------
        dict of str to Tensor
            In the order and dtypes of the original; tied tensors share memory.

        Raises
        ------
        TensorError
            If a name is unknown.
        SpecError
            If the time or event is not valid.
        """
        return self.read(at=at, event=event, names=names, threads=threads).state_dict

    @np.errstate(all="ignore")
    def read(
        self, *, at: Time = 0.0, event: int = 0, names: Sequence[str] | None = None, threads: int = 0,
        consume: bool = False,
    ) -> ReadResult:  # fmt: skip
        """As :meth:`load`, with a report of bit errors and of the age that the decoder found.

        With `consume`, cells are dropped once decoded: never whole beside the weights, and not to be read again.
        """
        seconds = parse_time(at)
        if isinstance(event, bool) or not isinstance(event, (int, np.integer)) or not 0 <= event < 2**32:
            raise SpecError(f"a read event is an integer in [0, 2**32), not {event!r}")
        event = int(event)
        entries = self._select(names)
        believed, age, report = self._believe(seconds, event, threads)
        bases = {e.base for e in entries}
        bits: dict[str, BitStream] = {}
        for area in (self.bits, self.in_place):
            wanted = [n for n in area.regions if base_of(n) in bases]
            found, more = area.read(self.key, age, seconds, event, wanted, threads)
            bits |= found
            # Words that told the age and are read once more count once, unless they misled the decoder.
            report = more if not report.wrong and area.spans(REFERENCE_START, wanted) else report + more
        analog: dict[str, list[str]] = {}
        for name in self.streams:
            analog.setdefault(base_of(name), []).append(name)
        by_base: dict[str, list[BitStream]] = {}
        for stream in bits.values():
            by_base.setdefault(base_of(stream.name), []).append(stream)
        firsts: dict[str, Entry] = {}
        for entry in entries:
            firsts.setdefault(entry.base, entry)

        def rebuilt(entry: Entry, threads: int) -> torch.Tensor:
            sides = {s.name: s for s in by_base.get(entry.base, [])}
            names = analog.get(entry.base, [])
            values = self._streams(entry, names, sides, seconds, event, believed, threads)
            for name in names if consume else ():
                del self.streams[name]
            payload = Payload([*values, *sides.values()])
            del values
            return decode_tensor([entry], payload, self.spec, threads, consume=True)[entry.name]

        tensors = each_stream(rebuilt, list(firsts.values()), threads, lambda entry: entry.size)
        made = dict(zip(firsts, tensors, strict=True))
        out = {entry.name: made[entry.base] for entry in entries}
        late = seconds > self.spec.retention_seconds
        return ReadResult(out, ReadReport(seconds, age, report, late))

    def load_into(self, model: torch.nn.Module, *, at: Time = 0.0, event: int = 0, threads: int = 0) -> torch.nn.Module:
        """Load into a module, in place; names and shapes must agree. Returns the module."""
        state = self.load(at=at, event=event, threads=threads)
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise TensorError(f"the stored network does not fit this module: {error}") from None
        return model

    def _select(self, names: Sequence[str] | None) -> list[Entry]:
        if names is None:
            return self.entries
        if isinstance(names, str):
            raise TensorError(f"names is a sequence of tensor names, not the string {names!r}; write [{names!r}]")
        known = {e.name: e for e in self.entries}
        if missing := [n for n in names if n not in known]:
            raise TensorError(f"no tensor is called {missing[0]!r}; there are {', '.join(known)}")
        return [known[n] for n in names]

    def _believe(self, at: float, event: int, threads: int) -> tuple[Channel, float, BitReport]:
        """Read the reference cells and return the channel, and age, that the decoder believes in."""
        spec = self.spec
        fresh = channel_at(spec.cell, spec.write, 0.0)
        references = spec.references
        if references is None or not self.references.states:
            return fresh, 0.0, BitReport()
        reads = read_cells(
            spec.cell, self.key, self.references.first, self.references.states[0], at, event=event, threads=threads
        )
        now = references.statistic(reads)
        # The start value is a stored number, but its thresholds depend on the age that it helps to find: it is read
        # with those of the age that the noiseless start value implies, as a controller would iterate to.
        nominal = float(fresh.at_targets(references.targets())[0].mean())
        guess = references.age(spec.cell, spec.write, nominal, now)
        bits, report = self.bits.read(self.key, guess, at, event, [REFERENCE_START], threads)
        start = float(bits[REFERENCE_START].to_array(np.float32)[0])
        age = references.age(spec.cell, spec.write, start, now)
        return channel_at(spec.cell, spec.write, age), age, report

    def _streams(
        self, entry: Entry, names: list[str], sides: dict[str, BitStream],
        at: float, event: int, believed: Channel, threads: int,
    ) -> list[AnalogStream]:  # fmt: skip
        """Decode the analog streams of a tensor; takes their side information out of `sides`."""
        # The largest is decoded to the end of a buffer that the whole tensor will fill.
        largest = max(names, key=lambda name: self.streams[name].block.values, default="")
        out = []
        for name in names:
            stream = self.streams[name]
            params = PlaneParams.unpack(sides.pop(planes_stream(name)).data.tobytes())
            reader = Reader(
                self.spec, self.key, stream.block, params, stream.code,
                at=at, event=event, believed=believed, purpose=READ, threads=threads,
            )  # fmt: skip
            out.append(reader.stream(name, entry.size if name == largest else 0))
        return out

    # -- counting and looking -----------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Return the table of cells by tensor and stream."""
        return build_ledger(self)

    @functools.cached_property
    def weights(self) -> int:
        """Parameters of the original network, batch-norm statistics included; tied ones once."""
        return sum(e.size for e in self.entries if e.parameter)

    @property
    def cells_per_weight(self) -> float:
        """All cells over all weights of the original network."""
        return self.ledger().cells_per_weight

    def cells(self, name: str, *, at: Time = 0.0, event: int = 0) -> dict[str, Cells]:
        """Return the cells of a tensor, by stream.

        Parameters
        ----------
        name : str
            A tensor.
        at, event : float or str, int
            Of the read states.

        Returns
        -------
        dict of str to Cells
            Keys are parts (``"values"`` where the tensor was not split).

        Raises
        ------
        TensorError
            If the tensor is unknown, or targets were not kept (``store(..., trace=True)`` keeps them).
        """
        (entry,) = self._select([name])
        seconds = parse_time(at)
        out: dict[str, Cells] = {}
        for stream, kept in self.streams.items():
            if base_of(stream) != entry.base:
                continue
            block = kept.block
            if len(block.targets) != len(block.states):
                raise TensorError(
                    f"{name}: targets were not kept for an array of this size; use store(..., trace=True)"
                )
            reads = [
                read_cells(self.spec.cell, self.key, block.address(p), state, seconds, event=event)
                for p, state in enumerate(block.states)
            ]
            shape = (len(block.states), block.n)
            where = np.array([block.address(p) for p in range(shape[0])], dtype=np.uint64).reshape(-1, 1)
            verified = bool(block.pulses)
            out[stream.removeprefix(entry.base).lstrip(SEPARATOR) or "values"] = Cells(
                address=where + np.arange(block.n, dtype=np.uint64),
                target=np.array(block.targets, dtype=np.float32).reshape(shape),
                programmed=np.array([unpack_state(self.spec.cell, s) for s in block.states]).reshape(shape),
                read=np.array(reads, dtype=np.float32).reshape(shape),
                pulses=np.array(block.pulses).reshape(shape) if verified else np.ones(shape, np.uint16),
                failed=np.array(block.failed).reshape(shape) if verified else np.zeros(shape, np.uint8),
                unit=self.spec.cell.unit,
            )
        return out

    def info(self) -> str:
        """Return what is stored and which stages are active, in words."""
        ledger = self.ledger()
        lines = [
            f"{len(self.entries)} tensors, {self.weights:,} weights in {ledger.total:,} cells: "
            f"{ledger.cells_per_weight:.4g} cells per weight",
            "cells by kind: " + ", ".join(f"{kind} {cells:,}" for kind, cells in ledger.by_kind().items()),
        ]
        pulses = sum(s.pulses_total for s in self.streams.values())
        if pulses:
            failed = sum(s.failed_total for s in self.streams.values())
            data = max(sum(s.block.cells for s in self.streams.values()), 1)
            lines.append(f"pulses: {pulses:,} ({pulses / data:.3g} per cell), {failed:,} cells not accepted")
        width = max(len(stage) for stage in self.spec.stages())
        lines += [f"{stage.ljust(width)}  {text}" for stage, text in self.spec.stages().items()]
        lines.append(f"{'seed'.ljust(width)}  {self.seed}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"StoredModel({self.info()})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file with a versioned JSON header; see `memristore.cell_file`."""
        from memristore.cell_file import save

        save(self, path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StoredModel:
        """Open a file written by :meth:`save`; reading gives the same bits as before.

        Raises
        ------
        FileError
            If the file is damaged, truncated, of another kind or version.
        """
        from memristore.cell_file import load

        return load(path)
