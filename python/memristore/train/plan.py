"""What writer and reader would do with a network, as tables in torch: windows, curves, decoding tables, routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from memristore.array import VERIFY_READ, OneShot, ProgramAndVerify, read_cells, write_cells
from memristore.array import channel as channel_at
from memristore.codes import AnalogCode
from memristore.devices.moments import Channel
from memristore.errors import SpecError
from memristore.mapping import PlaneParams, Table
from memristore.menu import planes_alone
from memristore.planes import CellBlock, Writer, verify_channel, verify_time
from memristore.spec import StorageSpec
from memristore.storage import PreparedModel, prepare
from memristore.streams import AnalogStream
from memristore.torch_io import Entry
from memristore.train.cells import Cells, as_tensor, interpolate
from memristore.train.routing import Route, routes

#: Knots of the tables from values to targets: every knot of the mappers' own curves is one of them.
_KNOTS: Final = 4097
#: Ages that the decoder may believe in, drawn for each plan: what so many arrays' reference cells would say.
_AGES: Final = 4


@dataclass(frozen=True, eq=False)
class Lookup:
    """Decoding tables of several streams, side by side on a torch device."""

    values: torch.Tensor
    start: torch.Tensor
    inv_step: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, tables: Sequence[Table], device: torch.device) -> Lookup:
        """Join tables, one row each."""
        numbers = np.array([[t.start, t.inv_step] for t in tables], np.float32)
        extrapolate = np.array([t.extrapolate for t in tables])
        low = np.where(extrapolate, -np.inf, 0.0).astype(np.float32)
        high = np.where(extrapolate, np.inf, 1.0).astype(np.float32)
        parts = (np.stack([t.values for t in tables]), numbers[:, 0], numbers[:, 1], low, high)
        return cls(*(as_tensor(part, device) for part in parts))

    def __call__(self, soft: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Decode soft reads of the streams numbered `row`."""
        place = (soft - self.start[row]) * self.inv_step[row]
        return interpolate(self.values, row, place, self.low[row], self.high[row])


