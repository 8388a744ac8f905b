"""Bit streams on real cells: one single-level region per model, coded in words, programmed and read like any cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.array import READ
from memristore.codes import BitCode
from memristore.devices.device import Device
from memristore.devices.tails import level_errors
from memristore.streams import BitStream

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

#: Address of the first bit cell; analog cells lie below.
FIRST_CELL: Final[int] = 1 << 48
#: Largest accepted probability that a word comes back wrong, per read at the end of the retention time.
BLOCK_ERROR: Final[float] = 1e-12
_MOST_CELLS_PER_BIT: Final[int] = 16


@dataclass(frozen=True)
class Region:
    """Where a bit stream lies: its first byte in the region, its bits, its kind."""

    name: str
    byte: int
    length: int
    kind: str

    @property
    def bytes(self) -> int:
        """Bytes taken."""
        return (self.length + 7) // 8


@dataclass(frozen=True)
class Sizing:
    """How bits are kept, and what that was sized for.

    Parameters
    ----------
    cells_per_bit : int
        Cells averaged for one bit.
    raw_error : float
        Probability that one bit is read wrong at programming or at the end of the retention time, whichever is worse;
        the device's noise integrated with its tails.
    block_error : float
        Probability that a word then comes back wrong.
    x_zero, x_one : float
        Targets of the two levels; the one with the higher state means 1.
    """

    cells_per_bit: int
    raw_error: float
    block_error: float
    x_zero: float
    x_one: float

    @property
    def met(self) -> bool:
        """Whether the target of `BLOCK_ERROR` is reached."""
        return self.block_error <= BLOCK_ERROR


def threshold(device: Device, sizing: Sizing, at: float) -> float:
    """State that best separates the levels of cells believed `at` seconds old (told to a quarter of an octave)."""
    octave = round(device.log2_age(at) * 4) / 4
    age = device.drift_t0 * (2.0**octave - 1.0)
    return level_errors(device, age, sizing.x_zero, sizing.x_one, sizing.cells_per_bit)[0]


def size(device: Device, code: BitCode, retention: float) -> Sizing:
    """Choose the fewest cells per bit (1 to 16) with which a code reaches `BLOCK_ERROR` after `retention` seconds.

    A stuck cell is wrong for one of the two bits, and averaging copies does not outvote it, so stuck cells add to the
    raw error rate whatever the number of copies. Where the target cannot be reached the result says so (``met``).
    """
    zero, one = (0.0, 1.0) if device.response(1.0) >= device.response(0.0) else (1.0, 0.0)
    stuck = (device.stuck_low + device.stuck_high) / 2
    for cells in range(1, _MOST_CELLS_PER_BIT + 1):
        noise = max(level_errors(device, at, zero, one, cells)[1] for at in (0.0, retention))
        raw = min(1.0, noise + stuck * cells)
        found = Sizing(cells, raw, code.block_error(raw), zero, one)
        if code.block_error(noise) <= BLOCK_ERROR:
            break
    return found


class BitCells:
    """The bits of a model and the cells that hold them.

    Parameters
    ----------
    regions : dict
        Where each stream lies.
    words : ndarray, shape (w,), uint64
        Data words followed by check words: what the cells were programmed with.
    data_words : int
        How many are data.
    code, sizing : BitCode, Sizing

    Notes
    -----
    Bit cells are written one-shot. Cells are not kept: their programmed states follow from the bits, the key and the
    device, and are recomputed when they are read.
    """

    def __init__(self, regions: dict[str, Region], words: U64, data_words: int, code: BitCode, sizing: Sizing) -> None:
        self.regions = regions
        self.words = words
        self.data_words = data_words
        self.code = code
        self.sizing = sizing

    @classmethod
    def pack(cls, streams: Iterable[BitStream], code: BitCode, sizing: Sizing, threads: int = 0) -> BitCells:
        """Lay streams one behind the other, byte by byte, and encode them."""
        regions: dict[str, Region] = {}
        parts: list[U8] = []
        byte = 0
        for stream in streams:
            regions[stream.name] = Region(stream.name, byte, stream.length, stream.kind)
            parts.append(stream.data)
            byte += stream.data.size
        data_words = -(-byte // 8)
        data = np.zeros(data_words * 8, dtype=np.uint8)
        if parts:
            np.concatenate(parts, out=data[:byte])
        words = data.view("<u8").astype(np.uint64, copy=False)
        check = np.zeros(-(-data_words // 8) * 8, dtype=np.uint8)
        check[:data_words] = code.encode(words, threads)
        return cls(
            regions, np.concatenate([words, check.view("<u8").astype(np.uint64, copy=False)]), data_words, code, sizing
        )

    @property
    def stride(self) -> int:
        """Cells from one copy of a bit to the next."""
        return int(self.words.size) * 64

    @property
    def payload_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(region.bytes for region in self.regions.values())

    @property
    def cells(self) -> int:
        """All cells: data and padding words and their check bits, times cells per bit."""
        return self.data_words * (64 + self.code.check_bits) * self.sizing.cells_per_bit

    def _cells_at(self, word: int) -> int:
        return FIRST_CELL + 64 * word

    def _read_words(
        self, device: Device, key: int, believed: float, at: float, event: int, start: int, stop: int, threads: int
    ) -> tuple[U64, int]:
        part = np.ascontiguousarray(self.words[start:stop])
        out = np.empty_like(part)
        errors = _core.store_bits(
            device.core(), device.read_time(at), key, 0, READ, event, self._cells_at(start), self.stride,
            self.sizing.cells_per_bit, part, self.sizing.x_zero, self.sizing.x_one,
            threshold(device, self.sizing, believed), out, threads,
        )  # fmt: skip
        return out, errors

    def read(
        self, device: Device, key: int, believed: float, at: float, event: int, names: Sequence[str], threads: int = 0
    ) -> tuple[dict[str, BitStream], BitReport]:
        """Read and decode some streams: only the words that hold them, and their check words.

        Parameters
        ----------
        device, key : Device, int
        believed : float
            Seconds since programming, as far as the decoder knows; sets the threshold.
        at, event : float, int
            Seconds since programming; number of the read.
        names : sequence of str
            Streams wanted.
        """
        out: dict[str, BitStream] = {}
        report = BitReport()
        for start, stop, group in self._spans(names):
            data, errors = self._read_words(device, key, believed, at, event, start, stop, threads)
            first = start // 8
            check_words, check_errors = self._read_words(
                device, key, believed, at, event, self.data_words + first, self.data_words + -(-stop // 8), threads
            )
            check = check_words.astype("<u8", copy=False).view(np.uint8)[start - 8 * first : stop - 8 * first].copy()
            corrected, failed = self.code.decode(data, check, threads)
            wrong = int(np.count_nonzero(data != self.words[start:stop]))
            report += BitReport(stop - start, errors + check_errors, corrected, failed, wrong)
            raw = data.astype("<u8", copy=False).view(np.uint8)
            for name in group:
                region = self.regions[name]
                low = region.byte - 8 * start
                out[name] = BitStream(name, raw[low : low + region.bytes].copy(), region.length, region.kind)
        return out, report

    def _spans(self, names: Sequence[str]) -> list[tuple[int, int, list[str]]]:
        # Neighbouring streams share a span, so that a word that holds two of them is read (and counted) once.
        spans: list[tuple[int, int, list[str]]] = []
        for name in sorted(names, key=lambda n: self.regions[n].byte):
            region = self.regions[name]
            start, stop = region.byte // 8, -(-(region.byte + region.bytes) // 8)
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], stop), [*spans[-1][2], name])
            else:
                spans.append((start, stop, [name]))
        return spans


@dataclass(frozen=True)
class BitReport:
    """What happened to the bits of a read.

    Parameters
    ----------
    words : int
        Words read.
    raw_errors : int
        Cells' bits (data and check) that were read wrong before decoding.
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
