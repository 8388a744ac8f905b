"""Storing: compress, protect, encode, map, program."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import torch
from tqdm import tqdm

from memristore.array import F32, VERIFY_READ, read_cells, write_cells
from memristore.array import channel as channel_at
from memristore.bit_cells import FIRST_CELL, FIRST_IN_PLACE, BitCells
from memristore.codes import AnalogCode, BitCode, InPlace
from memristore.errors import SpecError
from memristore.ledger import planes_stream
from memristore.menu import likely_error, mean_error, menu, planes_alone
from memristore.planes import CellBlock, Fitted, Writer, each_stream, stride_of
from memristore.rng import key as make_key
from memristore.spec import StorageSpec
from memristore.stored import DIRECTORY, REFERENCE_START, StoredModel, StreamCells, decode_tensor
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.torch_io import Entry, StateDict, base_of, flatten, unescape
from memristore.transform import SEPARATOR, Context

#: Up to this many cells, targets and pulses are kept as well unless told otherwise.
TRACE_LIMIT: Final[int] = 1 << 22


def _distortion(spec: StorageSpec, code: AnalogCode) -> Callable[[F32], float]:
    channels = [channel_at(spec.cell, spec.write, at) for at in spec.judged_at]
    averaged = code.parts()[0]

    def predict(sample: F32) -> float:
        if sample.size == 0:
            return 0.0
        # Judged by the inverted mean whatever the decoder: thresholds come out alike, much faster.
        return mean_error([spec.mapper.plain.distortion(sample, c, averaged, "inverse") for c in channels])

    return predict


class _Job:
    """One analog stream on its way into cells."""

    def __init__(self, stream: AnalogStream, code: AnalogCode, overwrite: bool) -> None:
        self.name = stream.name
        self.size = len(stream)
        self.code = code
        self.overwrite = overwrite and len(code.parts()) == 1
        self.values: F32 | None = stream.values
        self.fitted: Fitted | None = None
        self.block = CellBlock(0, code.symbols(self.size), [], values=self.size)
        self.writer: Writer | None = None

    def __len__(self) -> int:
        return self.size

    def fit(self, spec: StorageSpec, threads: int) -> None:
        """Choose the window of the first plane(s)."""
        if self.values is not None and self.size and not self.code.joint:
            parts = self.code.parts()
            self.fitted = Fitted.to(spec, self.values, parts[0], len(parts) > 1, threads)

    def planes(self, spec: StorageSpec) -> int | None:
        """How many planes it will take; None if only programming can tell."""
        if self.code.joint and self.size:
            return None
        if self.fitted is None:
            return 0
        parts = self.code.parts()
        if len(parts) > 1:
            return None
        return 0 if self.fitted.params.constant else parts[0] * spec.mapper.cells_per_symbol

    def program(self, spec: StorageSpec, key: int, first: int, trace: bool, cell_bytes: int, threads: int) -> int:
        """Program the cells from address `first` on; returns how many addresses they take."""
        self.block = CellBlock(first, self.block.n, [], values=self.size)
        self.writer = Writer(
            spec, key, self.block, keep=trace, cell_bytes=cell_bytes, overwrite=self.overwrite, fitted=self.fitted,
            alone=lambda values, planes: planes_alone(values, planes, spec, threads=threads),
            predict=partial(likely_error, spec=spec, threads=threads), threads=threads,
        )  # fmt: skip
        if self.values is not None and self.size:
            self.code.encode(self.values, self.writer)
        self.values = self.fitted = self.writer.fitted = None
        return stride_of(self.block.n) * len(self.block.states)

    def side(self) -> BitStream:
        """Side information of the planes."""
        params = [] if self.writer is None else self.writer.params
        raw = b"".join(p.to_bytes() for p in params)
        return BitStream.from_array(planes_stream(self.name), np.frombuffer(raw, np.uint8), "scale")

    def cells(self) -> StreamCells:
        """The cells, and what they took."""
        pulses, failed = (0, 0) if self.writer is None else (self.writer.pulses_total, self.writer.failed_total)
        return StreamCells(self.block, self.code, pulses, failed)


def _program_all(
    jobs: list[_Job],
    spec: StorageSpec,
    key: int,
    address: int,
    trace: bool,
    cell_bytes: int,
    progress: bool,
    threads: int,
) -> None:
    """Program streams one behind the other in the array, small ones several at a time."""
    each_stream(lambda job, threads: job.fit(spec, threads), jobs, threads)
    with tqdm(total=len(jobs), desc="programming", unit="stream", disable=not progress) as bar:
        known: list[tuple[_Job, int]] = []
        for job in jobs:
            planes = job.planes(spec)
            if planes is None:
                address += job.program(spec, key, address, trace, cell_bytes, threads)
                bar.update()
            else:
                known.append((job, address))
                address += stride_of(job.size) * planes

        def run(item: tuple[_Job, int], threads: int) -> None:
            item[0].program(spec, key, item[1], trace, cell_bytes, threads)
            bar.update()

        each_stream(run, known, threads, lambda item: len(item[0]))


class PreparedModel:
    """A network after compression and protection: ready to be programmed any number of times.

    Made by :func:`prepare`. Holds copies of what it needs, so the network may change afterwards.
    """

    def __init__(self, entries: list[Entry], payload: Payload, spec: StorageSpec, codes: dict[str, AnalogCode]) -> None:
        self.entries = entries
        self.payload = payload
        self.spec = spec
        self.codes = codes

    def decode_clean(self) -> dict[str, torch.Tensor]:
        """What the decoder would give on perfect cells: the error of compression alone."""
        return decode_tensor(self.entries, self.payload, self.spec)

    def _consume_clean(self) -> dict[str, torch.Tensor]:
        """As `decode_clean`, dropping what was decoded: streams and weights are never whole together."""
        parts: dict[str, list[Stream]] = {}
        for name in list(self.payload.streams):
            parts.setdefault(base_of(name), []).append(self.payload.streams.pop(name))
        made: dict[str, torch.Tensor] = {}
        for entry in self.entries:
            if entry.base not in made:
                payload = Payload(parts.pop(entry.base, []))
                made[entry.base] = decode_tensor([entry], payload, self.spec, consume=True)[entry.name]
        return {entry.name: made[entry.base] for entry in self.entries}

    def program(
        self, *, seed: int, trace: bool | None = None, cell_bytes: int = 4, progress: bool = False, threads: int = 0
    ) -> StoredModel:
        """Program an array.

        Parameters
        ----------
        seed : int
            Names the array: cells, write noise and read noise follow from it.
        trace : bool, optional
            Keep targets, pulses and failures for :meth:`StoredModel.cells`; by default up to 4,194,304 cells.
        cell_bytes : int
            Memory per analog cell: 4, or 2 to round states to a 16-bit grid of 1/32768 of the device's range.
        progress : bool
            Show a progress bar on standard error.
        threads : int
            Threads for kernels; 0 means all. Results do not depend on it.

        Returns
        -------
        StoredModel
        """
        return self._program(
            seed, trace=trace, cell_bytes=cell_bytes, progress=progress, threads=threads, consume=False
        )

    @np.errstate(all="ignore")
    def _program(
        self, seed: int, *, trace: bool | None, cell_bytes: int, progress: bool, threads: int, consume: bool
    ) -> StoredModel:
        spec, key = self.spec, make_key(seed, "array")
        if cell_bytes not in (2, 4):
            raise SpecError(f"cell_bytes must be 2 or 4, not {cell_bytes!r}")
        if trace is None:
            streams = self.payload.analog_streams()
            symbols = sum(self.codes[s.name].symbols(len(s)) * self.codes[s.name].planes for s in streams)
            trace = symbols * spec.mapper.cells_per_symbol <= TRACE_LIMIT
        references, address, bits = _program_references(spec, key, threads)
        jobs: dict[str, _Job] = {}
        sides: dict[str, BitStream | None] = {}
        for name in list(self.payload.streams):
            # Consumed streams are dropped, so that values and cells of a network are never whole together.
            stream = self.payload.streams.pop(name) if consume else self.payload.streams[name]
            if isinstance(stream, BitStream):
                sides[name] = stream
            else:
                jobs[name] = _Job(stream, self.codes[name], consume and stream.spare is not None)
                sides[name] = None
            del stream
        _program_all(list(jobs.values()), spec, key, address, trace, cell_bytes, progress, threads)
        bits += [jobs[name].side() if stream is None else stream for name, stream in sides.items()]
        cells = {name: job.cells() for name, job in jobs.items()}
        bits.append(_directory(bits, cells))
        coded = _pack(spec, [s for s in bits if s.outer_code], spec.bits, FIRST_CELL, threads)
        in_place = _pack(spec, [s for s in bits if not s.outer_code], InPlace(), FIRST_IN_PLACE, threads)
        return StoredModel(spec, seed, self.entries, references, cells, coded, in_place)


def _pack(spec: StorageSpec, streams: list[BitStream], code: BitCode, first_cell: int, threads: int) -> BitCells:
    """Size a code for streams and encode them."""
    found = spec.bit_format(sum(8 * s.data.size for s in streams), code)
    if streams and not found.met:
        warnings.warn(
            f"{spec.cell.name}: bits reach a block error of {found.worst_error:.1e} with {found.describe()}, not "
            f"{found.target:g}; the ledger says so",
            stacklevel=4,
        )
    return BitCells.pack(streams, found, spec.level_design, first_cell, threads)


def _directory(bits: list[BitStream], cells: dict[str, StreamCells]) -> BitStream:
    """One byte for each tensor with analog values: which kinds of streams it was split into, and its planes.

    What a decoder cannot know from the architecture and the recipe, since the choice depends on the weights. Lengths
    follow from decoded masks and flags. Kinds: sign 1, flag 2, mask 4, some plane constant 8; planes in the high four
    bits. Then one bit for each tensor: whether levels were split off, and one for each bit stream: whether it is
    entropy-coded; none of either if none is.
    """
    kinds = {"sign": 1, "flag": 2, "mask": 4}
    entries: dict[str, int] = {}
    for name, stream in cells.items():
        constant = len(stream.block.states) == 0
        entry = entries.get(base_of(name), 0) | (8 if constant else 0)
        entries[base_of(name)] = (entry & 15) | min(stream.code.planes, 15) << 4
    for item in bits:
        if base_of(item.name) in entries:
            entries[base_of(item.name)] |= kinds.get(item.kind, 0)
    split = {base_of(item.name) for item in bits if item.name.endswith(f"{SEPARATOR}step")}
    hybrid = np.array([base in split for base in entries], dtype=np.bool_)
    coded = np.array([item.name.endswith(f"{SEPARATOR}coded") for item in bits], dtype=np.bool_)
    marks = [np.packbits(mark) for mark in (hybrid, coded) if mark.any()]
    parts = [np.array(list(entries.values()), dtype=np.uint8), *marks]
    return BitStream.from_array(DIRECTORY, np.concatenate(parts).astype(np.uint8), "index")


def _program_references(spec: StorageSpec, key: int, threads: int) -> tuple[CellBlock, int, list[BitStream]]:
    references = spec.references
    if references is None:
        return CellBlock(0, 0, []), 0, []
    x = references.targets()
    done = write_cells(spec.cell, spec.write, key, 0, x, threads=threads)
    start = references.statistic(read_cells(spec.cell, key, 0, done.state, 0.0, purpose=VERIFY_READ, threads=threads))
    first = BitStream.from_array(REFERENCE_START, np.array([start], dtype=np.float32), "scale")
    return CellBlock(0, x.size, [done.state], [x]), stride_of(x.size), [first]


@np.errstate(all="ignore")
def prepare(source: torch.nn.Module | StateDict, spec: StorageSpec, *, threads: int = 0) -> PreparedModel:
    """Compress and protect a network without programming any cell.

    Parameters
    ----------
    source : Module or state_dict
        Left untouched.
    spec : StorageSpec
    threads : int
        Threads for kernels; 0 means all.

    Returns
    -------
    PreparedModel

    Raises
    ------
    TensorError
        If a tensor cannot be stored.
    SpecError
        If the recipe does not fit the network.
    """
    if not isinstance(spec, StorageSpec):
        raise SpecError(f"expected a StorageSpec, not {type(spec).__name__}; a dict goes through StorageSpec.from_dict")
    entries, payload = flatten(source, spec, threads)
    shapes = {e.base: e.shape for e in entries if e.kind != "alias"}
    per_bit = spec.bit_format().cells_per_bit
    context = Context(shapes, _distortion(spec, spec.code), cells_per_bit=per_bit, threads=threads)
    for compressor in spec.compress:
        payload = compressor.encode(payload, context)
    analog = _mean_planes(payload, spec) * spec.mapper.cells_per_symbol
    contexts = [
        dataclasses.replace(context, cells_per_value=analog + per_bit * sum(p.bits_per_value for p in spec.protect[i:]))
        for i in range(1, len(spec.protect) + 1)
    ]

    def protect(stream: Stream, threads: int) -> list[Stream]:
        part = Payload([stream])
        for protection, known in zip(spec.protect, contexts, strict=True):
            part = protection.encode(part, dataclasses.replace(known, threads=threads, consume=True))
        return [_owned(s) if isinstance(s, AnalogStream) and s.name in shapes else s for s in part]

    streams = list(payload)
    del payload
    protected = Payload(s for part in each_stream(protect, streams, threads) for s in part)
    return PreparedModel(entries, protected, spec, _allocate(protected, spec, threads))


def _owned(stream: AnalogStream) -> AnalogStream:
    """Copy what no transform replaced: a view of the network's memory, a later change of which must not reach us."""
    values = stream.values.copy()
    return AnalogStream(stream.name, values, stream.sensitivity, values)