@dataclass(eq=False)
class Group:
    """Analog streams with the same code and the same number of writes, so that they are stored side by side.

    Parameters
    ----------
    spec, code : StorageSpec, AnalogCode
    params : list of list of PlaneParams
        By write, then stream.
    row : Tensor of int64, shape (n,)
        Stream of each value.
    """

    spec: StorageSpec
    code: AnalogCode
    params: list[list[PlaneParams]]
    row: torch.Tensor
    _targets: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    _lookups: dict[tuple[int, str, float | None], Lookup] = field(default_factory=dict)

    def targets(self, part: int, values: torch.Tensor) -> list[torch.Tensor]:
        """Targets of the cells of each symbol of a write. Values beyond a window lie at its edge; gradients pass."""
        if part not in self._targets:
            self._targets[part] = self._place(part)
        table, lo, inv_width = self._targets[part]
        place = (values - lo[self.row]) * inv_width[self.row]
        return [interpolate(cell, self.row, place, through=True) for cell in table]

    def _place(self, part: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mapper, rows = self.spec.mapper, []
        for params in self.params[part]:
            knots = (params.lo + params.width * np.linspace(0.0, 1.0, _KNOTS)).astype(np.float32)
            flat = [np.zeros(_KNOTS, np.float32)] * mapper.cells_per_symbol
            rows.append(flat if params.constant else mapper.targets(knots, params, self.spec.cell, 1))
        inverse = [0.0 if p.constant else (_KNOTS - 1) / p.width for p in self.params[part]]
        device = self.row.device
        table = as_tensor(np.stack([np.stack(cells) for cells in zip(*rows, strict=True)]), device)
        lo = torch.tensor([p.lo for p in self.params[part]], dtype=torch.float32, device=device)
        return table, lo, torch.tensor(inverse, dtype=torch.float32, device=device)

    def decode(self, part: int, soft: torch.Tensor, decoder: str, believed: Channel, verify: bool) -> torch.Tensor:
        """Decode the soft reads of a write."""
        key = (part, decoder, None if verify else believed.at)
        if key not in self._lookups:
            averaged = self.code.layout(len(self.params))[part]
            tables = [_table(self.spec, p, believed, averaged, decoder) for p in self.params[part]]
            self._lookups[key] = Lookup.of(tables, self.row.device)
        return self._lookups[key](soft, self.row)


def _table(spec: StorageSpec, params: PlaneParams, believed: Channel, averaged: int, decoder: str) -> Table:
    if params.constant:
        return Table(np.full(513, params.lo, np.float32), 0.0, 1.0, False)
    return spec.mapper.table(params, believed, averaged, decoder)


class Planes:
    """Writes and reads one group of streams in torch: the `PlaneWriter` and `PlaneReader` that its code asks for.

    Parameters
    ----------
    group : Group
    at : float
        Age of the cells when they are read, seconds.
    believed : Channel
        At the age that the decoder believes in.
    generator : torch.Generator
    """

    def __init__(self, group: Group, at: float, believed: Channel, generator: torch.Generator) -> None:
        self.group = group
        self.at = at
        self.believed = believed
        self.generator = generator
        self.parts: list[list[list[Cells]]] = []

    @property
    def writes(self) -> int:
        """Writes of each stream."""
        return len(self.group.params)

    def alone(self, values: torch.Tensor, planes: int) -> int:
        """Planes that stand alone, as chosen when the plan was made."""
        return self.writes - 1

    def write(self, values: torch.Tensor, *, averaged: int = 1, followed: bool = False) -> None:
        """Program the next plane(s)."""
        spec = self.group.spec
        targets = self.group.targets(len(self.parts), values)
        copies = [[Cells(spec.cell, spec.write, x, self.generator) for x in targets] for _ in range(averaged)]
        self.parts.append(copies)

    def _soft(self, part: int, at: float) -> torch.Tensor:
        mapper: Any = self.group.spec.mapper
        reads = [mapper.soft([cell.read(at) for cell in copy]) for copy in self.parts[part]]
        total: torch.Tensor = sum(reads[1:], start=reads[0])
        return total if len(reads) == 1 else total * (1.0 / len(reads))

    def recover(self, part: int | None = None) -> torch.Tensor:
        """Invert the mean response: of a read, or without a part of the verify read of what was just written."""
        spec = self.group.spec
        if part is not None:
            return self.group.decode(part, self._soft(part, self.at), "inverse", self.believed, False)
        part, seen = len(self.parts) - 1, verify_channel(spec)
        return self.group.decode(part, self._soft(part, verify_time(spec)), "inverse", seen, True)

    def chained(self) -> torch.Tensor:
        """Add up what writes hold of values, each by itself: real decoders read them together, up to 1 dB better."""
        last = self.writes - 1
        return sum((self.recover(part) for part in range(last)), start=self.estimate(last))

    def estimate(self, part: int) -> torch.Tensor:
        """Decode as the recipe says."""
        spec = self.group.spec
        return self.group.decode(part, self._soft(part, self.at), spec.decoder, self.believed, False)


@dataclass(frozen=True, eq=False)
class Plan:
    """A network's way into cells and back, with windows, flags and masks as they were when the plan was made.

    Parameters
    ----------
    prepared : PreparedModel
    streams : list of AnalogStream
        In the order of the groups, which numbers their values.
    groups : list of Group
    found : list of Route
    others : list of Entry
    believed : list of Channel
        Ages that decoders may believe in.
    clean : dict of str to Tensor
        What perfect cells would give.
    """

    prepared: PreparedModel
    streams: list[AnalogStream]
    groups: list[Group]
    found: list[Route]
    others: list[Entry]
    believed: list[Channel]
    clean: dict[str, torch.Tensor]


def make_plan(source: Any, spec: StorageSpec, key: int, at: float, device: torch.device, threads: int = 0) -> Plan:
    """Prepare a network and choose everything that programming would choose.

    Parameters
    ----------
    source : Module or state_dict
    spec : StorageSpec
    key : int
        Names the cells that trial writes and reference cells take.
    at : float
        Age of the cells when they are read, seconds.
    device : torch.device
        Where tables go.
    threads : int

    Returns
    -------
    Plan
    """
    if not isinstance(spec.write, OneShot | ProgramAndVerify):
        raise SpecError(f"channel: there is no surrogate of {spec.write.describe(spec.cell)}; use one-shot writes")
    prepared = prepare(source, spec, threads=threads)
    sets: dict[tuple[AnalogCode, int], list[tuple[AnalogStream, list[PlaneParams]]]] = {}
    for stream in prepared.payload.analog_streams():
        if len(stream):
            code = prepared.codes[stream.name]
            if code.joint:
                raise SpecError(f"channel: there is no surrogate of {code.name}; use residual or repetition")
            params = _params(spec, key, stream, code, threads)
            sets.setdefault((code, len(params)), []).append((stream, params))
    groups, streams = [], []
    for (code, writes), members in sets.items():
        row = np.repeat(np.arange(len(members)), [len(stream) for stream, _ in members])
        by_write = [[params[part] for _, params in members] for part in range(writes)]
        groups.append(Group(spec, code, by_write, as_tensor(row, device)))
        streams += [stream for stream, _ in members]
    found, others = routes(prepared, streams)
    return Plan(prepared, streams, groups, found, others, _believed(spec, key, at, threads), prepared.decode_clean())


def _params(spec: StorageSpec, key: int, stream: AnalogStream, code: AnalogCode, threads: int) -> list[PlaneParams]:
    """Windows of all writes of a stream: the product's own writer programs it once."""
    writer = Writer(
        spec, key, CellBlock(0, len(stream), []), keep=False,
        alone=lambda values, planes: planes_alone(values, planes, spec, threads=threads), threads=threads,
    )  # fmt: skip
    code.encode(stream.values, writer)
    return writer.params


def _believed(spec: StorageSpec, key: int, at: float, threads: int) -> list[Channel]:
    references = spec.references
    if references is None:
        return [channel_at(spec.cell, spec.write, 0.0)]
    ages = set()
    x = references.targets()
    for event in range(_AGES):
        state = write_cells(spec.cell, spec.write, key, 0, x, event=event, threads=threads).state
        first = read_cells(spec.cell, key, 0, state, 0.0, event=event, purpose=VERIFY_READ, threads=threads)
        now = read_cells(spec.cell, key, 0, state, at, event=event, threads=threads)
        ages.add(references.age(spec.cell, spec.write, references.statistic(first), references.statistic(now)))
    return [channel_at(spec.cell, spec.write, age) for age in sorted(ages)]
