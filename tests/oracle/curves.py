"""Device curves: clipped polynomials in x or log2 x, their exponentials, and short tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

ZERO, POLY, POLY_LOG, EXP_LOG, TABLE = range(5)
#: The floor as float32 holds it.
LOG_FLOOR = float(np.float32(1e-7))


def single(value: float) -> float:
    """The number that a float32 field of a device holds."""
    return float(np.float32(value))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve; every number is rounded to float32 when it is used, as a device's fields are.

    Parameters
    ----------
    form : int
        `ZERO`, `POLY`, `POLY_LOG`, `EXP_LOG` or `TABLE`.
    a : tuple of float
        Coefficients, lowest order first, or the knots of a table.
    lo, hi : float
        The result is clipped to [lo, hi].
    x0, inv_step : float
        A table's knot k lies at x0 + k / inv_step.
    """

    form: int
    a: tuple[float, ...] = ()
    lo: float = 0.0
    hi: float = 0.0
    x0: float = 0.0
    inv_step: float = 0.0

    def __call__(self, x: npt.ArrayLike) -> F64:
        """Evaluate at `x`, any shape."""
        at = np.asarray(x, dtype=np.float64)
        a = np.asarray(self.a, dtype=np.float32).astype(np.float64)
        if self.form == ZERO:
            y = np.zeros_like(at)
        elif self.form == POLY:
            y = horner(a, at)
        elif self.form in (POLY_LOG, EXP_LOG):
            y = horner(a, np.log2(np.maximum(at, LOG_FLOOR)))
            y = np.exp2(y) if self.form == EXP_LOG else y
        else:
            y = self._table(a, at)
        return np.clip(y, single(self.lo), single(self.hi))

    def _table(self, a: F64, at: F64) -> F64:
        if len(a) == 1:
            return np.full_like(at, a[0])
        t = np.clip((at - single(self.x0)) * single(self.inv_step), 0.0, len(a) - 1.0)
        k = np.minimum(t.astype(np.int64), len(a) - 2)
        return np.asarray(a[k] + (t - k) * (a[k + 1] - a[k]))


def horner(a: F64, x: F64) -> F64:
    """sum a[k] x^k."""
    y = np.zeros_like(x)
    for coefficient in a[::-1]:
        y = y * x + coefficient
    return y


ZERO_CURVE = Curve(form=ZERO)


def constant(value: float) -> Curve:
    """A curve that is `value` everywhere."""
    return Curve(form=POLY, a=(value,), lo=value, hi=value)