def _planes(
    payload: Payload, spec: StorageSpec, distortion: Callable[[str, int], float] | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Analog values and planes of each tensor, by the name of its stream; allocators know tensors by their own."""
    sizes: dict[str, int] = {}
    for stream in payload.analog_streams():
        sizes[base_of(stream.name)] = sizes.get(base_of(stream.name), 0) + spec.code.symbols(len(stream))
    if spec.allocation is None:
        return sizes, dict.fromkeys(sizes, spec.code.planes)
    chosen = spec.allocation.planes({unescape(base): n for base, n in sizes.items()}, distortion)
    return sizes, {base: chosen[unescape(base)] for base in sizes}


def _mean_planes(payload: Payload, spec: StorageSpec) -> float:
    sizes, planes = _planes(payload, spec)
    return sum(n * planes[name] for name, n in sizes.items()) / max(sum(sizes.values()), 1)


def _allocate(payload: Payload, spec: StorageSpec, threads: int) -> dict[str, AnalogCode]:
    if spec.allocation is None:
        return {s.name: spec.code for s in payload.analog_streams()}
    _, planes = _planes(payload, spec, menu(payload, spec, threads=threads))
    return {s.name: spec.code.with_planes(planes[base_of(s.name)]) for s in payload.analog_streams()}


def store(
    source: torch.nn.Module | StateDict,
    spec: StorageSpec,
    *,
    seed: int,
    trace: bool | None = None,
    cell_bytes: int = 4,
    progress: bool = False,
    threads: int = 0,
) -> StoredModel:
    """Store a network in analog cells.

    Parameters
    ----------
    source : Module or state_dict
        Any module or state_dict; left untouched.
    spec : StorageSpec
        The recipe.
    seed : int
        Names the array: the same seed gives the same cells and the same noise, bit for bit.
    trace : bool, optional
        Keep targets, pulses and failures for :meth:`StoredModel.cells`; by default up to 4,194,304 cells.
    cell_bytes : int
        Memory per analog cell: 4, or 2 to round states to a 16-bit grid of 1/32768 of the device's range.
    progress : bool
        Show a progress bar on standard error.
    threads : int
        Threads for kernels; 0 means all. Results do not depend on it.

    Returns
    -------
    StoredModel

    Raises
    ------
    TensorError
        If a tensor cannot be stored: not dense, on the meta device, or holding NaN or infinity.
    SpecError
        If the recipe does not fit.

    Examples
    --------
    >>> import torch, memristore as ms
    >>> stored = ms.store(torch.nn.Linear(64, 64), ms.StorageSpec(protect=(ms.Sign(),)), seed=0)
    >>> sorted(stored.load(at="1 year"))
    ['bias', 'weight']
    """
    prepared = prepare(source, spec, threads=threads)
    return prepared._program(seed, trace=trace, cell_bytes=cell_bytes, progress=progress, threads=threads, consume=True)
