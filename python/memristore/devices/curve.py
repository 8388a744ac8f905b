"""Curves as data: clipped polynomials in x or ln x, exponentials of them, and short tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memristore import _core
from memristore.errors import DeviceError

F64 = npt.NDArray[np.float64]

FORMS: Final[dict[str, int]] = {
    "zero": _core.ZERO,
    "poly": _core.POLY,
    "poly-log": _core.POLY_LOG,
    "exp-log": _core.EXP_LOG,
    "table": _core.TABLE,
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One quantity against one argument.

    Parameters
    ----------
    form : {"zero", "poly", "poly-log", "exp-log", "table"}
        ``poly``: sum a_k x^k. ``poly-log``: sum a_k (ln x)^k. ``exp-log``: exp(sum a_k (ln x)^k).
        ``table``: knots at equal steps from `start` to `stop`, straight between them, constant outside.
    values : tuple of float
        Coefficients in ascending order (at most 8) or knots (2 to 128).
    lo, hi : float
        The result is clipped to this range.
    start, stop : float
        First and last knot of a table.

    Raises
    ------
    DeviceError
        If the form is unknown or the numbers do not fit it.
    """

    form: str = "zero"
    values: tuple[float, ...] = ()
    lo: float = -math.inf
    hi: float = math.inf
    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise DeviceError(f"unknown curve form {self.form!r}; forms are {', '.join(FORMS)}")
        limit = {"zero": (0, 0), "table": (2, _core.MAX_KNOTS)}.get(self.form, (1, _core.MAX_COEFFICIENTS))
        if not limit[0] <= len(self.values) <= limit[1]:
            raise DeviceError(f"a {self.form} curve takes {limit[0]} to {limit[1]} numbers, not {len(self.values)}")
        if not all(math.isfinite(v) for v in self.values):
            raise DeviceError(f"a {self.form} curve has a number that is not finite")
        if math.isnan(self.lo) or math.isnan(self.hi) or self.lo > self.hi or not self.start < self.stop:
            raise DeviceError("a curve needs lo <= hi and start < stop")

    def __bool__(self) -> bool:
        return self.form != "zero"

    def __call__(self, x: npt.ArrayLike) -> F64:
        """Evaluate in float64 (the kernels use float32).

        Parameters
        ----------
        x : array_like
            Argument, any shape.

        Returns
        -------
        ndarray of float64, same shape
        """
        at = np.asarray(x, dtype=np.float64)
        if self.form == "zero":
            return np.zeros_like(at)
        if self.form == "table":
            knots = np.linspace(self.start, self.stop, len(self.values))
            out = np.interp(at, knots, self.values)
        else:
            argument = at if self.form == "poly" else np.log(np.maximum(at, _core.LOG_FLOOR))
            out = np.zeros_like(at)
            for value in reversed(self.values):
                out = out * argument + value
            if self.form == "exp-log":
                out = np.exp(out)
        clipped: F64 = np.clip(out, self.lo, self.hi)
        return clipped

    def scaled(self, factor: float) -> Curve:
        """Return the curve times `factor` (> 0)."""
        if not self or factor == 1.0:
            return self
        values = tuple(v * factor for v in self.values)
        if self.form == "exp-log":
            values = (self.values[0] + math.log(factor), *self.values[1:])
        return Curve(
            form=self.form, values=values, lo=self.lo * factor, hi=self.hi * factor, start=self.start, stop=self.stop
        )

    def core(self) -> _core.Curve:
        """Return the kernels' form: base-2 logarithms, float32, slopes between knots."""
        a = np.array(self.values, dtype=np.float64)
        if self.form in ("poly-log", "exp-log"):
            a = a * math.log(2.0) ** np.arange(a.size)
        if self.form == "exp-log":
            a = a / math.log(2.0)
        knots = a.astype(np.float32)
        slopes = np.zeros_like(knots)
        inv_step = 1.0
        if self.form == "table":
            slopes[:-1] = np.diff(knots)
            inv_step = (knots.size - 1) / (self.stop - self.start)
        return _core.Curve(FORMS[self.form], knots, slopes, self.lo, self.hi, self.start, inv_step)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that device files use; inverse of :func:`curve_from_dict`."""
        out: dict[str, Any] = {"form": self.form}
        if self.form != "zero":
            out["values"] = list(self.values)
        if self.form == "table":
            out |= {"start": self.start, "stop": self.stop}
        if self.lo != -math.inf:
            out["lo"] = self.lo
        if self.hi != math.inf:
            out["hi"] = self.hi
        return out


def curve_from_dict(data: Any, where: str) -> Curve:
    """Read a curve from a device file's table; `where` names it in errors."""
    if not isinstance(data, dict):
        raise DeviceError(f"{where}: a curve is a table with 'form' and 'values', not {data!r}")
    known = {"form", "values", "lo", "hi", "start", "stop"}
    if unknown := sorted(set(data) - known):
        raise DeviceError(f"{where}: unknown key {', '.join(unknown)}; keys are {', '.join(sorted(known))}")
    try:
        numbers = {k: float(data[k]) for k in ("lo", "hi", "start", "stop") if k in data}
        return Curve(form=data.get("form", "zero"), values=tuple(float(v) for v in data.get("values", ())), **numbers)
    except (TypeError, ValueError) as error:
        raise DeviceError(f"{where}: {error}") from None
