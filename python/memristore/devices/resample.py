"""A write-time curve seen along the state, for quantities that are looked up by state later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from memristore.devices.curve import Curve
from memristore.errors import DeviceError

if TYPE_CHECKING:
    from memristore.devices.device import Device


_KNOTS: Final = 64


def along_state(device: Device) -> Curve:
    """Return the write spread as a table against u, by following the mean response.

    Raises
    ------
    DeviceError
        If the mean response is not monotone along the device's branch.
    """
    x = np.linspace(*device.branch, 2049)
    low, high = device.state_range
    u = (device.response(x) - low) / (high - low)
    order = np.argsort(u, kind="stable")
    if not (np.all(np.diff(u) >= 0) or np.all(np.diff(u) <= 0)):
        raise DeviceError(f"{device.name}: the mean response is not monotone, so a state does not tell its target")
    grid = np.linspace(float(u.min()), float(u.max()), _KNOTS)
    values = np.interp(grid, u[order], device.write(x)[order])
    return Curve(form="table", values=tuple(float(v) for v in values), start=float(grid[0]), stop=float(grid[-1]))
