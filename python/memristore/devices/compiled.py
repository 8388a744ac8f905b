"""A device in the form that kernels take."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from memristore import _core

if TYPE_CHECKING:
    from memristore.devices.device import Device

DOMAINS: Final = {"conductance": _core.CONDUCTANCE, "log-resistance": _core.LOG_RESISTANCE}


@functools.lru_cache(maxsize=64)
def core_device(device: Device) -> _core.Device:
    """Return the kernels' form of a device without ageing series (made once)."""
    low, high = device.state_range
    stuck = device.stuck_states or device.state_range
    return _core.Device(
        domain=DOMAINS[device.domain],
        read_relative=device.read_relative,
        state_lo=low,
        inv_range=1.0 / (high - low),
        clip_lo=device.clip[0],
        clip_hi=device.clip[1],
        p_stuck_lo=device.stuck_low,
        p_stuck_hi=device.stuck_high,
        stuck_lo=stuck[0],
        stuck_hi=stuck[1],
        response=device.response.core(),
        write_std=device.write.core(),
        cell_std=device.cell.core(),
        drift_mean=device.drift_mean.core(),
        drift_std=device.drift_std.core(),
        relax_std=device.relaxation.core(),
        read_std=device.read.core(),
        relax_mean=device.relaxation_shift.core(),
    )
