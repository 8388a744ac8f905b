"""Cells: faults, programming, drift, relaxation and reading.

Every function names cells by absolute index (`first` + position) and draws by (key, cell, purpose, event). States are
in uS (conductance domain) or log10 ohm (log-resistance domain).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oracle import philox
from oracle.curves import ZERO, ZERO_CURVE, Curve, single

F64 = npt.NDArray[np.float64]
CONDUCTANCE, LOG_RESISTANCE = 0, 1
LOG10_2 = float(np.log10(2.0))


@dataclass(frozen=True, kw_only=True)
class _Singles:
    """Rounds every float field to float32, which is what the compiled structs hold."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                object.__setattr__(self, field.name, single(value))


@dataclass(frozen=True, kw_only=True)
class Device(_Singles):
    """Curves and numbers of a device; see the compiled module's header for each field."""

    domain: int = CONDUCTANCE
    read_relative: bool = False
    state_lo: float = 0.0
    inv_range: float = 1.0
    clip_lo: float = 0.0
    clip_hi: float = 1.0
    p_stuck_lo: float = 0.0
    p_stuck_hi: float = 0.0
    stuck_lo: float = 0.0
    stuck_hi: float = 1.0
    response: Curve = ZERO_CURVE
    write_std: Curve = ZERO_CURVE
    cell_std: Curve = ZERO_CURVE
    drift_mean: Curve = ZERO_CURVE
    drift_std: Curve = ZERO_CURVE
    relax_std: Curve = ZERO_CURVE
    read_std: Curve = ZERO_CURVE
    relax_mean: Curve = ZERO_CURVE


@dataclass(frozen=True, kw_only=True)
class ReadTime(_Singles):
    """What a read time means: log2((t + t_c) / t_c), relaxation shift and growth, read-noise growth."""

    log2_age: float = 0.0
    relax_mean: float = 0.0
    relax_scale: float = 0.0
    read_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Pulse(_Singles):
    """Program-and-verify settings, state units but `step` (share of the error) and `spread` (relative to the pulse)."""

    start: float = 0.0
    step: float = 1.0
    spread: float = 0.0
    noise: float = 0.0
    verify_std: float = 0.0
    band: float = 0.0
    log2_delay: float = 0.0
    max_pulses: int = 1


class Verified(NamedTuple):
    """Result of program-and-verify; `margin` is how near any verify came to the edge of the band, state units."""

    state: F64
    pulses: npt.NDArray[np.uint16]
    failed: npt.NDArray[np.uint8]
    margin: F64


def _noise(curve: Curve, at: F64, key: int, purpose: int, event: int, first: int) -> F64:
    if curve.form == ZERO:
        return np.zeros_like(at)
    return curve(at) * philox.normals(key, purpose, event, first, len(at))


def faults(device: Device, key: int, first: int, count: int) -> npt.NDArray[np.uint8]:
    """0 healthy, 1 stuck low, 2 stuck high; shape (count,)."""
    if device.p_stuck_lo == device.p_stuck_hi == 0.0:
        return np.zeros(count, dtype=np.uint8)
    word = philox.words(key, philox.FAULT, 0, first, count).astype(np.uint64)
    low = np.uint64(np.floor(device.p_stuck_lo * 2.0**32))
    either = np.uint64(np.floor((device.p_stuck_lo + device.p_stuck_hi) * 2.0**32))
    return np.where(word < low, 1, np.where(word < either, 2, 0)).astype(np.uint8)


def program(device: Device, key: int, event: int, first: int, x: npt.ArrayLike) -> F64:
    """One shot at each target x: response + cell-to-cell offset + write noise, clipped; stuck cells stay stuck."""
    at = np.asarray(x, dtype=np.float64)
    state = device.response(at)
    state += _noise(device.cell_std, at, key, philox.CELL, 0, first)
    state += _noise(device.write_std, at, key, philox.WRITE, event, first)
    code = faults(device, key, first, len(at))
    return np.choose(code, [np.clip(state, device.clip_lo, device.clip_hi), device.stuck_lo, device.stuck_hi])


def ageing_argument(device: Device, programmed: npt.ArrayLike) -> F64:
    """u: the programmed state on the scale of the ageing curves."""
    return np.maximum((np.asarray(programmed, dtype=np.float64) - device.state_lo) * device.inv_range, 0.0)


def _exponent(device: Device, u: F64, key: int, first: int) -> F64:
    return np.abs(device.drift_mean(u) + _noise(device.drift_std, u, key, philox.DRIFT, 0, first))


def _decay(device: Device, state: F64, octaves: F64) -> F64:
    """Drift by `octaves` = exponent * log2 of the age ratio."""
    return state * np.exp2(-octaves) if device.domain == CONDUCTANCE else state + octaves * LOG10_2


