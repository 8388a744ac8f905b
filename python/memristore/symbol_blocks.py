"""Blocks of entropy-coded symbols: each holds its own model and is decoded by itself.

A block is a header of whole bytes followed by the bytes of a coder with asymmetric numeral systems (J. Duda, 2013,
arXiv:1311.2540; the coder is that of the library ``constriction``), which is read from its end. Probabilities are
integers that sum to ``2**20``, made by integer arithmetic alone, so every machine decodes the same symbols. Damaged
bytes give wrong symbols of this block, never an error.

====== ====================================================================================================
kind   header after the first byte (kind in its low three bits)
====== ====================================================================================================
raw    none; the symbols packed at their width
single the symbol that the whole block repeats
binary frequency of ones, 2 bytes
table  shift, lowest and number of symbols; their log-probabilities are the first symbols of the coder
shape  shift, lowest and number of symbols; centre and three coefficients of a log-probability
====== ====================================================================================================

`shift` low bits of wide symbols stand packed behind the header: a model could not tell them from noise.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import constriction
import numpy as np
import numpy.typing as npt

from memristore.masks import fit, pack_codes, unpack_codes

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_RAW, _SINGLE, _BINARY, _TABLE, _SHAPE = range(5)
#: Frequencies sum to 2**_PRECISION; the coder's 24-bit tables hold them without rounding.
_PRECISION: Final = 20
#: Most bits of a symbol that a model sees.
_MODEL_BITS: Final = 12
#: Resolution of log-probabilities: 16 levels to a bit, and ``round(2**24 * 2**(-i / 16))``.
_LEVELS: Final = 16
_EXP2: Final = np.array(
    [16777216, 16065917, 15384775, 14732511, 14107901, 13509772, 12937002, 12388516,
     11863283, 11360319, 10878679, 10417458, 9975792, 9552851, 9147842, 8760003],
    np.int64,
)  # fmt: skip
_DEEPEST: Final = _PRECISION * _LEVELS
#: A table's log-probabilities are told in steps of so many levels; their differences have probabilities that halve
#: every ``_LEVELS / decay`` numbers; symbols that do not occur count as so many.
_STEPS: Final = (1, 4)
_DECAYS: Final = (1, 3, 7, 16)
_UNSEEN: Final = (0.02, 0.5)
#: Unit of a shape's coefficients, bits.
_UNIT: Final = 32
_SHAPE_FROM: Final = 12


@dataclass(frozen=True)
class _Plan:
    """A model that the encoder considers: header bytes, frequencies, and bits in front of the symbols."""

    kind: int
    head: bytes
    frequencies: I64
    table: npt.NDArray[np.int32]
    decay: int
    bits: float


def encode_block(symbols: U32, width: int) -> U8:
    """Code symbols in as few bytes as the block's models can.

    Parameters
    ----------
    symbols : ndarray, shape (n,), uint32
        Numbers below ``2**width``.
    width : int
        1 to 16, or 32.

    Returns
    -------
    ndarray, shape (m,), uint8
        At most one byte more than the packed symbols.
    """
    if symbols.size == 0:
        return np.array([_RAW], np.uint8)
    if symbols.min() == symbols.max():
        value = int(symbols[0]).to_bytes((width + 7) // 8, "little")
        return np.frombuffer(bytes([_SINGLE]) + value, np.uint8)
    packed_bytes = (symbols.size * width + 7) // 8
    coded = _encode_binary(symbols) if width == 1 else _encode_wide(symbols, width)
    if coded is not None and coded.size < packed_bytes:
        return coded
    return np.concatenate([np.array([_RAW], np.uint8), pack(symbols, width)])


def decode_block(data: U8, width: int, count: int) -> U32:
    """Undo :func:`encode_block`; damaged bytes give some symbols.

    Parameters
    ----------
    data : ndarray, shape (m,), uint8
        The block.
    width : int
        Bits of a symbol.
    count : int
        Number of symbols.

    Returns
    -------
    ndarray, shape (count,), uint32
        Numbers below ``2**width``.
    """
    first = int(data[0]) if data.size else _RAW
    kind, body = first & 7, data[1:]
    if kind == _SINGLE:
        value = int.from_bytes(body[:4].tobytes(), "little") & (2**width - 1)
        return np.full(count, value, np.uint32)
    if kind == _BINARY and width == 1:
        ones = int.from_bytes(body[:2].tobytes(), "little")
        return _Reader(body[2:]).take(_binary(ones), count).astype(np.uint32)
    if kind in (_TABLE, _SHAPE) and width > 1:
        return _decode_wide(first, body, width, count)
    return unpack(body, width, count)


def pack(symbols: U32, width: int) -> U8:
    """Pack symbols at 0 to 32 bits each; those over 16 bits as their low halves, then the rest."""
    if width == 0:
        return np.zeros(0, np.uint8)
    if width == 32:
        return symbols.astype("<u4").view(np.uint8)
    if width > 16:
        return np.concatenate([pack(symbols & np.uint32(0xFFFF), 16), pack(symbols >> np.uint32(16), width - 16)])
    if width == 1:
        return np.packbits(symbols.astype(np.uint8), bitorder="little")
    return pack_codes(symbols.astype(np.uint16), width)


def unpack(data: U8, width: int, count: int) -> U32:
    """Undo :func:`pack`; bits that `data` lacks read as zero."""
    if width == 0:
        return np.zeros(count, np.uint32)
    if width == 32:
        return fit(data, 4 * count).view("<u4").astype(np.uint32)
    if width > 16:
        return unpack(data[: 2 * count], 16, count) | unpack(data[2 * count :], width - 16, count) << np.uint32(16)
    if width == 1:
        return np.unpackbits(fit(data, (count + 7) // 8), count=count, bitorder="little").astype(np.uint32)
    return unpack_codes(data, width, count).astype(np.uint32)


class _Reader:
    """Symbols from the end of some bytes; goes on with zeros where they run out."""

    def __init__(self, data: U8) -> None:
        used = np.flatnonzero(data)
        size = int(used[-1]) + 1 if used.size else 0
        words = fit(data[:size], -(-size // 4) * 4).view("<u4").astype(np.uint32)
        self._coder: Any = constriction.stream.stack.AnsCoder(words)

    def take(self, frequencies: I64, count: int) -> npt.NDArray[np.int32]:
        if frequencies.size == 1:  # nothing was written
            return np.zeros(count, np.int32)
        symbols: npt.NDArray[np.int32] = self._coder.decode(_model(frequencies), count)
        return symbols


def _model(frequencies: I64) -> Any:
    return constriction.stream.model.Categorical(frequencies.astype(np.float64), perfect=False)


def _written(*parts: tuple[npt.NDArray[Any], I64]) -> U8:
    """Code symbols with their frequencies, so that the first part is read first; without zero bytes at the end."""
    coder = constriction.stream.stack.AnsCoder()
    for symbols, frequencies in reversed(parts):
        if frequencies.size > 1:
            coder.encode_reverse(symbols.astype(np.int32), _model(frequencies))
    data: U8 = coder.get_compressed().astype("<u4").view(np.uint8)
    used = np.flatnonzero(data)
    return data[: int(used[-1]) + 1] if used.size else data[:0]


def _frequencies(levels: I64) -> I64:
    """Turn levels (sixteenths of a bit below the likeliest) into positive frequencies that sum to ``2**20``."""
    levels = np.clip(levels - levels.min(), 0, _DEEPEST)
    weights = _EXP2[levels % _LEVELS] >> (levels // _LEVELS)
    room = (1 << _PRECISION) - levels.size
    frequencies: I64 = 1 + weights * room // weights.sum()
    frequencies[int(np.argmax(frequencies))] += (1 << _PRECISION) - int(frequencies.sum())
    return frequencies


def _binary(ones: int) -> I64:
    ones = min(max(ones, 1), 0xFFFF)
    return np.array([0x10000 - ones, ones], np.int64) << (_PRECISION - 16)


def _cost(histogram: npt.NDArray[np.integer[Any]], frequencies: I64) -> float:
    """Bits that symbols take."""
    return float(np.dot(histogram, _PRECISION - np.log2(frequencies)))


def _encode_binary(symbols: U32) -> U8 | None:
    count = int(symbols.sum())
    ones = min(max(round(count / symbols.size * 65536), 1), 0xFFFF)
    frequencies = _binary(ones)
    if _cost(np.array([symbols.size - count, count]), frequencies) > symbols.size - 16:
        return None
    head = bytes([_BINARY]) + ones.to_bytes(2, "little")
    return np.concatenate([np.frombuffer(head, np.uint8), _written((symbols, frequencies))])


# -- symbols of several bits ------------------------------------------------------------------------------------------


@functools.cache
def _decays(steps: int, decay: int) -> I64:
    """Frequencies of zigzag differences of log-probabilities told in steps."""
    size = 2 * (_DEEPEST // _STEPS[steps] + 1)
    return _frequencies(np.minimum(np.arange(size, dtype=np.int64) * _DECAYS[decay], 18 * _LEVELS))


def _encode_wide(symbols: U32, width: int) -> U8 | None:
    shifts = (0,) if width <= _MODEL_BITS else (width - _MODEL_BITS, 20 if width == 32 else width - 8)
    best: tuple[float, int, _Plan, npt.NDArray[np.int32]] | None = None
    for shift in dict.fromkeys(shifts):
        high = (symbols >> np.uint32(shift)).astype(np.int32)
        low = int(high.min())
        high -= low
        histogram = np.bincount(high)
        plans = [*_tables(histogram), *_shapes(histogram)]
        plan = min(plans, key=lambda p: p.bits)
        bits = plan.bits + shift * symbols.size
        if best is None or bits < best[0]:
            head = bytes([shift]) + (low | (histogram.size - 1) << 12).to_bytes(3, "little")
            best = bits, shift, _with_head(plan, head), high
    if best is None or best[0] > symbols.size * width - 48:
        return None
    _, shift, plan, high = best
    parts = [(high, plan.frequencies)]
    if plan.kind == _TABLE:
        parts.insert(0, (plan.table, _decays(plan.head[0] >> 3 & 1, plan.decay)))
    packed = pack(symbols & np.uint32(2**shift - 1), shift)
    return np.concatenate([np.frombuffer(plan.head, np.uint8), packed, _written(*parts)])


def _with_head(plan: _Plan, middle: bytes) -> _Plan:
    return _Plan(plan.kind, plan.head[:1] + middle + plan.head[1:], plan.frequencies, plan.table, plan.decay, plan.bits)


def _decode_wide(first: int, body: U8, width: int, count: int) -> U32:
    shift = min(int(body[0]) if body.size else 0, width - 1)
    span = int.from_bytes(body[1:4].tobytes(), "little")
    low, size = span & 0xFFF, (span >> 12) + 1
    body = body[4:]
    if first & 7 == _SHAPE:
        frequencies = _shape_frequencies(size, *_unpack_shape(body[:11].tobytes()))
        body = body[11:]
    packed = (count * shift + 7) // 8
    reader = _Reader(body[packed:])
    if first & 7 == _TABLE:
        steps = first >> 3 & 1
        zigzag = reader.take(_decays(steps, first >> 4 & 3), size).astype(np.int64)
        frequencies = _table_frequencies(np.cumsum((zigzag >> 1) ^ -(zigzag & 1)), _STEPS[steps])
    high = reader.take(frequencies, count).astype(np.uint32) + np.uint32(low)
    symbols = high << np.uint32(shift) | unpack(body[:packed], shift, count)
    return symbols & np.uint32(2**width - 1)


def _table_frequencies(levels: I64, step: int) -> I64:
    return _frequencies(np.clip(levels, 0, _DEEPEST // step) * step)


def _tables(histogram: npt.NDArray[np.integer[Any]]) -> list[_Plan]:
    """Models that tell every symbol's log-probability, coarser or finer."""
    plans = []
    total = int(histogram.sum())
    for unseen in _UNSEEN if (histogram == 0).any() else (0.0,):
        counts = np.maximum(histogram, unseen)
        exact = np.log2(total) - np.log2(counts)
        for steps, step in enumerate(_STEPS):
            levels = np.clip(np.rint(exact * (_LEVELS / step)), 0, _DEEPEST // step).astype(np.int64)
            difference = np.diff(levels, prepend=0)
            zigzag = (np.abs(difference) * 2 - (difference < 0)).astype(np.int32)
            frequencies = _table_frequencies(levels, step)
            body = _cost(histogram, frequencies)
            times = np.bincount(zigzag, minlength=2 * (_DEEPEST // step + 1))
            sides = [_cost(times, _decays(steps, decay)) for decay in range(len(_DECAYS))]
            decay = int(np.argmin(sides))
            head = bytes([_TABLE | steps << 3 | decay << 4])
            plans.append(_Plan(_TABLE, head, frequencies, zigzag, decay, 40 + sides[decay] + body))
    return plans


# -- log-probabilities with three coefficients: z [d != 0] + a |d| + b d**2, d the distance from the centre ------------


def _shapes(histogram: npt.NDArray[np.integer[Any]]) -> list[_Plan]:
    """Models of Laplacian, Gaussian and mixed shape, with a weight of its own for the centre, fitted by likelihood."""
    if histogram.size < _SHAPE_FROM:
        return []
    centre = int(np.searchsorted(np.cumsum(histogram), int(histogram.sum()) / 2))
    coefficients = _fit_shape(histogram, centre)
    if coefficients is None:
        return []
    packed = centre.to_bytes(2, "little") + b"".join(_pack_coefficient(c) for c in coefficients)
    frequencies = _shape_frequencies(histogram.size, *_unpack_shape(packed))
    bits = 128 + _cost(histogram, frequencies)
    return [_Plan(_SHAPE, bytes([_SHAPE]) + packed, frequencies, np.zeros(0, np.int32), 0, bits)]


def _fit_shape(histogram: npt.NDArray[np.integer[Any]], centre: int) -> F64 | None:
    """Newton's method on the likelihood, which is concave; bits per unit of each term."""
    d = np.abs(np.arange(histogram.size) - centre).astype(np.float64)
    share = histogram / histogram.sum()
    unit = max(float(np.dot(share, d)), 1e-3)
    terms = np.stack([d > 0, d / unit, np.square(d / unit)])
    wanted = terms @ share
    x = np.array([0.0, 0.5, 0.3])

    def probabilities(at: F64) -> tuple[F64, float]:
        exponent = -(at @ terms)
        top = exponent.max()
        weights = np.exp(exponent - top)
        total = float(weights.sum())
        return weights / total, float(at @ wanted) + np.log(total) + float(top)

    p, loss = probabilities(x)
    for _ in range(30):
        mean = terms @ p
        hessian = (terms * p) @ terms.T - np.outer(mean, mean) + 1e-9 * np.eye(3)
        step = np.linalg.solve(hessian, mean - wanted)
        for _ in range(12):  # halve until it helps
            q, after = probabilities(x + step)
            if after <= loss:
                break
            step /= 2
        else:
            break
        gained, x, p, loss = loss - after, x + step, q, after
        if gained < 1e-7:
            break
    x = x / np.array([1, unit, unit**2]) / np.log(2)
    return x if bool(np.isfinite(x).all()) else None


def _pack_coefficient(value: float) -> bytes:
    """Three bytes: sign, five bits of exponent, eighteen of mantissa; in units of ``2**-32`` bit."""
    scaled = round(min(abs(value) * 2.0**_UNIT, 2.0**49 - 2.0**31))
    exponent = max(0, scaled.bit_length() - 18)
    return (int(value < 0) << 23 | exponent << 18 | scaled >> exponent).to_bytes(3, "little")


def _unpack_shape(data: bytes) -> tuple[int, int, int, int]:
    """Centre and coefficients from eleven bytes."""
    words = [int.from_bytes(data[i : i + 3], "little") for i in (2, 5, 8)]
    z, a, b = ((w & 0x3FFFF) << (w >> 18 & 31) if w < 1 << 23 else -((w & 0x3FFFF) << (w >> 18 & 31)) for w in words)
    return int.from_bytes(data[:2], "little"), z, a, b


def _shape_frequencies(size: int, centre: int, z: int, a: int, b: int) -> I64:
    d = np.abs(np.arange(size, dtype=np.int64) - centre)
    with np.errstate(over="ignore"):
        bits = z * (d > 0) + a * d + b * (d * d)
    return _frequencies((bits - bits.min()) >> (_UNIT - 4))
