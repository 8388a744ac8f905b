"""The bytes of a tensor that went through the trellis: a header, then blocks that stand or fall by themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import constriction
import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.compress.level_models import BLOCK, STATES, LevelModel, read_model, table_size
from memristore.masks import fit

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]

STATE_COUNTS: Final = (4, 8, 16, 32, 64)
#: As numbered in the header; one state is a uniform quantiser.
CODED_COUNTS: Final = (*STATE_COUNTS, 1)
MAX_LIMIT: Final = 1023
MAX_CLASSES: Final = 16
#: Shifts are stored in 128ths of a step.
SHIFT_UNIT: Final = 128
#: Parity-check polynomials that tell the quantiser of a state; the same as in trellis.hpp.
_H1: Final = {1: 0, 4: 0o2, 8: 0o4, 16: 0o4, 32: 0o10, 64: 0o24}
_ZERO: Final = np.float32(0)
_NO_MEMORY: Final = np.zeros(1, np.uint32)
FLAG_OFFSET, FLAG_MASK, FLAG_STATES, FLAG_SHIFTS = 8, 16, 32, 64
_LARGEST: Final = np.finfo(np.float32).max


def quantisers(states: int) -> U8:
    """Which of the two quantisers each state uses."""
    return np.array([bin(s & (_H1[states] >> 1)).count("1") & 1 for s in range(states)], np.uint8)


def bound_of(code: npt.NDArray[Any]) -> U32:
    """Bounds of classes from bytes: a mantissa of three bits and an exponent."""
    wide = code.astype(np.int64)
    bounds: U32 = np.minimum((8 + wide % 8) << (wide // 8) >> 3, 2**31 - 1).astype(np.uint32)
    return bounds


@dataclass(frozen=True, eq=False)
class LevelCoder:
    """All that turns levels into values and bits, and back.

    Parameters
    ----------
    states : int
        States of the trellis; 1: a uniform quantiser, whose points are the even ones.
    step, offset : float32
        A value is its point times the step, plus the offset.
    shifts : ndarray, shape (5,), int8
        How far points lie outside their place, in 128ths of a step.
    decay : int
        0: one class. Else classes by the points before a value; see trellis.hpp.
    bounds : ndarray of uint8
        Codes of the bounds between the classes.
    models : tuple of LevelModel
        By class; all with the same limit, and with the same contexts.
    """

    states: int
    step: np.float32
    models: tuple[LevelModel, ...]
    offset: np.float32 = _ZERO
    shifts: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(5, np.int8))
    decay: int = 0
    bounds: U8 = field(default_factory=lambda: np.zeros(0, np.uint8))

    @property
    def limit(self) -> int:
        """Largest level that needs no escape."""
        return self.models[0].limit

    @property
    def group(self) -> U8:
        """Context of each state."""
        by_state = self.models[0].kind == STATES
        return np.arange(self.states, dtype=np.uint8) if by_state else quantisers(self.states)

    @property
    def groups(self) -> int:
        """Number of contexts in a class."""
        return len(self.models[0].frequencies)

    @property
    def memory(self) -> U32:
        """Decay and bounds as the kernels want them."""
        return np.r_[np.uint32(self.decay), bound_of(self.bounds)].astype(np.uint32) if self.decay else _NO_MEMORY

    @property
    def shift_steps(self) -> F32:
        """Shifts, in steps."""
        return (self.shifts / np.float32(SHIFT_UNIT)).astype(np.float32)

    def values(self, levels: I32, threads: int = 0, state: int = 0) -> F32:
        """Values of levels, one block after the other, the first of which starts in `state`."""
        points = np.empty(levels.size, np.float32)
        _core.trellis_points(levels, self.states, self.shift_steps, points, threads, state)
        return self.scale(points)

    def scale(self, points: F32) -> F32:
        """Turn points, in steps, into values, in place; always finite."""
        with np.errstate(all="ignore"):
            points *= self.step
            if self.offset != 0:
                points += self.offset
        # Infinities can only come from large values: NaN from none, since neither step nor offset is.
        return np.clip(points, -_LARGEST, _LARGEST, out=points)


class Reader:
    """Takes numbers off bytes; past their end all is zero."""

    def __init__(self, data: U8) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> U8:
        """Return the next bytes."""
        part = self.data[self.at : self.at + count]
        self.at = min(self.at + count, self.data.size)
        return fit(part, count)

    def byte(self) -> int:
        """Return the next byte."""
        return int(self.take(1)[0])

    def varint(self) -> int:
        """Return a number of up to 63 bits, seven to a byte, the lowest first."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                break
        return value

    def float32(self) -> np.float32:
        """Return a float32; zero where it is not finite."""
        value = self.take(4).view("<f4")[0]
        return np.float32(value) if np.isfinite(value) else np.float32(0)