def drift(device: Device, time: ReadTime, key: int, first: int, programmed: npt.ArrayLike) -> F64:
    """Power law with each cell's own exponent |mean + std * z|; a stuck cell keeps its state."""
    state = np.asarray(programmed, dtype=np.float64)
    aged = _decay(device, state, _exponent(device, ageing_argument(device, state), key, first) * time.log2_age)
    return np.where(faults(device, key, first, len(state)) > 0, state, aged)


def relax(device: Device, time: ReadTime, key: int, first: int, programmed: npt.ArrayLike, state: npt.ArrayLike) -> F64:
    """Relaxation: a mean shift and a spread that grow with time, the same draw for a cell at any time."""
    before = np.asarray(state, dtype=np.float64)
    u = ageing_argument(device, programmed)
    if time.relax_mean == 0 and (time.relax_scale == 0 or device.relax_std.form == device.relax_mean.form == ZERO):
        return before
    noise = _noise(device.relax_std, u, key, philox.RELAX, 0, first)
    after = before + time.relax_mean + time.relax_scale * (device.relax_mean(u) + noise)
    if device.domain == CONDUCTANCE:
        after = np.clip(after, device.clip_lo, device.clip_hi)
    return np.where(faults(device, key, first, len(before)) > 0, before, after)


def read(
    device: Device,
    time: ReadTime,
    key: int,
    purpose: int,
    event: int,
    first: int,
    programmed: npt.ArrayLike,
    state: npt.ArrayLike,
) -> F64:
    """Read noise, absolute or relative to the aged state, clipped to the device's limits."""
    aged = np.asarray(state, dtype=np.float64)
    noise = time.read_scale * _noise(device.read_std, ageing_argument(device, programmed), key, purpose, event, first)
    return np.clip(aged + (noise * aged if device.read_relative else noise), device.clip_lo, device.clip_hi)


def age_and_read(
    device: Device, time: ReadTime, key: int, purpose: int, event: int, first: int, programmed: npt.ArrayLike
) -> F64:
    """Drift, relaxation and read noise of programmed cells."""
    drifted = drift(device, time, key, first, programmed)
    return read(
        device, time, key, purpose, event, first, programmed, relax(device, time, key, first, programmed, drifted)
    )


def program_age_read(
    device: Device,
    time: ReadTime,
    key: int,
    write_event: int,
    purpose: int,
    read_event: int,
    first: int,
    x: npt.ArrayLike,
) -> F64:
    """The whole life of a cell, from target to read value."""
    programmed = program(device, key, write_event, first, x)
    return age_and_read(device, time, key, purpose, read_event, first, programmed)


def program_and_verify(device: Device, pulse: Pulse, key: int, event: int, first: int, x: npt.ArrayLike) -> Verified:
    """Pulse, verify, repeat until the verify read is within the band or the pulses are used up.

    Only cells still in work are drawn for; a finished cell leaves the lists.
    """
    at = np.asarray(x, dtype=np.float64)
    target = device.response(at)
    state = np.full(len(at), pulse.start)
    pulses = np.zeros(len(at), dtype=np.uint16)
    failed = np.zeros(len(at), dtype=np.uint8)
    margin = np.full(len(at), np.inf)
    stuck = faults(device, key, first, len(at))
    octaves = np.zeros(len(at))
    if pulse.log2_delay > 0.0:
        octaves = _exponent(device, ageing_argument(device, target), key, first) * pulse.log2_delay
    active = np.flatnonzero(stuck == 0)
    for step in range(pulse.max_pulses + 1):
        if len(active) == 0:
            break
        if step % 2 == 0:
            draws = philox.pulse_normals(key, event, np.uint64(first) + active.astype(np.uint64), step // 2)
        verify_z, pulse_z = draws[:, 2 * (step % 2)], draws[:, 2 * (step % 2) + 1]
        seen = state[active] if pulse.log2_delay == 0.0 else _decay(device, state[active], octaves[active])
        error = target[active] - (seen + pulse.verify_std * verify_z)
        margin[active] = np.minimum(margin[active], np.abs(np.abs(error) - pulse.band))
        going = ~(np.abs(error) <= pulse.band)
        if step == pulse.max_pulses:
            failed[active[going]] = 1
            break
        active, error, pulse_z, draws = active[going], error[going], pulse_z[going], draws[going]
        move = pulse.step * error
        moved = state[active] + move + np.hypot(pulse.spread * move, pulse.noise) * pulse_z
        state[active] = np.clip(moved, device.clip_lo, device.clip_hi)
        pulses[active] += 1
    dead = stuck > 0
    state[dead] = np.where(stuck[dead] == 1, device.stuck_lo, device.stuck_hi)
    pulses[dead], failed[dead] = pulse.max_pulses, 1
    return Verified(state, pulses, failed, margin)
