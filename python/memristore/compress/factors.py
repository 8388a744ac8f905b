"""Matrices out of weights, their leading singular vectors, and products that mean the same bits on every machine."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import fit
from memristore.streams import BitStream

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U16 = npt.NDArray[np.uint16]

#: Ways to make a matrix of a tensor: (out, in * kernel), or (out * rows, in * columns) for convolutions in two steps.
ROWS, SEPARABLE = range(2)
#: Bits of a factor's grid. LAPACK's last bits depend on the machine and its threads; a grid far above them does not.
_GRID_BITS: Final = 20
#: Subspace iteration: vectors more than wanted, and rounds.
_SPARE_VECTORS: Final = 8
_ITERATIONS: Final = 4
#: Values of a product worked on at a time.
_TILE: Final = 1 << 15
_LARGEST: Final = float(np.finfo(np.float32).max)


def matrix_shape(shape: tuple[int, ...], way: int = ROWS) -> tuple[int, int] | None:
    """Return rows and columns of a tensor as a matrix; None if it is none in that way, or empty."""
    if len(shape) < 2 or math.prod(shape) == 0:
        return None
    if way == ROWS:
        return shape[0], math.prod(shape[1:])
    if len(shape) < 4 or shape[1] == 1 or shape[2] == 1:
        return None
    return shape[0] * shape[2], shape[1] * math.prod(shape[3:])


def to_matrix(values: npt.NDArray[Any], shape: tuple[int, ...], way: int = ROWS) -> F64:
    """Return flat values as a float64 matrix of :func:`matrix_shape`."""
    tensor = values.reshape(shape)
    if way == SEPARABLE:
        tensor = np.swapaxes(tensor, 1, 2)
        rows = shape[0] * shape[2]
    else:
        rows = shape[0]
    return np.ascontiguousarray(tensor.reshape(rows, -1), dtype=np.float64)


def from_matrix(matrix: npt.NDArray[Any], shape: tuple[int, ...], way: int = ROWS) -> F32:
    """Undo :func:`to_matrix`; flat, float32, finite."""
    if way == SEPARABLE:
        matrix = np.swapaxes(matrix.reshape(shape[0], shape[2], shape[1], *shape[3:]), 1, 2)
    with np.errstate(all="ignore"):
        bounded = np.clip(np.nan_to_num(matrix.reshape(-1), nan=0.0), -_LARGEST, _LARGEST)
    return np.ascontiguousarray(bounded, dtype=np.float32)


def on_grid(values: F64, bits: int = _GRID_BITS) -> F32:
    """Round to multiples of a power of two, `bits` bits below the largest magnitude."""
    top = float(np.abs(values).max(initial=0.0))
    if top == 0:
        return np.zeros(values.shape, np.float32)
    step = math.ldexp(1.0, max(math.frexp(top)[1] - bits, -1000))
    return (np.rint(values / step) * step).astype(np.float32)


def balanced(left: F64, singular: F64, right: F64) -> tuple[F32, F32]:
    """Share each singular value evenly between its two vectors.

    Parameters
    ----------
    left, singular, right : ndarray, shapes (m, k), (k,), (k, n)
        As of ``numpy.linalg.svd``.

    Returns
    -------
    ndarray, ndarray
        Shapes (k, m) and (k, n), float32: row i of both makes component i, on a grid of its own. Cubes of a left vector
        sum to no less than zero, which settles the sign.
    """
    sign = np.where((left**3).sum(axis=0) < 0, -1.0, 1.0)
    root = np.sqrt(singular)
    rows, columns = (left * (root * sign)).T, right * (root * sign)[:, None]
    a = [on_grid(row) for row in rows]
    b = [on_grid(row) for row in columns]
    return np.array(a, np.float32).reshape(rows.shape), np.array(b, np.float32).reshape(columns.shape)


def energies(matrix: F64) -> F64:
    """Squared singular values, largest first, good to 15 digits of the largest; of a matrix of any scale."""
    top = float(np.abs(matrix).max(initial=0.0))
    if top == 0:
        return np.zeros(min(matrix.shape))
    scaled = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T) / top
    squares = np.linalg.eigvalsh(scaled @ scaled.T)[::-1]
    return np.asarray(np.maximum(squares, 0.0) * top**2, np.float64)


def components(matrix: F64, rank: int) -> tuple[F32, F32]:
    """Return the leading `rank` components of a matrix, as :func:`balanced` does.

    Found from the Gram matrix of the shorter side, where singular values have eight digits of the largest; those below
    come out as noise of that size, and the projection on the leading ones is as good as any.
    """
    if matrix.shape[0] > matrix.shape[1]:
        columns, rows = components(matrix.T, rank)
        return rows, columns
    top = float(np.abs(matrix).max(initial=0.0)) or 1.0
    scaled = matrix / top
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    return _projected(scaled, vectors[:, ::-1][:, :rank], top)


def leading(matrix: F64, rank: int) -> tuple[F32, F32]:
    """As :func:`components`, by subspace iteration where the rank is small: much faster, nearly as good.

    Source: N. Halko et al., SIAM Review 53(2), 2011, doi:10.1137/090771806, algorithm 4.4, with a fixed start.
    """
    wide = rank + _SPARE_VECTORS
    if 4 * wide > min(matrix.shape):
        return components(matrix, rank)
    top = float(np.abs(matrix).max(initial=0.0)) or 1.0
    scaled = matrix / top
    places = np.arange(1, matrix.shape[1] + 1, dtype=np.uint64)[:, None] * np.arange(wide, dtype=np.uint64)
    # Multiples of the golden ratio are spread evenly; the first column is constant.
    start = (places * np.uint64(2654435769) % np.uint64(1 << 32)).astype(np.float64) / 2.0**32 - 0.5
    basis = _orthonormal(scaled @ start)
    for _ in range(_ITERATIONS):
        basis = _orthonormal(scaled @ _orthonormal(scaled.T @ basis))
    across = basis.T @ scaled
    _, vectors = np.linalg.eigh(across @ across.T)
    return _projected(scaled, basis @ vectors[:, ::-1][:, :rank], top)


def _orthonormal(columns: F64) -> F64:
    """Orthonormal columns of the same span, zeros for what depends on others; a second pass mends the first."""
    for _ in range(2):
        squares, vectors = np.linalg.eigh(columns.T @ columns)
        kept = squares > 1e-12 * squares[-1]
        columns = columns @ (vectors * np.where(kept, 1 / np.sqrt(np.where(kept, squares, 1.0)), 0.0))
    return columns


def _projected(scaled: F64, left: F64, top: float) -> tuple[F32, F32]:
    """Balance the projection of a matrix, of which `top` was taken out, on orthonormal columns."""
    across = left.T @ scaled
    singular = np.sqrt(np.square(across).sum(axis=1))
    return balanced(left, singular * top, across / np.where(singular > 0, singular, 1.0)[:, None])


def product(left: npt.NDArray[Any], right: npt.NDArray[Any], shape: tuple[int, int]) -> F64:
    """Sum of outer products, term by term: the same bits with any BLAS, any instruction set and any threads.

    Parameters
    ----------
    left, right : ndarray, shapes (k, m), (k, n)
        Any floats; ones that are not finite count as zero.
    shape : tuple
        (m, n)

    Returns
    -------
    ndarray, shape (m, n), float64
    """
    a, b = (np.nan_to_num(side.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) for side in (left, right))
    out = np.zeros(shape)
    tall = max(1, _TILE // max(shape[1], 1))
    term = np.empty((tall, shape[1]))
    for start in range(0, shape[0], tall):
        part = out[start : start + tall]
        for i in range(len(a)):
            part += np.multiply(a[i, start : start + tall, None], b[i], out=term[: len(part)])
    return out


def to_halves(values: F32) -> U16:
    """Return values as float16 words behind one word with their common exponent, so that none over- or underflows."""
    top = float(np.abs(values).max(initial=0.0))
    exponent = math.frexp(top)[1] if top else 0
    words = np.ldexp(values.astype(np.float64), -exponent).astype(np.float16).view(np.uint16)
    return np.concatenate([np.array([exponent], np.int16).view(np.uint16), words])


def whole_words(stream: BitStream) -> U16:
    """Return the whole 16-bit words of a stream that may have lost its end."""
    words: U16 = stream.data[: stream.data.size // 2 * 2].view("<u2").astype(np.uint16)
    return words


def from_halves(words: U16, size: int) -> F32:
    """Undo :func:`to_halves`, for `size` values; damaged words give some finite values."""
    words = fit(words, size + 1)
    exponent = max(-200, min(200, int(words[:1].view(np.int16)[0])))
    values = np.ldexp(np.nan_to_num(words[1:].view(np.float16).astype(np.float64), nan=0.0), exponent)
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


def named_numbers(owner: str, what: str, given: Any) -> tuple[tuple[str, float], ...]:
    """Return pairs of a pattern and a number that is not negative, checked; raises `SpecError` for anything else."""
    pairs = tuple(tuple(pair) if isinstance(pair, (tuple, list)) else (pair,) for pair in given)
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise SpecError(f"{owner}: {what} must hold pairs of a pattern and a number, not {pair!r}")
        check_number(owner, f"{what} of {pair[0]!r}", pair[1], 0, 1e300)
    return pairs
