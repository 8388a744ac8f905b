"""Cells with a few levels: where the levels stand, which bits they carry, and what is read back."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.array import READ, ProgramAndVerify, Write
from memristore.channel import BitChannel
from memristore.config import Configurable, check_number
from memristore.devices.device import Device
from memristore.errors import SpecError
from memristore.mapping.level_channel import PAIR_BINS, LevelChannel, level_channel
from memristore.mapping.level_labels import GROUPS, labels
from memristore.mapping.level_placement import place
from memristore.mapping.level_reads import Reads

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

_LABELLINGS: Final = ("gray", "natural")
_PLACEMENTS: Final = ("error", "information", "uniform")
_MOST_COPIES: Final[int] = 16


@dataclass(frozen=True, kw_only=True)
class Levels(Configurable):
    """Levels of a cell, and the bits that they carry.

    Two, four, eight and sixteen levels carry 1, 2, 3 and 4 bits per cell; three and six levels carry 3 and 5 bits per
    pair of cells.

    Parameters
    ----------
    count : int
        2, 3, 4, 6, 8 or 16.
    labelling : {"gray", "natural"}
        Gray: neighbouring levels differ in one bit.
    placement : {"error", "information", "uniform"}
        Targets with the fewest wrong bits of a hard decision, with the most information in soft decisions, or with
        equally spaced mean states.
    """

    name: ClassVar[str] = "levels"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"count": 3}, {"count": 8, "placement": "information"})
    count: int = 4
    labelling: str = "gray"
    placement: str = "error"

    def __post_init__(self) -> None:
        check_number(self.name, "count", self.count, 2, 16, integer=True)
        if self.count not in GROUPS:
            raise SpecError(f"{self.name}: count must be {', '.join(map(str, GROUPS))}, not {self.count}")
        for field, known in (("labelling", _LABELLINGS), ("placement", _PLACEMENTS)):
            if getattr(self, field) not in known:
                raise SpecError(f"{self.name}: {field} must be {', '.join(known)}, not {getattr(self, field)!r}")

    @property
    def cells(self) -> int:
        """Cells of a group."""
        return GROUPS[self.count][0]

    @property
    def bits(self) -> int:
        """Bits of a group."""
        return GROUPS[self.count][1]

    def design(self, device: Device, write: Write, retention: float, copies: int = 1) -> LevelDesign:
        """Place the levels on a device.

        Parameters
        ----------
        device : Device
        write : Write
        retention : float
            Seconds; levels are placed for the worse of programming time and this.
        copies : int
            Cells with the same target whose reads are averaged, 1 to 16.

        Returns
        -------
        LevelDesign

        Raises
        ------
        SpecError
            If copies or the retention time are out of range.
        """
        check_number(self.name, "copies", copies, 1, _MOST_COPIES, integer=True)
        check_number(self.name, "retention", retention, 0, 1e12)
        return _design(self, device, write, float(retention), copies)


@functools.lru_cache(maxsize=128)
def _design(levels: Levels, device: Device, write: Write, retention: float, copies: int) -> LevelDesign:
    level_of = labels(levels.count, levels.labelling)
    own = np.argsort(level_of[:, 0]).astype(np.uint8) if levels.cells == 1 else None
    ages = sorted({told_age(device, at) for at in (0.0, retention)})
    reads = [Reads(device, write, at, copies) for at in ages]
    x = place(device, reads, levels.count, own, levels.placement)
    return LevelDesign(levels, device, write, retention, copies, x.astype(np.float32), level_of)


def told_age(device: Device, seconds: float) -> float:
    """Seconds as far as decisions follow them: to a quarter of an octave of the device's age."""
    if not device.changes:
        return 0.0
    octave = round(device.log2_age(seconds) * 4) / 4
    return float(device.drift_t0 * (2.0**octave - 1.0))


