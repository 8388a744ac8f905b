"""Tensors of few values: uniform levels written as one number, with a header of a few bytes."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.compress.level_stream import Reader, varint
from memristore.masks import fit

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

#: Most values, and most levels between the lowest and the highest.
MOST_VALUES: Final = 1024
_MOST_LEVELS: Final = 1 << 20
#: Steps are 2 ** (code / 8 - 16), with one mantissa for each eighth of an octave, in 2**-22: the same on any machine.
_EIGHTHS: Final = (4194304, 4573898, 4987847, 5439259, 5931524, 6468340, 7053741, 7692122)


def step_of(code: int) -> np.float32:
    """Step of a code from 0 to 255."""
    return np.float32(np.ldexp(float(_EIGHTHS[code % 8]), code // 8 - 38))


def write_short(values: F32, worst: float) -> bytes | None:
    """Write few values with a bounded error.

    Parameters
    ----------
    values : ndarray, shape (n,), float32
        Finite; exact zeros stay exact.
    worst : float
        Mean squared error that must not be exceeded.

    Returns
    -------
    bytes
        For :func:`read_short`; None if there are too many values, or no step that fits them.
    """
    if not 0 < values.size <= MOST_VALUES:
        return None
    wide = values.astype(np.float64)
    # From the coarsest step that could do downwards: rounding leaves a twelfth of a squared step, or less by luck.
    start = int(np.clip(8 * (np.log2(max(20 * worst, 1e-30)) / 2 + 16), 0, 255))
    for code in range(start, max(start - 24, -1), -1):
        step = step_of(code)
        levels = np.rint(wide / step)
        low, high = float(levels.min()), float(levels.max())
        if max(-low, high) >= 2**40 or high - low >= _MOST_LEVELS:
            return None
        back = (levels.astype(np.float32) * step).astype(np.float64)
        if float(np.square(back - wide).mean()) <= worst:
            return _packed(levels.astype(np.int64), code)
    return None


def _packed(levels: I64, code: int) -> bytes:
    low = int(levels.min())
    count = int(levels.max()) - low + 1
    number = 0
    for level in (levels - low).tolist():
        number = number * count + level
    size = ((count**levels.size - 1).bit_length() + 7) // 8
    head = varint(levels.size) + bytes([code]) + varint(2 * low if low >= 0 else -2 * low - 1) + varint(count)
    return head + number.to_bytes(size, "big")


def read_short(data: U8, size: int | None) -> F32:
    """Undo :func:`write_short`; damaged bytes may give any finite values.

    Parameters
    ----------
    data : ndarray of uint8
    size : int, optional
        Number of values, where the decoder knows it.
    """
    reader = Reader(data)
    written = min(reader.varint(), MOST_VALUES)
    code, sign = reader.byte(), reader.varint()
    count = min(max(reader.varint(), 1), _MOST_LEVELS)
    low = sign // 2 if sign % 2 == 0 else -(sign + 1) // 2
    rest = data[reader.at :][: 4 * MOST_VALUES]
    number = int.from_bytes(rest.tobytes(), "big")
    levels = np.zeros(written, np.int64)
    for i in range(levels.size - 1, -1, -1):
        number, levels[i] = divmod(number, count)
    with np.errstate(all="ignore"):
        values = (levels + low).astype(np.float32) * step_of(code)
    return values if size is None else fit(values, size)
