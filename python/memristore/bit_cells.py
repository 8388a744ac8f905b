"""Bit streams on real cells: one area per model, coded in interleaved blocks, programmed and read like any cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.codes import BitCode
from memristore.mapping import LevelDesign
from memristore.sizing import BitFormat
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
    """Superblocks of one kind, one behind the other.

    Parameters
    ----------
    code : BitCode
    rows : ndarray of uint8, shape (words, bytes)
        Coded words, data then check; `together` neighbouring ones make a superblock.
    together : int
        Words of a superblock.
    first_byte, first_cell : int
        Where the area begins, among the data and among the cells.
    cells : int
        Cells of one superblock, without copies.
    """

    code: BitCode
    rows: U8
    together: int
    first_byte: int
    first_cell: int
    cells: int

    @property
    def data_bytes(self) -> int:
        """Data bytes of a word."""
        return self.code.block_data_bits // 8

    @property
    def superblocks(self) -> int:
        """Superblocks of the area."""
        return int(self.rows.shape[0]) // self.together

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
    full, tail : ndarray of uint8, shape (words, bytes)
        Coded words: whole superblocks, and the last, shortened one (no rows where nothing is left over).
    format : BitFormat
    design : LevelDesign
        Targets of the levels, on the device, for the write and the retention time of the recipe.
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
        full: U8,
        tail: U8,
        format: BitFormat,
        design: LevelDesign,
        first_cell: int = FIRST_CELL,
    ) -> None:
        self.regions = regions
        self.first_cell = first_cell
        self.format = format
        self.design = design
        together, levels = format.levels.bits, format.levels
        self.areas: list[Area] = []
        byte = cell = 0
        for rows in (full, tail):
            code = format.code
            if rows is tail and len(tail):
                check = -(-code.check_bits // 8)
                code = code.with_data_bits(8 * (tail.shape[1] - check))
            cells = (code.block_data_bits + code.check_bits) * levels.cells
            self.areas.append(Area(code, rows, together, byte, cell, cells))
            byte, cell = self.areas[-1].end_byte, cell + len(rows) // together * cells
        self._cells = cell

    @classmethod
    def pack(
        cls,
        streams: Iterable[BitStream],
        format: BitFormat,
        design: LevelDesign,
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
        together, code = format.levels.bits, format.code
        most = code.block_data_bits // 8
        whole = size // (together * most) * together * most
        each = format.superblock(8 * (size - whole))[1] if size > whole else 0
        data = np.zeros(whole + together * each, dtype=np.uint8)
        if parts:
            np.concatenate(parts, out=data[:size])
        full = _encode(code, data[:whole].reshape(-1, most), threads)
        if each:
            tail = _encode(code.with_data_bits(8 * each), data[whole:].reshape(together, each), threads)
        else:
            tail = np.zeros((0, 0), dtype=np.uint8)
        return cls(regions, full, tail, format, design, first_cell)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(region.bytes for region in self.regions.values())

    @property
    def data_bytes(self) -> int:
        """Data bytes of all words, padding included."""
        return self.areas[-1].end_byte if len(self.areas[-1].rows) else self.areas[0].end_byte

    @property
    def cells(self) -> int:
        """All cells: data, padding and check bits, all copies."""
        return self._cells * self.format.copies

    def data(self) -> U8:
        """All data bytes, as they were before they were stored."""
        return np.concatenate([a.rows[:, : a.data_bytes].reshape(-1) for a in self.areas if len(a.rows)] or [_NONE])

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
        read, errors = self.design.store(
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
            if not len(area.rows) or stop <= area.first_byte or start >= area.end_byte:
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
    if not len(data):
        return np.zeros((0, data.shape[1] + -(-code.check_bits // 8)), dtype=np.uint8)
    return np.concatenate([data, code.encode(data, threads)], axis=1)