def varint(value: int) -> bytes:
    """Write a number for :meth:`Reader.varint`."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def head_of(coder: LevelCoder, flags: int) -> bytes:
    """Bytes that say how levels become values; `flags` are those that say how the levels are coded."""
    offset, shifts = bool(coder.offset != 0), bool(coder.shifts.any())
    flags |= CODED_COUNTS.index(coder.states) | FLAG_OFFSET * offset | FLAG_SHIFTS * shifts
    out = bytes([flags]) + np.array(coder.step, "<f4").tobytes()
    out += np.array(coder.offset, "<f4").tobytes() if offset else b""
    return out + (coder.shifts.tobytes() if shifts else b"")


def read_head(reader: Reader) -> tuple[int, LevelCoder]:
    """Undo :func:`head_of`: the flags, and a coder without models."""
    flags = reader.byte()
    states = CODED_COUNTS[min(flags & 7, len(CODED_COUNTS) - 1)]
    step = reader.float32()
    offset = reader.float32() if flags & FLAG_OFFSET else _ZERO
    shifts = reader.take(5).view(np.int8) if flags & FLAG_SHIFTS else np.zeros(5, np.int8)
    return flags, LevelCoder(states, step, (), offset, shifts)


def write_levels(coder: LevelCoder, levels: I32, nonzero: Bools | None, size: int) -> bytes:
    """Write all levels of a tensor.

    Parameters
    ----------
    coder : LevelCoder
        Goes into the header.
    levels : ndarray, shape (m,), int32
        Levels of the values, in blocks of `BLOCK` places.
    nonzero : ndarray, shape (size,), bool, optional
        Which places have a level; the others hold exact zeros.
    size : int
        Number of places.

    Returns
    -------
    bytes
        The tensor.
    """
    starts = range(0, size, BLOCK)
    models = _categorical(coder)
    blocks: list[bytes] = []
    done = 0
    for start in starts:
        mask = None if nonzero is None else nonzero[start : start + BLOCK]
        count = min(BLOCK, size - start) if mask is None else int(np.count_nonzero(mask))
        blocks.append(_write_block(coder, models, levels[done : done + count], mask))
        done += count
    flags = FLAG_MASK * (nonzero is not None) | FLAG_STATES * (coder.models[0].kind == STATES)
    out = varint(size) + head_of(coder, flags) + varint(coder.limit) + bytes([coder.decay])
    out += bytes([len(coder.models)]) + coder.bounds.tobytes() if coder.decay else b""
    out += b"".join(bytes([m.kind]) + m.table.tobytes() for m in coder.models)
    return out + b"".join(varint(len(b)) for b in blocks) + b"".join(blocks)


def read_levels(data: U8, size: int | None, threads: int = 0) -> F32:
    """Undo :func:`write_levels`.

    Parameters
    ----------
    data : ndarray of uint8
        May be damaged: then values are wrong, in the damaged blocks or, after damage to the header, in all.
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
    if size is None:  # each block has its length in the header
        size = min(written, BLOCK * data.size)
    flags, head = read_head(reader)
    states = head.states
    limit = max(1, min(reader.varint(), MAX_LIMIT))
    decay = min(reader.byte(), 15)
    by_state = bool(flags & FLAG_STATES)  # never with classes
    classes = max(1, min(reader.byte(), MAX_CLASSES)) if decay and not by_state else 1
    bounds = reader.take(classes - 1)
    models = []
    for _ in range(classes):
        kind = reader.byte() % STATES
        kind = STATES if by_state else kind
        models.append(read_model(kind, limit, states, reader.take(table_size(kind, limit, states))))
    coder = replace(head, models=tuple(models), decay=0 if by_state else decay, bounds=bounds)
    lengths = [reader.varint() for _ in range(0, size, BLOCK)]
    categorical = _categorical(coder)
    out = np.zeros(size, np.float32)
    for start, length in zip(range(0, size, BLOCK), lengths, strict=True):
        place = out[start : start + BLOCK]
        block = reader.take(min(length, data.size - reader.at))
        _read_block(coder, categorical, block, place, bool(flags & FLAG_MASK), threads)
    return out


