"""Planes: where analog codes meet cells. The writer fits windows and programs; the reader reads and decodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from memristore import _core
from memristore.array import (
    F32,
    U8,
    U16,
    VERIFY_READ,
    ProgramAndVerify,
    pack_state,
    read_cells,
    unpack_state,
    write_cells,
)
from memristore.array import channel as channel_at
from memristore.codes import AnalogCode
from memristore.devices.moments import Channel
from memristore.mapping import PlaneParams, Table
from memristore.spec import StorageSpec
from memristore.units import parse_time

#: Blocks of cells start at multiples of this, so that kernels meet whole groups. Addresses skipped are not cells.
ALIGN = 64
#: Weight of clipping errors in planes that another plane follows, where cells keep what was written: a clipped value
#: leaves a remainder far larger than the noise, which widens the next window. Chosen among 1, 2, 4 and 8 on a Gaussian
#: source and four devices. Where reads differ from the verify read, later planes gain little and clipping costs what it
#: always does.
FOLLOWED_CLIP_COST = 4.0


@dataclass(frozen=True, eq=False)
class CellBlock:
    """The cells of one stream: planes of one cell per symbol each.

    Parameters
    ----------
    first : int
        Address of the first cell; plane p starts `stride` * p further.
    n : int
        Symbols, hence cells of a plane.
    states : list of ndarray, shape (n,), float32 or uint16
        Programmed states, one array per plane (planes of a symbol's several cells follow one another); uint16 on the
        grid of `memristore.array.state_grid`.
    targets, pulses, failed : list of ndarray
        As programmed, where kept; else empty.
    """

    first: int
    n: int
    states: list[F32 | U16]
    targets: list[F32] = field(default_factory=list)
    pulses: list[U16] = field(default_factory=list)
    failed: list[U8] = field(default_factory=list)

    @property
    def stride(self) -> int:
        """Addresses from one plane to the next."""
        return stride_of(self.n)

    @property
    def cells(self) -> int:
        """All cells of the block."""
        return self.n * len(self.states)

    def address(self, plane: int) -> int:
        """Address of a plane's first cell."""
        return self.first + plane * self.stride


def stride_of(n: int) -> int:
    """Round a number of cells up to whole groups."""
    return -(-n // ALIGN) * ALIGN


def verify_time(spec: StorageSpec) -> float:
    """Age at which a plane just written is read back, seconds."""
    return parse_time(spec.write.delay) if isinstance(spec.write, ProgramAndVerify) else 0.0


def verify_channel(spec: StorageSpec) -> Channel:
    """Channel of that read."""
    return channel_at(spec.cell, spec.write, verify_time(spec))


class Writer:
    """Programs the planes of one stream; see `memristore.codes.code.PlaneWriter`.

    Parameters
    ----------
    spec : StorageSpec
    key : int
        Of the array.
    block : CellBlock
        Filled plane by plane.
    keep : bool
        Whether targets, pulses and failures are kept.
    cell_bytes : int
        4, or 2 for states rounded to a 16-bit grid.
    threads : int
    """

    def __init__(
        self, spec: StorageSpec, key: int, block: CellBlock, *, keep: bool, cell_bytes: int = 4, threads: int = 0
    ) -> None:
        self.spec = spec
        self.key = key
        self.block = block
        self.keep = keep
        self.cell_bytes = cell_bytes
        self.threads = threads
        self.params: list[PlaneParams] = []
        self.pulses_total = 0
        self.failed_total = 0
        self._channel = channel_at(spec.cell, spec.write, spec.retention_seconds)
        self._verify_at = verify_time(spec)
        self._averaged = 1

    def write(self, values: F32, *, averaged: int = 1, followed: bool = False) -> None:
        """Fit a window and program the next plane(s)."""
        spec = self.spec
        if followed:
            device = spec.cell
            steady = not (device.drifts or device.read or device.relaxation)
            cost = FOLLOWED_CLIP_COST if steady else 1.0
            params = spec.mapper.window(values, verify_channel(spec), averaged, "inverse", cost)
        else:
            params = spec.mapper.window(values, self._channel, averaged, spec.decoder)
        self.params.append(params)
        self._averaged = averaged
        if params.constant:
            return
        targets = spec.mapper.targets(values, params, spec.cell, self.threads)
        for _ in range(averaged):
            for x in targets:
                address = self.block.address(len(self.block.states))
                done = write_cells(spec.cell, spec.write, self.key, address, x, threads=self.threads)
                # Rounded before anything reads it: the verify read of a residual code must see what is kept.
                self.block.states.append(pack_state(spec.cell, done.state) if self.cell_bytes == 2 else done.state)
                if done.pulses is not None and done.failed is not None:
                    self.pulses_total += int(done.pulses.sum(dtype=np.int64))
                    self.failed_total += int(done.failed.sum(dtype=np.int64))
                if self.keep:
                    self.block.targets.append(x)
                    if done.pulses is not None and done.failed is not None:
                        self.block.pulses.append(done.pulses)
                        self.block.failed.append(done.failed)

    def recover(self) -> F32:
        """Read the planes just written and invert the mean response."""
        spec, params = self.spec, self.params[-1]
        if params.constant:
            return np.full(self.block.n, params.lo, dtype=np.float32)
        count = self._averaged * spec.mapper.cells_per_symbol
        first = len(self.block.states) - count
        soft = combine(self, first, self._averaged, self._verify_at, 0, VERIFY_READ)
        seen = verify_channel(spec)
        return spec.mapper.table(params, seen, self._averaged, "inverse")(soft, self.threads)


def combine(owner: Writer | Reader, first: int, averaged: int, at: float, event: int, purpose: int) -> F32:
    """Read the planes of one write and average the soft values of its copies."""
    mapper = owner.spec.mapper
    total: F32 | None = None
    for copy in range(averaged):
        reads = []
        for cell in range(mapper.cells_per_symbol):
            plane = first + copy * mapper.cells_per_symbol + cell
            state = owner.block.states[plane]
            reads.append(
                read_cells(
                    owner.spec.cell, owner.key, owner.block.address(plane), state, at,
                    event=event, purpose=purpose, threads=owner.threads,
                )
            )  # fmt: skip
        soft = mapper.soft(reads)
        total = soft if total is None else np.add(total, soft, out=total)
    if total is None:
        raise RuntimeError("a write has at least one plane")
    return total if averaged == 1 else np.multiply(total, np.float32(1.0 / averaged), out=total)


class Reader:
    """Reads the planes of one stream at one age and event; see `memristore.codes.code.PlaneReader`.

    Parameters
    ----------
    spec : StorageSpec
    key : int
    block : CellBlock
    params : list of PlaneParams
        As read back from their bit stream.
    code : AnalogCode
    at, event : float, int
        Seconds since programming; number of the read.
    believed : Channel
        At the age that the decoder believes the cells to have.
    purpose, threads : int
    """

    def __init__(
        self, spec: StorageSpec, key: int, block: CellBlock, params: list[PlaneParams], code: AnalogCode,
        *, at: float, event: int, believed: Channel, purpose: int, threads: int = 0,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.key = key
        self.block = block
        self.params = params
        self.parts = list(code.parts())
        self.at = at
        self.event = event
        self.believed = believed
        self.purpose = purpose
        self.threads = threads

    def _decode(self, part: int, decoder: str) -> F32:
        params = self.params[part]
        first = self._first(part)
        averaged = self.parts[part]
        if params.constant or first + averaged * self.spec.mapper.cells_per_symbol > len(self.block.states):
            return np.full(self.block.n, params.lo, dtype=np.float32)
        table = self.spec.mapper.table(params, self.believed, averaged, decoder)
        if averaged * self.spec.mapper.cells_per_symbol == 1:
            return self._read_decoded(first, table)
        return table(combine(self, first, averaged, self.at, self.event, self.purpose), self.threads)

    def _read_decoded(self, plane: int, table: Table) -> F32:
        # One cell per value: read and decoded block by block, without the reads in between.
        device = self.spec.cell
        state = unpack_state(device, self.block.states[plane])
        out = np.empty_like(state)
        _core.age_read_decode(
            device.core(), device.read_time(self.at), self.key, self.purpose, self.event, self.block.address(plane),
            state, table.values, table.start, table.inv_step, table.extrapolate, out, self.threads,
        )  # fmt: skip
        return out

    def _first(self, part: int) -> int:
        # Writes of a constant take no cells: the block's directory knows by its length which parts have some.
        wide = self.spec.mapper.cells_per_symbol
        return sum(n * wide for n, p in zip(self.parts[:part], self.params[:part], strict=True) if not p.constant)

    def estimate(self, part: int) -> F32:
        """Read and decode as the recipe says."""
        return self._decode(part, self.spec.decoder)

    def recover(self, part: int) -> F32:
        """Read and invert the mean response."""
        return self._decode(part, "inverse")
