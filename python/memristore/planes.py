"""Planes: where analog codes meet cells. The writer fits windows and programs; the reader reads and decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from memristore import _core
from memristore.array import (
    F32,
    U8,
    U16,
    VERIFY_READ,
    ProgramAndVerify,
    Programmed,
    write_cells,
)
from memristore.array import channel as channel_at
from memristore.codes import AnalogCode
from memristore.devices.grid import pack_state, unpack_state
from memristore.devices.moments import Channel
from memristore.joint_planes import JointReader, JointWriter, combine
from memristore.mapping import PlaneParams, Table
from memristore.spec import StorageSpec
from memristore.streams import AnalogStream
from memristore.units import parse_time

#: Blocks of cells start at multiples of this, so that kernels meet whole groups. Addresses skipped are not cells.
ALIGN = 64
#: Weight of clipping errors in planes that another plane follows, where cells keep what was written: a clipped value
#: leaves a remainder far larger than the noise, which widens the next window. Chosen among 1, 2, 4 and 8 on a Gaussian
#: source and four devices. Where reads differ from the verify read, later planes gain little and clipping costs what it
#: always does.
FOLLOWED_CLIP_COST = 4.0
#: Values mapped and programmed at a time, by one thread: what passes between the stages stays in its cache.
BLOCK = 1 << 16
#: Streams of more values take all threads one after the other; memory in use grows with those worked on at a time.
LARGE = 1 << 22

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(work: Callable[[_Item], _Result], items: Sequence[_Item], threads: int = 0) -> list[_Result]:
    """Do independent work on each item, in several threads where that helps; results in order.

    Parameters
    ----------
    work : callable
        Spends its time in kernels, on one thread of theirs.
    items : sequence
    threads : int
        0 means all.
    """

    def quietly(item: _Item) -> _Result:
        # Threads do not inherit numpy's error state.
        with np.errstate(all="ignore"):
            return work(item)

    count = min(threads or _core.max_threads(), len(items))
    if count <= 1:
        return [quietly(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(quietly, items))


def each_stream(
    work: Callable[[_Item, int], _Result],
    items: Sequence[_Item],
    threads: int = 0,
    size: Callable[[_Item], int] = len,  # type: ignore[assignment]
) -> list[_Result]:
    """Do work that takes a number of threads on each stream: small streams side by side, large ones alone with all."""
    out: dict[int, _Result] = {i: work(item, threads) for i, item in enumerate(items) if size(item) > LARGE}
    small = [i for i in range(len(items)) if i not in out]
    out.update(zip(small, in_threads(lambda i: work(items[i], 1), small, threads), strict=True))
    return [out[i] for i in range(len(items))]


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
        grid of `memristore.devices.grid.state_grid`.
    targets, pulses, failed : list of ndarray
        As programmed, where kept; else empty.
    values : int
        Values that the cells hold; not kept for reference cells.
    """

    first: int
    n: int
    states: list[F32 | U16]
    targets: list[F32] = field(default_factory=list)
    pulses: list[U16] = field(default_factory=list)
    failed: list[U8] = field(default_factory=list)
    values: int = 0

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


@dataclass(frozen=True, eq=False)
class Fitted:
    """The window chosen for one write of values, shape (n,)."""

    values: F32
    averaged: int
    followed: bool
    params: PlaneParams

    @classmethod
    def to(cls, spec: StorageSpec, values: F32, averaged: int, followed: bool, threads: int = 0) -> Fitted:
        """Choose the window."""
        channels = [channel_at(spec.cell, spec.write, at) for at in spec.judged_at]
        mapper, decoder, cost = spec.mapper, spec.decoder, 1.0
        if followed:
            # Curves leave large remainders of rare values, which widen the next window.
            mapper = mapper.plain
            device = spec.cell
            steady = not (device.changes or device.read)
            channels, decoder, cost = [verify_channel(spec)], "inverse", FOLLOWED_CLIP_COST if steady else 1.0
        params = mapper.window_over(values, channels, averaged, decoder, cost, threads)
        return cls(values, averaged, followed, params)


