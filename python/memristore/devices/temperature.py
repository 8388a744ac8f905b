"""Reads at another temperature than that of the measurements. Unverified: the activation energies are recalled."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.devices.device import Device
from memristore.errors import DeviceError

F32 = npt.NDArray[np.float32]

#: eV per kelvin.
BOLTZMANN: Final = 8.617333262e-5
#: Kelvin at which device files hold, where their sources do not say another.
ROOM: Final = 298.15


def heated(device: Device, programmed: F32, reads: F32, kelvin: float) -> F32:
    """Reads as they would be at another temperature: G(T) = G(T0) exp(-Ea / k (1 / T - 1 / T0)), T0 = 298.15 K.

    Parameters
    ----------
    device : Device
        With an `activation` curve.
    programmed, reads : ndarray, shape (n,), float32
        Programmed states, by which Ea is looked up, and reads at T0.
    kelvin : float
        Temperature of the read. Drift and noise stay those of T0.

    Raises
    ------
    DeviceError
        If the device has no activation energies, or the temperature is not positive.
    """
    if not (isinstance(kelvin, (int, float)) and 0 < kelvin < math.inf):
        raise DeviceError(f"a temperature is a positive number of kelvin, not {kelvin!r}")
    if kelvin == ROOM:
        return reads
    if not device.activation:
        raise DeviceError(f"{device.name}: has no activation energies, so only reads at {ROOM} K are known")
    low, high = device.state_range
    u = np.maximum((programmed.astype(np.float64) - low) / (high - low), 0.0)
    exponent = device.activation(u) / BOLTZMANN * (1.0 / ROOM - 1.0 / kelvin)
    factor, shift = (np.exp(exponent), 0.0) if device.domain == "conductance" else (1.0, exponent / math.log(10.0))
    return np.asarray(np.clip(reads * factor - shift, *device.clip), dtype=np.float32)