@dataclass(frozen=True, eq=False)
class LevelDesign:
    """Levels placed on a device.

    Parameters
    ----------
    levels, device, write : Levels, Device, Write
    retention : float
        Seconds for which the levels were placed.
    copies : int
        Cells whose reads are averaged.
    targets : ndarray, shape (count,), float32
        By rising mean state.
    level_of : ndarray, shape (2**bits, cells), uint8
        Level of each cell of a group, by label.
    """

    levels: Levels
    device: Device
    write: Write
    retention: float
    copies: int
    targets: F32
    level_of: U8

    @property
    def cells_per_bit(self) -> float:
        """Cells for one coded bit."""
        return self.levels.cells * self.copies / self.levels.bits

    def at(self, seconds: float) -> LevelChannel:
        """Decisions for cells believed to have been programmed `seconds` ago."""
        return _channel(self, told_age(self.device, seconds))

    def channel(self, retention: float | None = None) -> BitChannel:
        """What a bit code sees at programming or after `retention` seconds, whichever is worse."""
        ends = [self.at(0.0), self.at(self.retention if retention is None else retention)]
        return BitChannel(max(c.raw_error for c in ends), min(c.information for c in ends))

    def plane_cells(self, blocks: int, n: int) -> int:
        """Cells of one copy of `blocks` words of `n` bits; blocks fill up to whole superblocks."""
        return -(-blocks // self.levels.bits) * n * self.levels.cells

    def store(
        self,
        words: U8,
        n: int,
        *,
        key: int,
        first: int,
        at: float,
        believed: float,
        event: int,
        plane_stride: int | None = None,
        write_event: int = 0,
        purpose: int = READ,
        soft: bool = False,
        threads: int = 0,
    ) -> tuple[U8 | I8, int]:
        """Write coded words into cells, let these age, and read them.

        Bit g of word w of a superblock (as many words as a group has bits) is bit ``(w - g) mod bits`` of the label of
        group g. Cell j of group g of superblock s is ``first + (s n + g) cells + j``, copies `plane_stride` apart.

        Parameters
        ----------
        words : ndarray, shape (blocks, ceil(n / 8)), uint8
            Packed bits, least significant first; as many blocks as fill whole superblocks.
        n : int
            Bits of a word.
        key, first : int
            Array, and address of the first cell.
        at, believed : float
            Seconds since programming, and what the decoder takes them for.
        event : int
            Number of the read.
        plane_stride : int, optional
            Cells from one copy to the next; by default copies follow each other.
        soft : bool
            Return log-likelihood ratios.

        Returns
        -------
        read : ndarray
            Packed hard decisions like `words`, or int8 ratios, shape (blocks, n).
        errors : int
            Wrong bits of the hard decisions.

        Raises
        ------
        SpecError
            If the words have another shape, or do not fill whole superblocks.
        """
        row = (n + 7) // 8
        if words.dtype != np.uint8 or words.ndim != 2 or words.shape[1] != row or n < 1:
            raise SpecError(f"levels: words of {n} bits are uint8 of shape (blocks, {row}), not {words.shape}")
        if words.shape[0] % self.levels.bits:
            raise SpecError(
                f"levels: {words.shape[0]} words do not fill superblocks of {self.levels.bits}; add empty words"
            )
        channel = self.at(believed)
        pulse = self.write.core(self.device) if isinstance(self.write, ProgramAndVerify) else None
        stride = self.plane_cells(words.shape[0], n) if plane_stride is None else plane_stride
        out: Any = np.empty((words.shape[0], n), np.int8) if soft else np.empty(words.shape, np.uint8)
        none = np.empty(0, np.uint8)
        errors = _core.store_levels(
            self.device.core(at), pulse, self.device.read_time(at), key, write_event, purpose, event, first, stride,
            self.copies, np.ascontiguousarray(words).reshape(-1), n, self.targets, self.level_of.reshape(-1),
            self.levels.cells, channel.start, channel.inv_step,
            none if channel.cell_bin is None else channel.cell_bin, channel.level.size, PAIR_BINS, channel.label,
            channel.llr.reshape(-1), soft, out.reshape(-1), threads,
        )  # fmt: skip
        return out, errors


@functools.lru_cache(maxsize=256)
def _channel(design: LevelDesign, at: float) -> LevelChannel:
    reads = Reads(design.device, design.write, at, design.copies)
    return level_channel(reads, design.targets.astype(np.float64), design.level_of)
