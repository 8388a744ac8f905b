"""Maps between values and targets: affine, table, sign and magnitude, differential pair."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oracle.curves import single

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


def affine(values: F32, scale: float, offset: float, lo: float, hi: float) -> F64:
    """clip(values * scale + offset, lo, hi)."""
    return np.clip(values.astype(np.float64) * single(scale) + single(offset), single(lo), single(hi))


def lookup(values: F32, table: F32, x0: float, inv_step: float, extrapolate: bool) -> F64:
    """Linear interpolation in a table whose knot k lies at x0 + k / inv_step; held or continued outside."""
    t = (values.astype(np.float64) - single(x0)) * single(inv_step)
    k = np.clip(np.floor(t), 0, len(table) - 2).astype(np.int64)
    f = t - k if extrapolate else np.clip(t - k, 0.0, 1.0)
    knots = table.astype(np.float64)
    return np.asarray(knots[k] + f * (knots[k + 1] - knots[k]))


def split_sign(values: F32) -> tuple[F32, U8]:
    """Magnitudes, and one bit per value, least significant first, set where the value is below zero."""
    return np.abs(values), np.packbits(values < 0, bitorder="little")


def join_sign(magnitude: F32, signs: U8) -> F32:
    """Magnitudes with their signs put back."""
    negative = np.unpackbits(signs, count=len(magnitude), bitorder="little").astype(bool)
    return np.where(negative, -magnitude, magnitude)


def differential(values: F32) -> tuple[F32, F32]:
    """The positive part and the negative part, each as a number that is not negative."""
    return np.maximum(values, np.float32(0)), np.maximum(-values, np.float32(0))
