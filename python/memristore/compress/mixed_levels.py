"""Levels coded by what was coded before them: bits whose probabilities adapt to kernel, row, column and neighbours.

Levels of a network's weights are not alike: some input channels matter less than others, some filters, some corners of
kernels. The kernels (`_core.mix_encode`) predict each bit from counts in several contexts and mix the predictions; here
is the tensor around it. Nothing but levels is written: counts begin anew in each part of a tensor and need no tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.compress.level_models import BLOCK
from memristore.compress.level_stream import (
    FLAG_MASK,
    LevelCoder,
    Reader,
    head_of,
    read_head,
    varint,
)

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

#: Values that are coded together, in whole rows.
PART: Final = 1 << 18
#: Most values to a byte, so that a damaged size asks for no more where nothing else tells it.
_MOST_VALUES: Final = 256
#: Levels of a larger mean magnitude take many bits each, which contexts have little to say of.
_MOST_MEAN: Final = 6.0
_NO_MASK: Final = np.zeros(0, np.uint8)


class Layout:
    """How a tensor lies in rows, columns and taps.

    Parameters
    ----------
    size : int
        Values.
    columns, taps, width : int
        Columns of a row, taps of a kernel, taps in a line of it; where they do not fit the size, all is one row.
    """

    def __init__(self, size: int, columns: int, taps: int, width: int) -> None:
        good = columns > 0 and 0 < width <= taps <= _core.MIX_MAX_TAPS and size % (columns * taps) == 0
        self.size = size
        self.columns, self.taps, self.width = (columns, taps, width) if good else (size, 1, 1)

    @classmethod
    def of(cls, shape: tuple[int, ...], size: int) -> Layout:
        """Layout of weights (rows, columns, taps ...), of a matrix, or of anything else as one row."""
        if len(shape) < 2 or math.prod(shape) != size:
            return cls(size, size, 1, 1)
        return cls(size, shape[1], math.prod(shape[2:]), shape[-1] if len(shape) > 2 else 1)

    def parts(self) -> Iterator[tuple[slice, int]]:
        """Places of each part, and its columns: as many whole rows as make `PART` values, or pieces of the only row."""
        line = self.columns * self.taps
        if line == self.size and self.taps == 1:
            for start in range(0, self.size, PART):
                some = slice(start, min(start + PART, self.size))
                yield some, some.stop - some.start
            return
        stride = max(PART // line, 1) * line
        for start in range(0, self.size, stride):
            yield slice(start, min(start + stride, self.size)), self.columns


def write_mixed(
    coder: LevelCoder, levels: I32, nonzero: Bools | None, shape: tuple[int, ...], size: int
) -> bytes | None:
    """Write all levels of a tensor.

    Parameters
    ----------
    coder : LevelCoder
        Goes into the header, without its tables and classes.
    levels : ndarray, shape (m,), int32
        Levels of the values.
    nonzero : ndarray, shape (size,), bool, optional
        Which places have a level; the others hold exact zeros.
    shape : tuple of int
        Of the tensor; empty if it is not known.
    size : int
        Number of places.

    Returns
    -------
    bytes
        For :func:`read_mixed`; None where levels are too large to gain from contexts, or almost all
        of them too easy: more than 256 values to a byte.
    """
    if levels.size == 0 or float(np.abs(levels).mean(dtype=np.float64)) > _MOST_MEAN:
        return None
    layout = Layout.of(shape, size)
    all_levels, mask = levels, _NO_MASK
    if nonzero is not None:
        all_levels, mask = np.zeros(size, np.int32), nonzero.view(np.uint8)
        all_levels[nonzero] = levels
    parts, state = [], 0
    starts = []
    for place, columns in layout.parts():
        starts.append(state)
        part, state = _core.mix_encode(
            all_levels[place], mask[place] if mask.size else mask, columns, layout.taps, layout.width, coder.states,
            place.start, state,
        )  # fmt: skip
        parts.append(part)
    out = varint(size) + head_of(coder, FLAG_MASK * (nonzero is not None))
    # The only row of a matrix says 0, which damage cannot make too long.
    out += varint(0 if layout.columns == size else layout.columns) + varint(layout.taps)
    out += varint(layout.width) if layout.taps > 1 else b""
    out += b"".join(varint(len(part)) for part in parts[:-1]) + bytes(starts[1:] if coder.states > 1 else [])
    out += b"".join(parts)
    return out if size <= _MOST_VALUES * len(out) else None


def read_mixed(data: U8, size: int | None, threads: int = 0) -> F32:
    """Undo :func:`write_mixed`.

    Parameters
    ----------
    data : ndarray of uint8
        May be damaged: then values are wrong, to the end of the damaged part or, after damage to the header, in all.
    size : int, optional
        Number of values, where the decoder knows it.
    threads : int
        For kernels; 0 means all.

    Returns
    -------
    ndarray, shape (size,), float32
        The values.
    """
    reader = Reader(data)
    written = reader.varint()
    if size is None:
        size = min(written, _MOST_VALUES * data.size)
    if size == 0:
        return np.zeros(0, np.float32)
    flags, coder = read_head(reader)
    states = coder.states
    columns, taps = reader.varint() or size, reader.varint()
    layout = Layout(size, columns, taps, reader.varint() if taps > 1 else 1)
    places = list(layout.parts())
    lengths = [reader.varint() for _ in places[1:]]
    first = reader.take(len(lengths)).tolist() if states > 1 else [0] * len(lengths)
    out = np.zeros(size, np.float32)
    for (place, columns), length, state in zip(places, [*lengths, data.size], [0, *first], strict=True):
        part = reader.take(min(length, data.size - reader.at))
        levels = np.zeros(place.stop - place.start, np.int32)
        mask = np.ones(levels.size, np.uint8) if flags & FLAG_MASK else _NO_MASK
        _core.mix_decode(part, levels, mask, columns, layout.taps, layout.width, states, place.start, state % states)
        _fill(out[place], coder, levels, mask, place.start, state % states, threads)
    return out


def _fill(out: F32, coder: LevelCoder, levels: I32, mask: U8, first: int, state: int, threads: int) -> None:
    """Write the values of a part: from its own state to the next block of the trellis, then block by block."""
    at = 0
    while at < levels.size:
        block = slice(at, min(at + BLOCK - (first + at) % BLOCK, levels.size))
        start = state if (first + at) % BLOCK else 0
        if mask.size:
            nonzero = mask[block].view(np.bool_)
            out[block][nonzero] = coder.values(levels[block][nonzero], threads, start)
        else:
            out[block] = coder.values(levels[block], threads, start)
        at = block.stop