class Writer(JointWriter):
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
    overwrite : bool
        Whether values written may be overwritten with the states of their cells.
    fitted : Fitted, optional
        Window of the first write, where it has been chosen already.
    alone : callable, optional
        Chooses how many planes stand alone, from values and the number of planes; by default all do.
    predict : callable, optional
        Predicts the error of values with another code.
    threads : int
    """

    def __init__(
        self,
        spec: StorageSpec,
        key: int,
        block: CellBlock,
        *,
        keep: bool,
        cell_bytes: int = 4,
        overwrite: bool = False,
        fitted: Fitted | None = None,
        alone: Callable[[F32, int], int] | None = None,
        predict: Callable[[F32, AnalogCode], float] | None = None,
        threads: int = 0,
    ) -> None:
        self.spec = spec
        self.key = key
        self.block = block
        self.keep = keep
        self.cell_bytes = cell_bytes
        self.overwrite = overwrite
        self.threads = threads
        self.params: list[PlaneParams] = []
        self.pulses_total = 0
        self.failed_total = 0
        self.fitted = fitted
        self._alone = alone
        self.predict = predict
        self._verify_at = verify_time(spec)
        self._averaged = 1

    def alone(self, values: F32, planes: int) -> int:
        """Choose how many planes stand alone."""
        return planes - 1 if self._alone is None or planes == 1 else self._alone(values, planes)

    def write(self, values: F32, *, averaged: int = 1, followed: bool = False) -> None:
        """Fit a window and program the next plane(s)."""
        known = None if self.params else self.fitted
        if known is None or not (known.values is values and (known.averaged, known.followed) == (averaged, followed)):
            known = Fitted.to(self.spec, values, averaged, followed, self.threads)
        params = replace(known.params, followed=followed)
        self.params.append(params)
        self._averaged = averaged
        if not params.constant:
            # States may take the place of values that nobody looks at again.
            self._place(values, params, averaged, self.overwrite and not followed)

    def _place(self, values: F32, params: PlaneParams, averaged: int, over: bool) -> None:
        """Program values of a window into the next planes, in their own place if `over` and if that is possible."""
        wide = self.spec.mapper.cells_per_symbol
        first = len(self.block.states)
        over = over and averaged * wide == 1 and self.cell_bytes == 4
        for _ in range(averaged * wide):
            state: F32 | U16 = values
            if self.cell_bytes == 2:
                state = np.empty(values.size, np.uint16)
            elif not over:
                state = np.empty(values.size, np.float32)
            self.block.states.append(state)
        if self.keep:
            self.block.targets.extend(np.empty(values.size, np.float32) for _ in range(averaged * wide))
        starts = range(0, values.size, BLOCK)
        done = in_threads(lambda start: self._program(values, params, first, start), starts, self.threads)
        self._note([part for part in done if part])

    def _program(self, values: F32, params: PlaneParams, first: int, start: int) -> list[Programmed]:
        """Program one block of values into the planes from `first` on; returns what they took, by plane."""
        spec, stop = self.spec, start + BLOCK
        device = spec.cell
        targets = spec.mapper.targets(values[start:stop], params, device, 1)
        verified: list[Programmed] = []
        for plane, state in enumerate(self.block.states[first:], first):
            x = targets[(plane - first) % len(targets)]
            # Rounded before anything reads it: the verify read of a residual code must see what is kept.
            here = state[start:stop]
            out = np.asarray(here, np.float32) if self.cell_bytes == 4 else None
            address = self.block.address(plane) + start
            done = write_cells(device, spec.write, self.key, address, x, threads=1, out=out)
            if self.cell_bytes == 2:
                here[:] = pack_state(device, done.state)
            if self.keep:
                self.block.targets[plane][start:stop] = x
            if done.pulses is not None:
                verified.append(done)
        return verified

    def _note(self, blocks: list[list[Programmed]]) -> None:
        """Count pulses and failures, and keep them where wanted."""
        for plane in zip(*blocks, strict=True):
            pulses = [part.pulses for part in plane if part.pulses is not None]
            failed = [part.failed for part in plane if part.failed is not None]
            self.pulses_total += sum(int(part.sum(dtype=np.int64)) for part in pulses)
            self.failed_total += sum(int(part.sum(dtype=np.int64)) for part in failed)
            if self.keep:
                self.block.pulses.append(np.concatenate(pulses))
                self.block.failed.append(np.concatenate(failed))

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


class Reader(JointReader):
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
        self.code = code
        self.parts = list(code.layout(len(params)))
        self.at = at
        self.event = event
        self.believed = believed
        self.purpose = purpose
        self.threads = threads
        self._out: F32 | None = None

    def stream(self, name: str, room: int) -> AnalogStream:
        """Decode all values, where possible to the end of a buffer of `room` values that they leave to others."""
        n = self.block.values
        spare = np.empty(max(room, n), np.float32)
        self._out = spare[spare.size - n :] if len(self.parts) == 1 and n == self.block.n else None
        values = self.code.decode(self) if n else spare[:0]
        return AnalogStream(name, values, spare=spare if values is self._out else values)

    def _verify(self) -> Channel:
        return verify_channel(self.spec)

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
        out = np.empty_like(state) if self._out is None else self._out
        _core.age_read_decode(
            device.core(self.at), device.read_time(self.at), self.key, self.purpose, self.event,
            self.block.address(plane), state, table.values, table.start, table.inv_step, table.extrapolate, out,
            self.threads,
        )  # fmt: skip
        return out

    def _first(self, part: int) -> int:
        # Writes of a constant take no cells: the block's directory knows by its length which parts have some.
        wide = self.spec.mapper.cells_per_symbol
        return sum(n * wide for n, p in zip(self.parts[:part], self.params[:part], strict=True) if not p.constant)

    def _soft(self, first: int, copies: int) -> F32:
        return combine(self, first, copies, self.at, self.event, self.purpose)

    def estimate(self, part: int) -> F32:
        """Read and decode as the recipe says."""
        return self._decode(part, self.spec.decoder)

    def recover(self, part: int) -> F32:
        """Read and invert the mean response."""
        return self._decode(part, "inverse")
