"""Bits on cells: how many levels, which code and what rate, chosen for a device and a retention time."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from memristore import devices
from memristore.array import OneShot, Write
from memristore.channel import BitChannel
from memristore.codes import BitCode, bit_codes
from memristore.config import check_number
from memristore.devices import Device
from memristore.errors import SpecError
from memristore.mapping import LEVEL_GROUPS, Levels
from memristore.units import Time, format_time, parse_time

#: Largest accepted probability that a block comes back wrong, per read at the end of the retention time.
BLOCK_ERROR: Final[float] = 1e-12
_MOST_COPIES: Final[int] = 16
_MOST_COPIED: Final[int] = 4
#: Another copy must bring the raw error below this share of what it was.
_GAIN: Final[float] = 0.8
#: Where the target cannot be reached, the least of these that can be is taken.
_RELAXED: Final = (1e-9, 1e-6, 1e-4, 1e-2, 1.0)


@dataclass(frozen=True)
class BitFormat:
    """How bits are kept on cells, and what that was sized for.

    Parameters
    ----------
    code : BitCode
        With all parameters settled.
    levels : Levels
    copies : int
        Cells whose reads are averaged for one symbol.
    channel : BitChannel
        What the code sees, at programming or at the end of the retention time, whichever is worse.
    block_error : float
        Probability that a block then comes back wrong, as the code predicts it; blocks of the tail have their own.
    target : float
        What was asked for.
    tail : BitFormat, optional
        Levels and code of smaller blocks for what is left over after the last whole superblock, where that takes fewer
        cells than a shortened superblock of `code`. As many copies, and no tail of its own.

    Raises
    ------
    SpecError
        If the tail does not go with the rest.
    """

    code: BitCode
    levels: Levels
    copies: int
    channel: BitChannel
    block_error: float
    target: float = BLOCK_ERROR
    tail: BitFormat | None = None

    def __post_init__(self) -> None:
        if self.tail is not None and (self.tail.copies != self.copies or self.tail.tail is not None):
            raise SpecError("a format's tail has as many copies as the format, and no tail of its own")

    @property
    def parts(self) -> tuple[BitFormat, ...]:
        """The format, and its tail if it has one."""
        return (self,) if self.tail is None else (self, self.tail)

    @property
    def worst_error(self) -> float:
        """Largest probability that a block comes back wrong, of the tail or of the others."""
        return max(part.block_error for part in self.parts)

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return all(part.block_error <= part.target for part in self.parts)

    @property
    def cells_per_coded_bit(self) -> float:
        """Cells for one bit after coding."""
        return self.copies * self.levels.cells / self.levels.bits

    @property
    def cells_per_bit(self) -> float:
        """Cells for one data bit, check bits included."""
        return self.cells_per_coded_bit / self.code.rate

    @property
    def net_bits_per_cell(self) -> float:
        """Data bits in one cell."""
        return 1.0 / self.cells_per_bit

    def layout(self, data_bits: int) -> tuple[Group, ...]:
        """Superblocks that hold so many bits.

        A superblock interleaves as many words as a group of cells has bits. The last one is shortened; what is left
        over after the whole ones is in superblocks of `tail`, if that takes fewer cells.
        """
        size = -(-data_bits // 8)
        whole, rest = divmod(size, self._superblock_bytes)
        groups = (Group(self, self.code, whole),) if whole else ()
        if not rest:
            return groups
        choices = [self._shortened(rest)]
        if self.tail is not None:
            more, left = divmod(rest, self.tail._superblock_bytes)
            some = (Group(self.tail, self.tail.code, more),) if more else ()
            choices.append(some + self.tail._shortened(left))
        return groups + min(choices, key=lambda choice: sum(group.cells for group in choice))

    def shares(self, data_bits: int) -> list[tuple[BitFormat, float]]:
        """The parts that hold so many bits, each with its share of them."""
        groups = self.layout(data_bits)
        held = [sum(g.words * g.code.block_data_bits for g in groups if g.format is part) for part in self.parts]
        return [(part, bits / sum(held)) for part, bits in zip(self.parts, held, strict=True) if bits]

    @property
    def _superblock_bytes(self) -> int:
        return self.levels.bits * (self.code.block_data_bits // 8)

    def _shortened(self, size: int) -> tuple[Group, ...]:
        """One superblock with words just long enough for so many bytes."""
        if size == 0:
            return ()
        return (Group(self, self.code.with_data_bits(8 * -(-size // self.levels.bits)), 1),)

    def cells(self, data_bits: int) -> int:
        """Cells that hold so many data bits: whole code words, the last ones shortened; all copies."""
        return self.copies * sum(group.cells for group in self.layout(data_bits)) if data_bits > 0 else 0

    def describe(self) -> str:
        """Levels and code in words."""
        copies = f" x {self.copies} cells" if self.copies > 1 else ""
        tail = f", the rest in {self.tail.describe()}" if self.tail is not None else ""
        return f"{self.levels.count}-level cells{copies}, {describe_code(self.code)}{tail}"

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return {
            "code": self.code.to_dict(),
            "levels": self.levels.to_dict(),
            "copies": self.copies,
            "channel": dataclasses.asdict(self.channel),
            "block_error": self.block_error,
            "target": self.target,
            "tail": None if self.tail is None else self.tail.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BitFormat:
        """Rebuild from :meth:`to_dict`'s form."""
        return cls(
            code=bit_codes.from_dict(data["code"]),
            levels=Levels.from_dict(data["levels"]),
            copies=int(data["copies"]),
            channel=BitChannel(**data["channel"]),
            block_error=float(data["block_error"]),
            target=float(data["target"]),
            tail=cls.from_dict(data["tail"]) if data.get("tail") is not None else None,
        )


