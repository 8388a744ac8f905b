"""Bit streams on real cells: one area per model, coded in interleaved blocks, programmed and read like any cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.codes import BitCode
from memristore.mapping import LevelDesign
from memristore.sizing import BitFormat, Group
from memristore.streams import BitStream

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

#: Addresses of the first cell of coded bits, and of bits that carry their own protection; analog cells lie below.
FIRST_CELL: Final[int] = 1 << 48
FIRST_IN_PLACE: Final[int] = 1 << 56


@dataclass(frozen=True)
class Region:
    """Where a bit stream lies: its first byte in the area, its bits, its kind."""

    name: str
    byte: int
    length: int
    kind: str

    @property
    def bytes(self) -> int:
        """Bytes taken."""
        return (self.length + 7) // 8


@dataclass(frozen=True)
class BitReport:
    """What happened to the bits of a read.

    Parameters
    ----------
    words : int
        Code words read.
    raw_errors : int
        Coded bits that were decided wrong before decoding.
    corrected, failed : int
        Words that the decoder corrected, and words that it knows to be wrong.
    wrong : int
        Words that came back wrong, known to the decoder or not.
    """

    words: int = 0
    raw_errors: int = 0
    corrected: int = 0
    failed: int = 0
    wrong: int = 0

    def __add__(self, other: BitReport) -> BitReport:
        return BitReport(
            self.words + other.words,
            self.raw_errors + other.raw_errors,
            self.corrected + other.corrected,
            self.failed + other.failed,
            self.wrong + other.wrong,
        )


@dataclass(frozen=True, eq=False)
class Area:
    """A group of superblocks and what is in it.

    Parameters
    ----------
    group : Group
    design : LevelDesign
        Targets of its levels.
    rows : ndarray of uint8, shape (words, bytes)
        Coded words, data then check; as many neighbouring ones as a cell has bits make a superblock.
    first_byte, first_cell : int
        Where the area begins, among the data and among the cells.
    """

    group: Group
    design: LevelDesign
    rows: U8
    first_byte: int
    first_cell: int

    @property
    def code(self) -> BitCode:
        """Code of the words."""
        return self.group.code

    @property
    def together(self) -> int:
        """Words of a superblock."""
        return self.group.format.levels.bits

    @property
    def cells(self) -> int:
        """Cells of one superblock, without copies."""
        return self.group.cells // self.group.count

    @property
    def data_bytes(self) -> int:
        """Data bytes of a word."""
        return self.code.block_data_bits // 8

    @property
    def superblocks(self) -> int:
        """Superblocks of the area."""
        return self.group.count

    @property
    def end_byte(self) -> int:
        """First data byte behind the area."""
        return self.first_byte + len(self.rows) * self.data_bytes


class BitCells:
    """The bits of a model and the cells that hold them.

    Parameters
    ----------
    regions : dict
        Where each stream lies.
    words : sequence of ndarray of uint8, shape (words, bytes)
        Coded words, by the groups of the format's layout.
    format : BitFormat
    design : callable
        ``design(format)`` returns the targets of a format's levels, on the device, for the write and the retention time
        of the recipe.
    first_cell : int
        Address of the first cell.

    Notes
    -----
    Cells are not kept: their programmed states follow from the bits, the key and the device, and are recomputed when
    they are read.
    """

    def __init__(
        self,
        regions: dict[str, Region],
        words: Sequence[U8],
        format: BitFormat,
        design: Callable[[BitFormat], LevelDesign],
        first_cell: int = FIRST_CELL,
    ) -> None:
        self.regions = regions
        self.first_cell = first_cell
        self.format = format
        self.areas: list[Area] = []
        byte = cell = 0
        groups = format.layout(8 * sum(region.bytes for region in regions.values()))
        for rows, group in zip(words, groups, strict=True):
            wide = group.code.block_data_bits // 8 + -(-group.code.check_bits // 8)
            if rows.dtype != np.uint8 or rows.shape != (group.words, wide):
                raise ValueError("the coded words do not have the number or the length that the code gives them")
            self.areas.append(Area(group, design(group.format), rows, byte, cell))
            byte, cell = self.areas[-1].end_byte, cell + group.cells
        self._cells = cell

    @classmethod
    def pack(
        cls,
        streams: Iterable[BitStream],
        format: BitFormat,
        design: Callable[[BitFormat], LevelDesign],
        first_cell: int = FIRST_CELL,
        threads: int = 0,
    ) -> BitCells:
        """Lay streams one behind the other, byte by byte, and encode them."""
        regions: dict[str, Region] = {}
        parts: list[U8] = []
        size = 0
        for stream in streams:
            regions[stream.name] = Region(stream.name, size, stream.length, stream.kind)
            parts.append(stream.data)
            size += stream.data.size
        groups = format.layout(8 * size)
        counts = [group.words * (group.code.block_data_bits // 8) for group in groups]
        data = np.zeros(sum(counts), dtype=np.uint8)
        if parts:
            np.concatenate(parts, out=data[:size])
        words, start = [], 0
        for group, count in zip(groups, counts, strict=True):
            some = data[start : start + count].reshape(group.words, -1)
            words.append(_encode(group.code, some, threads))
            start += count
        return cls(regions, words, format, design, first_cell)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(region.bytes for region in self.regions.values())

    @property
    def data_bytes(self) -> int:
        """Data bytes of all words, padding included."""
        return self.areas[-1].end_byte if self.areas else 0

    @property
    def cells(self) -> int:
        """All cells: data, padding and check bits, all copies."""
        return self._cells * self.format.copies

    def cells_below(self, byte: int) -> float:
        """Cells of the data bytes before this one, check bits aside; all copies."""
        total = 0.0
        for area in self.areas:
            inside = min(max(byte - area.first_byte, 0), area.end_byte - area.first_byte)
            total += 8 * inside * area.group.format.cells_per_coded_bit
        return total

    def data(self) -> U8:
        """All data bytes, as they were before they were stored."""
        return np.concatenate([a.rows[:, : a.data_bytes].reshape(-1) for a in self.areas] or [_NONE])

    def read(
        self,
        key: int,
        believed: float,
        at: float,
        event: int,
        names: Sequence[str],
        threads: int = 0,
    ) -> tuple[dict[str, BitStream], BitReport]:
        """Read and decode some streams: only the superblocks that hold them.

        Parameters
        ----------
        key : int
            Names the array.
        believed : float
            Seconds since programming, as far as the decoder knows; sets thresholds and likelihoods.
        at, event : float, int
            Seconds since programming; number of the read.
        names : sequence of str
            Streams wanted.
        """
        out: dict[str, BitStream] = {}
        report = BitReport()
        for start, stop, group in self._spans(names):
            pieces: list[U8] = []
            begin = None
            for area, low, high in self._superblocks(start, stop):
                data, more = self._read_area(area, low, high, key, believed, at, event, threads)
                pieces.append(data.reshape(-1))
                report += more
                begin = area.first_byte + low * area.together * area.data_bytes if begin is None else begin
            raw = pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [_NONE])
            for name in group:
                region = self.regions[name]
                at_byte = region.byte - (begin or 0)
                out[name] = BitStream(name, raw[at_byte : at_byte + region.bytes].copy(), region.length, region.kind)
        return out, report

    def spans(self, name: str, others: Sequence[str]) -> bool:
        """Whether this stream is here and a read of the others reads all its words as well."""
        if name not in self.regions:
            return False
        ((start, stop, _),) = self._spans([name])
        return any(first <= start and stop <= last for first, last, _ in self._spans(others))

    def _read_area(
        self,
        area: Area,
        low: int,
        high: int,
        key: int,
        believed: float,
        at: float,
        event: int,
        threads: int,
    ) -> tuple[U8, BitReport]:
        rows = area.rows[low * area.together : high * area.together]
        read, errors = area.design.store(
            rows,
            area.code.block_data_bits + area.code.check_bits,
            key=key,
            first=self.first_cell + area.first_cell + low * area.cells,
            plane_stride=self._cells,
            at=at,
            believed=believed,
            event=event,
            soft=area.code.soft,
            threads=threads,
        )
        wide = area.data_bytes
        if area.code.soft:
            data, status = area.code.decode_soft(read.view(np.int8), threads)
        else:
            hard = read.view(np.uint8)
            data, check = np.ascontiguousarray(hard[:, :wide]), np.ascontiguousarray(hard[:, wide:])
            status = area.code.decode(data, check, threads)
        wrong = int(np.count_nonzero((data != rows[:, :wide]).any(axis=1)))
        corrected, failed = int(np.count_nonzero(status > 0)), int(np.count_nonzero(status < 0))
        return data, BitReport(len(rows), errors, corrected, failed, wrong)

    def _superblocks(self, start: int, stop: int) -> Iterator[tuple[Area, int, int]]:
        """Ranges of superblocks that hold the bytes [start, stop)."""
        for area in self.areas:
            if stop <= area.first_byte or start >= area.end_byte:
                continue
            each = area.together * area.data_bytes
            low = max(0, start - area.first_byte) // each
            high = min(area.superblocks, -(-(stop - area.first_byte) // each))
            if low < high:
                yield area, low, high

    def _spans(self, names: Sequence[str]) -> list[tuple[int, int, list[str]]]:
        """Byte ranges, whole superblocks, and the streams in each; neighbours share one, so that none is read twice."""
        spans: list[tuple[int, int, list[str]]] = []
        for name in sorted(names, key=lambda n: self.regions[n].byte):
            region = self.regions[name]
            start, stop = region.byte, region.byte
            for area, low, high in self._superblocks(region.byte, region.byte + region.bytes):
                each = area.together * area.data_bytes
                start = min(start, area.first_byte + low * each)
                stop = max(stop, area.first_byte + high * each)
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], stop), [*spans[-1][2], name])
            else:
                spans.append((start, stop, [name]))
        return spans


_NONE: Final = np.zeros(0, dtype=np.uint8)


def _encode(code: BitCode, data: U8, threads: int) -> U8:
    return np.concatenate([data, code.encode(data, threads)], axis=1)
