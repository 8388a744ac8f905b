"""Cells in torch: the kernels' physics of writing, ageing and reading, with noise drawn so that gradients pass."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch

from memristore import _core
from memristore.array import ProgramAndVerify, Write
from memristore.devices import Curve, Device
from memristore.units import parse_time

# Exponents beyond these leave float32; a curve's own limits apply long before.
_EXPONENT: Final = 80.0


def interpolate(
    table: torch.Tensor, row: torch.Tensor | int, place: torch.Tensor, low: torch.Tensor | float = 0.0,
    high: torch.Tensor | float = 1.0, through: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Look up places, in steps between knots, in rows of a table.

    Parameters
    ----------
    table : Tensor, shape (rows, knots)
    row : Tensor of int64, shape of `place`, or int
        Row of each place.
    place : Tensor, float32
        0 at the first knot, 1 at the second.
    low, high : Tensor or float
        How far a place may lie from the knot before it: 0 and 1 hold values beyond the ends, infinities extrapolate.
    through : bool
        Whether gradients pass at places that are held at the ends.

    Returns
    -------
    Tensor, shape of `place`
    """
    knots = table.shape[-1]
    knot = place.detach().clamp(0, knots - 2).floor()
    share = place - knot
    held = torch.maximum(torch.minimum(share, torch.as_tensor(high, device=share.device)),
                         torch.as_tensor(low, device=share.device))  # fmt: skip
    share = share + (held - share).detach() if through else held
    at = knot.long() + row * knots
    flat = table.reshape(-1)
    below = flat[at]
    return below + share * (flat[at + 1] - below)


def evaluate_curve(curve: Curve, x: torch.Tensor) -> torch.Tensor:
    """Evaluate a device's curve at arguments of any shape, float32."""
    if curve.form == "zero":
        return torch.zeros_like(x)
    if curve.form == "table":
        knots = torch.tensor([curve.values], dtype=torch.float32, device=x.device)
        place = (x - curve.start) * ((len(curve.values) - 1) / (curve.stop - curve.start))
        out = interpolate(knots, 0, place)
    else:
        argument = x if curve.form == "poly" else x.clamp(min=_core.LOG_FLOOR).log()
        out = torch.full_like(x, curve.values[-1])
        for value in reversed(curve.values[:-1]):
            out = out * argument + value
        if curve.form == "exp-log":
            out = out.clamp(-_EXPONENT, _EXPONENT).exp()
    return out.clamp(curve.lo, curve.hi)


class Cells:
    """Cells just programmed, each with traits of its own: one life for all reads.

    Parameters
    ----------
    device : Device
    write : Write
    targets : Tensor, shape (n,), float32
        Write parameters x in [0, 1]; gradients of reads reach them.
    generator : torch.Generator
        On the device of `targets`.
    """

    def __init__(self, device: Device, write: Write, targets: torch.Tensor, generator: torch.Generator) -> None:
        self.device = device
        self.generator = generator
        self.like = targets.detach()
        self._drift = self._normals() if device.drift_std else None
        self._relax = self._normals() if device.relaxation or device.ageing else None
        self.stuck = self._faults()
        state = self._verified(write, targets) if isinstance(write, ProgramAndVerify) else self._once(targets)
        self.programmed = self._hold(state)
        low, high = device.state_range
        self._u = ((self.programmed - low) * (1.0 / (high - low))).clamp(min=0)

    def _normals(self) -> torch.Tensor:
        return torch.randn(self.like.shape, generator=self.generator, device=self.like.device)

    def _faults(self) -> torch.Tensor | None:
        """State of stuck cells, NaN of others; None where none can be."""
        device = self.device
        if device.stuck_low + device.stuck_high == 0:
            return None
        low, high = device.stuck_states or device.state_range
        chance = torch.rand(self.like.shape, generator=self.generator, device=self.like.device)
        stuck = torch.full_like(chance, math.nan)
        stuck[chance < device.stuck_low + device.stuck_high] = high
        stuck[chance < device.stuck_low] = low
        return stuck

    def _hold(self, state: torch.Tensor) -> torch.Tensor:
        return state if self.stuck is None else torch.where(self.stuck.isnan(), state, self.stuck)

    def _clip(self, state: torch.Tensor) -> torch.Tensor:
        return state.clamp(*self.device.clip)

    def _once(self, x: torch.Tensor) -> torch.Tensor:
        state = evaluate_curve(self.device.response, x)
        for curve in (self.device.cell, self.device.write):
            if curve:
                state = state + evaluate_curve(curve, x) * self._normals()
        return self._clip(state)

    def _verified(self, write: ProgramAndVerify, x: torch.Tensor) -> torch.Tensor:
        """Pulse until a verify read accepts; what pulses do is discrete, so gradients pass by the mean response."""
        device, model = self.device, write.model(self.device)
        wanted = evaluate_curve(device.response, x)
        target = wanted.detach()
        age = device.log2_age(parse_time(write.delay))
        low, high = device.state_range
        nu = self._exponent(((target - low) / (high - low)).clamp(min=0)) if age > 0 else None
        state = torch.full_like(target, model.start)
        active = torch.ones_like(target, dtype=torch.bool)
        for pulse in range(model.max_pulses + 1):
            seen = (state if nu is None else self._drifted(state, nu, age)) + model.verify_std * self._normals()
            error = target - seen
            active &= error.abs() > model.band
            if pulse == model.max_pulses or not bool(active.any()):
                break
            move = model.step * error
            spread = (torch.square(model.spread * move) + model.noise**2).sqrt()
            state = torch.where(active, self._clip(state + move + spread * self._normals()), state)
        return wanted + (state - wanted).detach()

    def _exponent(self, u: torch.Tensor) -> torch.Tensor:
        nu = evaluate_curve(self.device.drift_mean, u)
        if self._drift is not None:
            nu = nu + evaluate_curve(self.device.drift_std, u) * self._drift
        return nu.abs()

    def _drifted(self, state: torch.Tensor, nu: torch.Tensor, age: float) -> torch.Tensor:
        if self.device.domain == "conductance":
            return state * torch.exp2(nu * -age)
        return state + nu * (age * math.log10(2.0))

    def read(self, at: float) -> torch.Tensor:
        """Read the cells, with fresh read noise, `at` seconds after programming; shape (n,), uS or log10(ohm)."""
        device, state, u = self.device.aged(at), self.programmed, self._u
        age = device.log2_age(at)
        if age != 0 and (device.drift_mean or device.drift_std):
            state = self._hold(self._drifted(state, self._exponent(u), age))
        shift, growth = device.relaxation_at(at)
        if shift != 0 or (growth != 0 and (device.relaxation or device.relaxation_shift)):
            moved = state + shift
            if device.relaxation_shift:
                moved = moved + evaluate_curve(device.relaxation_shift, u) * growth
            if self._relax is not None and device.relaxation:
                moved = moved + evaluate_curve(device.relaxation, u) * (growth * self._relax)
            moved = self._clip(moved) if device.domain == "conductance" else moved
            state = moved if self.stuck is None else torch.where(self.stuck.isnan(), moved, state)
        scale = device.read_scale(at)
        if scale != 0:
            spread = evaluate_curve(device.read, u) * scale
            state = state + (spread * state if device.read_relative else spread) * self._normals()
        return self._clip(state)


def as_tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to a torch device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, copy=True)
