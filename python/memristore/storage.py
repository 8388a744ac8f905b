"""Storing: compress, protect, encode, map, program."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from tqdm import tqdm

from memristore import bit_cells
from memristore.array import F32, VERIFY_READ, read_cells, write_cells
from memristore.array import channel as channel_at
from memristore.bit_cells import BitCells
from memristore.codes import AnalogCode
from memristore.errors import SpecError
from memristore.ledger import planes_stream
from memristore.planes import CellBlock, Writer, stride_of
from memristore.rng import key as make_key
from memristore.spec import StorageSpec
from memristore.stored import DIRECTORY, REFERENCE_START, StoredModel, StreamCells, decode_tensor
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.torch_io import Entry, StateDict, base_of, flatten
from memristore.transform import Context

#: Up to this many cells, targets and pulses are kept as well unless told otherwise.
TRACE_LIMIT: Final[int] = 1 << 22


def _distortion(spec: StorageSpec, code: AnalogCode) -> Callable[[F32], float]:
    channel = channel_at(spec.cell, spec.write, spec.retention_seconds)
    averaged = code.parts()[0]

    def predict(sample: F32) -> float:
        if sample.size == 0:
            return 0.0
        # Judged by the inverted mean whatever the decoder: thresholds come out alike, much faster.
        return spec.mapper.distortion(sample, channel, averaged, "inverse")

    return predict


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
            symbols = sum(len(s) * self.codes[s.name].planes for s in self.payload.analog_streams())
            trace = symbols * spec.mapper.cells_per_symbol <= TRACE_LIMIT
        references, address, bits = _program_references(spec, key, threads)
        cells: dict[str, StreamCells] = {}
        for name in tqdm(list(self.payload.streams), desc="programming", unit="stream", disable=not progress):
            # Consumed streams are dropped one by one, so that values and cells of a network are never whole together.
            stream = self.payload.streams.pop(name) if consume else self.payload.streams[name]
            if isinstance(stream, BitStream):
                bits.append(stream)
                continue
            block = CellBlock(address, len(stream), [])
            code = self.codes[stream.name]
            writer = Writer(spec, key, block, keep=trace, cell_bytes=cell_bytes, threads=threads)
            if len(stream):
                code.encode(stream.values, writer)
            address += stride_of(len(stream)) * len(block.states)
            raw = b"".join(p.to_bytes() for p in writer.params)
            bits.append(BitStream.from_array(planes_stream(stream.name), np.frombuffer(raw, np.uint8), "scale"))
            cells[stream.name] = StreamCells(block, code, writer.pulses_total, writer.failed_total)
        sizing = bit_cells.size(spec.cell, spec.bits, spec.retention_seconds)
        if not sizing.met and bits:
            warnings.warn(
                f"{spec.cell.name}: bits reach a block error of {sizing.block_error:.1e} with {spec.bits.name} on "
                f"single-level cells, not {bit_cells.BLOCK_ERROR:g}; the ledger says so",
                stacklevel=2,
            )
        bits.append(_directory(bits, cells))
        area = BitCells.pack(bits, spec.bits, sizing, threads)
        return StoredModel(spec, seed, self.entries, references, cells, area)


def _directory(bits: list[BitStream], cells: dict[str, StreamCells]) -> BitStream:
    """One byte for each tensor with analog values: which kinds of streams it was split into, and its planes.

    What a decoder cannot know from the architecture and the recipe, since the choice depends on the weights. Lengths
    follow
    from decoded masks and flags. Kinds: sign 1, flag 2, mask 4, some plane constant 8; planes in the high four bits.
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
    return BitStream.from_array(DIRECTORY, np.array(list(entries.values()), dtype=np.uint8), "index")


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
    entries, payload = flatten(source, spec)
    shapes = {e.base: e.shape for e in entries if e.kind != "alias"}
    sizing = bit_cells.size(spec.cell, spec.bits, spec.retention_seconds)
    per_bit = sizing.cells_per_bit * (1 + spec.bits.check_bits / 64)
    context = Context(shapes, _distortion(spec, spec.code), cells_per_bit=per_bit, threads=threads)
    for compressor in spec.compress:
        payload = compressor.encode(payload, context)
    analog = _mean_planes(payload, spec) * spec.mapper.cells_per_symbol
    for i, protection in enumerate(spec.protect):
        later = sum(p.bits_per_value for p in spec.protect[i + 1 :])
        context = dataclasses.replace(context, cells_per_value=analog + per_bit * later)
        payload = protection.encode(payload, context)
    # Streams that no transform replaced are views of the network's memory; a later change of it must not reach us.
    payload = Payload(
        AnalogStream(s.name, s.values.copy(), s.sensitivity) if isinstance(s, AnalogStream) and s.name in shapes else s
        for s in payload
    )
    return PreparedModel(entries, payload, spec, _allocate(payload, spec))


def _planes(payload: Payload, spec: StorageSpec) -> tuple[dict[str, int], dict[str, int]]:
    """Analog values and planes of each tensor."""
    sizes: dict[str, int] = {}
    for stream in payload.analog_streams():
        sizes[base_of(stream.name)] = sizes.get(base_of(stream.name), 0) + len(stream)
    return sizes, dict.fromkeys(sizes, spec.code.planes) if spec.allocation is None else spec.allocation.planes(sizes)


def _mean_planes(payload: Payload, spec: StorageSpec) -> float:
    sizes, planes = _planes(payload, spec)
    return sum(n * planes[name] for name, n in sizes.items()) / max(sum(sizes.values()), 1)


def _allocate(payload: Payload, spec: StorageSpec) -> dict[str, AnalogCode]:
    if spec.allocation is None:
        return {s.name: spec.code for s in payload.analog_streams()}
    _, planes = _planes(payload, spec)
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
