"""Curves of a device from what was measured at levels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from memristore import _core
from memristore.devices.ageing import AgedAt
from memristore.devices.curve import Curve
from memristore.devices.level_fit import F64, LevelFit, TimeFit

_KNOTS: Final = 33


def tabulated(x: F64, values: F64) -> Curve:
    """Table through values at rising x, shape (n,): at the points themselves where they are equally spaced."""
    if not np.any(values):
        return Curve()
    step = np.diff(x)
    even = x.size <= _core.MAX_KNOTS and np.allclose(step, step[0], rtol=1e-3)
    knots = values if even else np.interp(np.linspace(x[0], x[-1], _core.MAX_KNOTS), x, values)
    return Curve(form="table", values=tuple(float(f"{v:.7g}") for v in knots), start=float(x[0]), stop=float(x[-1]))


def _along_state(levels: LevelFit, values: F64) -> Curve:
    """Table of values of levels against u; levels of one state are averaged."""
    low, high = float(levels.mean.min()), float(levels.mean.max())
    u = (levels.mean - low) / (high - low)
    grid = np.linspace(0.0, 1.0, _KNOTS)
    order = np.argsort(u, kind="stable")
    place, group = np.unique(np.round(u[order], 3), return_inverse=True)
    mean = np.bincount(group.reshape(-1), values[order]) / np.bincount(group.reshape(-1))
    return tabulated(grid, np.interp(grid, place, mean))


def along_time(levels: LevelFit, aged: TimeFit) -> dict[str, Any]:
    """Fields of a device that say what time does."""
    out: dict[str, Any] = {"drift_t0": aged.t0, "data_until": aged.until, "read": _along_state(levels, levels.read)}
    if aged.power_law:
        if aged.relative:
            out |= {"read": _along_state(levels, levels.read / levels.mean), "read_relative": True}
        return out | {
            "drift_mean": _along_state(levels, aged.slope),
            "drift_std": _along_state(levels, aged.slope_spread),
        }
    series = tuple(
        AgedAt(at=float(t), shift=_along_state(levels, shift), spread=_along_state(levels, spread))
        for t, shift, spread in zip(aged.times, aged.shift, aged.spread, strict=True)
    )
    return out | {"ageing": series, "relaxation_t0": aged.t0}
