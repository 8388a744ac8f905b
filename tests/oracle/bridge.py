"""The oracle's devices, curves, times and pulses as the compiled module's objects: the same numbers, handed over."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from memristore import _core
from oracle import cells
from oracle.curves import TABLE, Curve


def curve(given: Curve) -> _core.Curve:
    """Compiled form of a curve; a table's slopes are the float32 differences of its float32 knots."""
    a = np.asarray(given.a, dtype=np.float32)
    b = np.append(np.diff(a), np.float32(0)) if given.form == TABLE else np.zeros_like(a)
    return _core.Curve(given.form, a, b, given.lo, given.hi, given.x0, given.inv_step)


def device(given: cells.Device) -> _core.Device:
    """Compiled form of a device."""
    values: dict[str, Any] = {field.name: getattr(given, field.name) for field in fields(given)}
    handed: dict[str, Any] = {name: curve(v) if isinstance(v, Curve) else v for name, v in values.items()}
    return _core.Device(**handed)


def time(given: cells.ReadTime) -> _core.ReadTime:
    """Compiled form of a read time."""
    return _core.ReadTime(**asdict(given))


def pulse(given: cells.Pulse) -> _core.Pulse:
    """Compiled form of program-and-verify settings."""
    return _core.Pulse(**asdict(given))
