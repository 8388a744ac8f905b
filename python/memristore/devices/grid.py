"""Programmed states on a grid of 16 bits, as arrays and files keep them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memristore.devices.device import Device

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]


def state_grid(device: Device) -> tuple[float, float]:
    """First state and step of the 16-bit grid: the device's range, half of it more at each end, within its clip."""
    low, high = device.state_range
    reach = 0.5 * (high - low)
    start, stop = max(low - reach, device.clip[0]), min(high + reach, device.clip[1])
    return start, (stop - start) / 65535.0


def pack_state(device: Device, state: F32) -> U16:
    """Round states to the 16-bit grid: steps of 1/32768 of the range and less, far below any write spread."""
    start, step = state_grid(device)
    steps = np.rint((state - np.float32(start)) * np.float32(1.0 / step))
    packed: U16 = np.clip(steps, 0, 65535).astype(np.uint16)
    return packed


def unpack_state(device: Device, state: F32 | U16) -> F32:
    """Return states as float32, whichever way they are kept."""
    if state.dtype != np.uint16:
        return np.asarray(state, dtype=np.float32)
    start, step = state_grid(device)
    out: F32 = state.astype(np.float32)
    out *= np.float32(step)
    out += np.float32(start)
    return out
