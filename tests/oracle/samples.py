"""Devices and inputs that between them visit every curve form, both domains and every noise term."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from oracle import philox
from oracle.cells import CONDUCTANCE, LOG_RESISTANCE, Device, Pulse, ReadTime
from oracle.curves import EXP_LOG, POLY, POLY_LOG, TABLE, ZERO_CURVE, Curve, constant

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

LN2 = float(np.log(2.0))
FULL_SCALE = 25.0


def table(values: npt.ArrayLike, x0: float = 0.0, x1: float = 1.0, floor: float = -1e30) -> Curve:
    """Evenly spaced knots over [x0, x1], clipped to their own range (from `floor` up)."""
    knots = np.asarray(values, dtype=np.float64)
    return Curve(
        form=TABLE,
        a=tuple(knots.tolist()),
        lo=max(float(knots.min()), floor),
        hi=float(knots.max()),
        x0=x0,
        inv_step=(len(knots) - 1) / (x1 - x0),
    )


def ibm_90nm() -> Device:
    """Doped-GST mushroom cells, published statistics (Joshi et al., Nat. Commun. 2020): uS, g = G / 25 uS.

    sigma_p = max(-1.1731 g^2 + 1.9650 g + 0.2635, 0); mu_nu = clip(-0.0155 ln g + 0.0244, 0.049, 0.1);
    sigma_nu = clip(-0.0125 ln g - 0.0059, 0.008, 0.045); Q_s = min(0.0088 / g^0.65, 0.2).
    """
    return Device(
        domain=CONDUCTANCE,
        read_relative=True,
        inv_range=1.0 / FULL_SCALE,
        clip_lo=0.0,
        clip_hi=1e30,
        response=Curve(form=POLY, a=(0.0, FULL_SCALE), lo=0.0, hi=FULL_SCALE),
        write_std=Curve(form=POLY, a=(0.2635, 1.9650, -1.1731), lo=0.0, hi=1e30),
        drift_mean=Curve(form=POLY_LOG, a=(0.0244, -0.0155 * LN2), lo=0.049, hi=0.1),
        drift_std=Curve(form=POLY_LOG, a=(-0.0059, -0.0125 * LN2), lo=0.008, hi=0.045),
        read_std=Curve(form=EXP_LOG, a=(float(np.log2(0.0088)), -0.65), lo=0.0, hi=0.2),
    )


def ibm_time(seconds: float) -> ReadTime:
    """Read time of `ibm_90nm`: t_c = 20 s, t_r = 250 ns, T = t + t_c."""
    since, t_c, t_r = seconds + 20.0, 20.0, 250e-9
    return ReadTime(log2_age=float(np.log2(since / t_c)), read_scale=float(np.sqrt(np.log((since + t_r) / (2 * t_r)))))


def busy_conductance() -> Device:
    """Conductance domain, every noise term on, faults on, read noise absolute; smooth polynomials."""
    return Device(
        domain=CONDUCTANCE,
        read_relative=False,
        state_lo=0.1,
        inv_range=1.0 / 24.9,
        clip_lo=0.1,
        clip_hi=26.0,
        p_stuck_lo=0.004,
        p_stuck_hi=0.0025,
        stuck_lo=0.15,
        stuck_hi=25.5,
        response=Curve(form=POLY, a=(0.2, 20.0, 7.0, -2.2), lo=0.1, hi=25.0),
        write_std=Curve(form=EXP_LOG, a=(-0.5, 0.3, -0.02), lo=0.01, hi=1.5),
        cell_std=Curve(form=POLY, a=(0.3, 0.4), lo=0.0, hi=1.0),
        drift_mean=Curve(form=POLY, a=(0.07, -0.05), lo=0.0, hi=0.1),
        drift_std=Curve(form=EXP_LOG, a=(-6.0, -0.3), lo=0.001, hi=0.06),
        relax_std=Curve(form=POLY_LOG, a=(0.4, 0.05, 0.002), lo=0.05, hi=0.5),
        read_std=Curve(form=POLY_LOG, a=(0.2, 0.03), lo=0.01, hi=0.4),
    )


def busy_resistance() -> Device:
    """Log-resistance domain, every noise term on, faults on; tables of 13 to 64 knots; resistance falls with x."""
    k = np.linspace(0.0, 1.0, 64)
    return Device(
        domain=LOG_RESISTANCE,
        read_relative=False,
        state_lo=4.9,
        inv_range=1.0 / 1.5,
        clip_lo=4.5,
        clip_hi=7.0,
        p_stuck_lo=0.003,
        p_stuck_hi=0.006,
        stuck_lo=4.6,
        stuck_hi=6.9,
        response=table(6.4 - 1.4 * k**0.8),
        write_std=table([0.05, 0.02, 0.034, 0.108, 0.175, 0.154, 0.122, 0.092, 0.079, 0.076, 0.074, 0.065, 0.054]),
        cell_std=table(0.09 + 0.05 * np.cos(9.0 * k[:32]), x0=0.1, x1=0.9),
        drift_mean=table(0.001 + 0.09 * k[::7] / k[-1]),
        drift_std=Curve(form=POLY, a=(0.001, 0.03), lo=0.0, hi=0.03),
        relax_std=table(0.03 + 0.02 * k[:17]),
        read_std=table(np.array([0.004, 0.02])),
    )


def relative_resistance() -> Device:
    """Log-resistance domain with relative read noise and only some of the terms: the others must vanish."""
    return Device(
        domain=LOG_RESISTANCE,
        read_relative=True,
        state_lo=4.0,
        inv_range=0.5,
        clip_lo=3.0,
        clip_hi=8.0,
        response=Curve(form=POLY, a=(4.0, 2.0), lo=4.0, hi=6.0),
        drift_mean=Curve(form=POLY, a=(0.02, 0.05), lo=0.0, hi=0.1),
        read_std=constant(0.003),
    )


def shifting_conductance() -> Device:
    """Conductance whose relaxation shifts the mean by state, as a polynomial in the logarithm, with faults."""
    shift = Curve(form=POLY_LOG, a=(-0.3, 0.02), lo=-1.0, hi=1.0)
    return replace(busy_conductance(), drift_mean=ZERO_CURVE, drift_std=ZERO_CURVE, relax_mean=shift)


def shifting_resistance() -> Device:
    """Log-resistance whose relaxation shifts the mean by a table and spreads nothing."""
    return replace(busy_resistance(), relax_std=ZERO_CURVE, relax_mean=table(0.05 - 0.2 * np.linspace(0.0, 1.0, 33)))


def ideal() -> Device:
    """No noise at all: 0 to 1, stays where it is put."""
    return Device(response=Curve(form=POLY, a=(0.0, 1.0), lo=0.0, hi=1.0), clip_hi=1.25)


DEVICES: dict[str, Device] = {
    "ibm": ibm_90nm(),
    "busy-conductance": busy_conductance(),
    "busy-resistance": busy_resistance(),
    "relative-resistance": relative_resistance(),
    "shifting-conductance": shifting_conductance(),
    "shifting-resistance": shifting_resistance(),
    "ideal": ideal(),
}
#: Full scale of each device's state, for tolerances.
SCALES = {"ibm": 25.0, "busy-conductance": 25.0, "busy-resistance": 7.0, "relative-resistance": 8.0, "ideal": 1.0}
SCALES |= {"shifting-conductance": 25.0, "shifting-resistance": 7.0}
TIMES: dict[str, ReadTime] = {
    "ibm": ibm_time(86400.0),
    "busy-conductance": ReadTime(log2_age=21.5, relax_mean=-0.2, relax_scale=1.7, read_scale=2.5),
    "busy-resistance": ReadTime(log2_age=18.0, relax_mean=0.03, relax_scale=1.3, read_scale=1.5),
    "relative-resistance": ReadTime(log2_age=12.0, read_scale=2.0),
    "shifting-conductance": ReadTime(log2_age=9.0, relax_scale=1.7, read_scale=1.0),
    "shifting-resistance": ReadTime(log2_age=18.0, relax_scale=1.3, read_scale=1.5),
    "ideal": ReadTime(log2_age=20.0),
}
PULSES: dict[str, Pulse] = {
    "ibm": Pulse(start=0.0, step=0.7, spread=0.15, noise=0.15, verify_std=0.15, band=0.375, max_pulses=20),
    "busy-conductance": Pulse(
        start=3.0, step=0.8, spread=0.2, noise=0.1, verify_std=0.2, band=0.25, log2_delay=6.0, max_pulses=7
    ),
    "busy-resistance": Pulse(
        start=4.8, step=0.6, spread=0.1, noise=0.01, verify_std=0.01, band=0.03, log2_delay=4.0, max_pulses=11
    ),
    "relative-resistance": Pulse(start=5.0, step=0.9, spread=0.3, band=0.01, max_pulses=511),
    "shifting-conductance": Pulse(start=3.0, step=0.9, spread=0.3, band=0.3, max_pulses=9),
    "shifting-resistance": Pulse(start=5.0, step=0.9, spread=0.3, band=0.02, max_pulses=9),
    "ideal": Pulse(start=0.0, step=1.0, band=1e-4, max_pulses=1),
}


def words(first: int, count: int, salt: int = 0) -> U64:
    """Even 64-bit words, functions of (first + 64 * position) and `salt` alone."""
    block = np.uint64(first) + np.uint64(64) * np.arange(count, dtype=np.uint64)
    drawn = philox.blocks(0x5EED0000 + salt, philox.USER, 77, block)
    return np.ascontiguousarray(drawn[:, :2]).view("<u8").reshape(-1).astype(np.uint64)


def uniform(first: int, count: int, lo: float = 0.0, hi: float = 1.0, salt: int = 0) -> F32:
    """Even numbers in [lo, hi), functions of the absolute cell number and `salt` alone, the same everywhere."""
    drawn = philox.words(0x5EED1000 + salt, philox.USER, 78, first, count)
    return ((drawn >> np.uint32(8)) * 2.0**-24 * (hi - lo) + lo).astype(np.float32)