def _categorical(coder: LevelCoder) -> list[Any]:
    return [constriction.stream.model.Categorical(row, perfect=False) for m in coder.models for row in m.probabilities]


def _flag_model(kept: int, size: int) -> Any:
    share = (kept + 0.5) / (size + 1)
    return constriction.stream.model.Categorical(np.array([1 - share, share]), perfect=False)


def _write_block(coder: LevelCoder, models: list[Any], levels: I32, mask: Bools | None) -> bytes:
    """Number of levels (with a mask) and of levels in each context but the last; then 32-bit words of the coder."""
    counts = np.empty(len(models), np.uint32)
    symbols, escapes = np.empty(levels.size, np.int32), np.empty(levels.size, np.int32)
    used = _core.trellis_split(
        levels, coder.states, coder.limit, coder.group, coder.groups, coder.memory, counts, symbols, escapes
    )
    # Last in, first out: what the decoder needs first is written last.
    ans = constriction.stream.stack.AnsCoder()
    if used:
        _write_escapes(ans, escapes[:used].astype(np.int64) + 1)
    end = levels.size
    for model, count in zip(reversed(models), counts[::-1].tolist(), strict=True):
        if count:
            ans.encode_reverse(symbols[end - count : end], model)
        end -= count
    head = b"".join(varint(c) for c in counts[:-1].tolist())
    if mask is not None:
        head = varint(levels.size) + head
        if 0 < levels.size < mask.size:
            ans.encode_reverse(mask.astype(np.int32), _flag_model(levels.size, mask.size))
    words: bytes = ans.get_compressed().astype("<u4").tobytes()
    return head + words


def _read_block(coder: LevelCoder, models: list[Any], data: U8, out: F32, masked: bool, threads: int) -> None:
    reader = Reader(data)
    size = min(reader.varint(), out.size) if masked else out.size
    counts, left = np.zeros(len(models), np.uint32), size
    for i in range(len(models) - 1):
        counts[i] = min(reader.varint(), left)
        left -= int(counts[i])
    counts[-1] = left
    words = data[reader.at : reader.at + (data.size - reader.at) // 4 * 4].view("<u4").astype(np.uint32)
    if words.size and words[-1] == 0:
        words[-1] = 1  # only damage does this, and the coder would refuse it
    ans = constriction.stream.stack.AnsCoder(words) if words.size else constriction.stream.stack.AnsCoder()
    nonzero = None
    if masked and size < out.size:
        nonzero = np.zeros(out.size, np.bool_)
        if size:
            nonzero = ans.decode(_flag_model(size, out.size), out.size).astype(np.bool_)
    parts = [ans.decode(model, int(count)) for model, count in zip(models, counts, strict=True) if count]
    symbols = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    used = int(np.count_nonzero((symbols == 0) | (symbols == 2 * coder.limit)))
    escapes = _read_escapes(ans, used) if used else np.zeros(0, np.int32)
    levels = np.empty(size, np.int32)
    _core.trellis_join(
        symbols, coder.states, coder.limit, coder.group, coder.groups, coder.memory, counts, escapes, levels
    )
    values = coder.values(levels, threads)
    if nonzero is None:
        out[:] = values
    else:
        out[nonzero] = fit(values, int(np.count_nonzero(nonzero)))


def _write_escapes(ans: Any, numbers: npt.NDArray[np.int64]) -> None:
    """Write numbers from 1 on: how many bits, then the bits below the first."""
    widths = np.floor(np.log2(numbers)).astype(np.int32)
    below = (numbers - (np.int64(1) << widths)).astype(np.int32)
    some = widths > 0
    if some.any():
        ans.encode_reverse(below[some], constriction.stream.model.Uniform(), np.int32(1) << widths[some])
    ans.encode_reverse(widths, constriction.stream.model.Uniform(32))


def _read_escapes(ans: Any, count: int) -> I32:
    widths = np.minimum(ans.decode(constriction.stream.model.Uniform(32), count), 20)
    below = np.zeros(count, np.int32)
    some = widths > 0
    if some.any():
        below[some] = ans.decode(constriction.stream.model.Uniform(), (np.int32(1) << widths[some]).astype(np.int32))
    escapes: I32 = np.minimum((np.int32(1) << widths) + below - 1, _core.TRELLIS_MAX_LEVEL - MAX_LIMIT).astype(np.int32)
    return escapes