@dataclass(frozen=True)
class Group:
    """Superblocks of one size, one behind the other.

    Parameters
    ----------
    format : BitFormat
        Whose levels they are on.
    code : BitCode
        With the data bits of a word settled.
    count : int
        Superblocks.
    """

    format: BitFormat
    code: BitCode
    count: int

    @property
    def words(self) -> int:
        """Code words of all superblocks."""
        return self.count * self.format.levels.bits

    @property
    def cells(self) -> int:
        """Cells of all superblocks, without copies."""
        return self.count * (self.code.block_data_bits + self.code.check_bits) * self.format.levels.cells


def describe_code(code: BitCode) -> str:
    """Name and settled parameters of a bit code, in words."""
    given = (f for f in dataclasses.fields(code) if getattr(code, f.name) is not None)  # type: ignore[arg-type]
    fields = ", ".join(f"{f.name}={getattr(code, f.name)}" for f in given)
    return f"{code.name}({fields})" if fields else str(code.name)


def sized_for(
    code: BitCode,
    device: Device | str,
    retention: Time = "10 years",
    *,
    block_error: float = BLOCK_ERROR,
    levels: Levels | None = None,
    write: Write | None = None,
    payload_bits: int | None = None,
) -> BitFormat:
    """Choose levels, code parameters and copies that hold the most net bits per cell on a device.

    Parameters
    ----------
    code : BitCode
        A family (``Bch()``) or one code (``Bch(t=11)``).
    device : Device or str
    retention : float or str
        Age until which the block error is to be kept.
    block_error : float
        Largest probability that a block comes back wrong, per read.
    levels : Levels, optional
        Only these levels; by default all counts are tried.
    write : Write, optional
        One-shot by default.
    payload_bits : int, optional
        Size of what will be stored: padding and shortened words then count.

    Returns
    -------
    BitFormat
        Its ``met`` says whether the target was reached; where it cannot be, the most reliable format found.

    Raises
    ------
    SpecError
        If the target is not a probability.

    Examples
    --------
    >>> from memristore import Bch, sized_for
    >>> sized_for(Bch(), "pcm-ibm-90nm", "1 year").levels.count
    4
    """
    cell = devices.get(device) if isinstance(device, str) else device
    check_number("sized_for", "block_error", block_error, 0, 1)
    if payload_bits is not None:
        check_number("sized_for", "payload_bits", payload_bits, 0, 2**60, integer=True)
    if not isinstance(code, BitCode):
        raise SpecError(f"sized_for: {code!r} is not a bit code; there are {', '.join(bit_codes.names())}")
    how = OneShot() if write is None else write
    return _sized(code, cell, parse_time(retention), block_error, levels, how, payload_bits)


@functools.lru_cache(maxsize=64)
def _sized(
    code: BitCode,
    device: Device,
    retention: float,
    target: float,
    levels: Levels | None,
    write: Write,
    payload_bits: int | None,
) -> BitFormat:
    counts = sorted(LEVEL_GROUPS)
    for error in (target, *(e for e in _RELAXED if e > target)):
        found: list[BitFormat] = []
        for family in code.families:
            # Decided bits want few errors, likelihoods want information: levels are placed accordingly.
            placement = "information" if family.soft else "error"
            tried = [levels] if levels else [Levels(count=count, placement=placement) for count in counts]
            found.extend(_formats(family, device, retention, error, target, tried, write))
        if payload_bits is not None:
            found = _with_tails(found)
        best = min(found, key=lambda f: (_cost(f, payload_bits), f.tail is not None, f.block_error), default=None)
        if best is not None:
            return best
    raise SpecError(f"{device.name}: no format of {code.name} holds bits at all after {format_time(retention)}")


def _with_tails(found: list[BitFormat]) -> list[BitFormat]:
    """All formats, and pairs of those that are densest for their block length."""
    dense = sorted(found, key=lambda f: f.cells_per_bit, reverse=True)
    best = {(f.code.block_data_bits, f.copies): f for f in dense}.values()
    return found + [
        dataclasses.replace(one, tail=tail)
        for one in best
        for tail in best
        if tail.copies == one.copies and tail.code.block_data_bits < one.code.block_data_bits
    ]


def _cost(found: BitFormat, payload_bits: int | None) -> float:
    return found.cells_per_bit if payload_bits is None else found.cells(payload_bits)


def _formats(
    code: BitCode,
    device: Device,
    retention: float,
    error: float,
    target: float,
    tried: list[Levels],
    write: Write,
) -> Iterator[BitFormat]:
    most = 0.0
    for levels in tried:
        before = math.inf
        # Many levels on several cells hold less than fewer levels on one.
        for copies in range(1, (_MOST_COPIES if levels.count <= _MOST_COPIED else 1) + 1):
            # Even a code without check bits would hold less than what is found already.
            if levels.bits / (levels.cells * copies) <= most:
                break
            channel = levels.design(device, write, retention, copies).channel(retention)
            # More copies do not outvote stuck cells.
            if channel.raw_error > _GAIN * before:
                break
            before = channel.raw_error
            found = [
                BitFormat(c, levels, copies, channel, c.block_error(channel), target)
                for c in code.candidates(channel, error)
            ]
            yield from found
            most = max([most, *(f.net_bits_per_cell for f in found)])
