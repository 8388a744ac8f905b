"""Published statistics of devices in the words of their sources, and the moments of what is read.

A second copy on purpose: nothing here knows of curves or tables. Sources: IBM aihwkit, inference/noise/hermes.py and
reram.py; Sandia CrossSim, devices/custom/RRAM_Milo.py and SONOS.py; NVMExplorer, mlc_rram_args.p. g = G / Gmax, ln is
the natural logarithm, conductances in uS, currents in nA.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oracle.published import normal_grid

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Hermes:
    """HERMES 14 nm, one or two devices to a value."""

    g_max: float
    t_c: float
    programming: tuple[float, ...]
    number: int
    t_r: float = 512e-9

    def write(self, g: F64) -> F64:
        """Programming noise, uS."""
        return np.asarray(np.polyval(self.programming[::-1], g))

    def drift(self, g: F64) -> tuple[F64, F64]:
        """Mean and spread of the drift exponent."""
        log = np.log(g)
        mean = np.where(g < 0.0945, np.clip(-0.0387 * log - 0.0182, 0.072, 0.13), -0.0436 * g**2 - 0.0126 * g + 0.0736)
        if self.number == 1:
            low, high = np.clip(-0.0120 * log - 0.0023, 0.0124, 0.04), -0.0165 * g**2 + 0.0116 * g + 0.0104
            return mean, np.where(g < 0.3039, low, high)
        low, high = np.clip(-0.0117 * log - 0.0057, 0.0091, 0.04), -0.0118 * g**2 + 0.0093 * g + 0.0073
        return mean, np.where(g < 0.3055, low, high)

    def q_s(self, g: F64) -> F64:
        """Strength of the 1/f read noise."""
        log = np.log(g)
        if self.number == 1:
            high = 0.0664 * g**3 - 0.1352 * g**2 + 0.0768 * g + 0.0088
            return np.where(g < 0.1591, np.clip(-0.0078 * log + 0.0038, 0.0179, 0.04), high)
        high = 0.0069 * g**3 - 0.0280 * g**2 + 0.0211 * g + 0.0123
        return np.where(g < 0.16, np.clip(-0.0117 * log - 0.0069, 0.015, 0.04), high)

    def moments(self, x: float, at: float) -> tuple[float, float]:
        """Mean and spread of reads; ageing follows the programmed conductance."""
        z, weight = normal_grid(401, 7.0)
        programmed = np.maximum(self.g_max * x + self.write(np.array([x])) * z, 0.0)
        g = np.maximum(programmed / self.g_max, 1e-7)
        mean, std = self.drift(g)
        since = at + self.t_c
        kept = (since / self.t_c) ** -np.abs(mean[:, None] + std[:, None] * z)
        growth = np.sqrt(np.log((since + self.t_r) / (2 * self.t_r)))
        read = np.maximum(1.0 + (self.q_s(g) * growth)[:, None] * z, 0.0)
        first, second = (
            float(np.sum(weight * programmed**k * (kept**k @ weight) * (read**k @ weight))) for k in (1, 2)
        )
        return first, float(np.sqrt(second - first**2))


HERMES_1 = Hermes(10.35, 200.0, (0.15781817, 2.32443916, -2.16310839, 0.68841818), 1)
HERMES_2 = Hermes(20.7, 300.0, (0.16603222, 4.71806468, -8.48101252, 4.68961419), 2)

NEURRAM: dict[float, tuple[float, ...]] = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    86400.0: (0.701, 22.086, -50.773, 47.095, -16.458),
    172800.0: (0.782, 20.274, -43.507, 37.062, -11.934),
}


def clipped(mean: float, std: float) -> tuple[float, float]:
    """Mean and spread of max(N(mean, std), 0)."""
    z, weight = normal_grid(20_001)
    seen = np.maximum(mean + std * z, 0.0)
    first = float(seen @ weight)
    return first, float(np.sqrt(seen**2 @ weight - first**2))


def neurram(x: float, at: float) -> tuple[float, float]:
    """NeuRRAM: spread about the target at one of the published times."""
    return clipped(40.0 * x, float(np.polyval(NEURRAM[at][::-1], x)))


def cmo(x: float, at: float, acceptance: float) -> tuple[float, float]:
    """CMO/HfOx: write, relaxation and read noise are independent."""
    g = 8.0 + 82.0 * x
    slope, offset = {0.2: (0.00106879, 0.00081107), 2.0: (0.01129027, 0.01121854)}[acceptance]
    write = slope * g + offset
    if at == 0:
        return g, write
    mean = g - 0.0890 * np.log(at)
    relaxed = 0.04201 * np.log(at) + 0.41183
    read = 0.02773 * np.log10(g) * np.sqrt(np.log((at + 1e-6) / 2e-6))
    return float(mean), float(np.sqrt(write**2 + relaxed**2 + read**2))


def ihp(x: float) -> tuple[float, float]:
    """IHP 1T1R after program-and-verify."""
    g = 50.0 + 175.0 * x
    return g, max(-0.009107 * g + 4.782321, 0.0)


#: Amplitude and current of the spread at days 0 to 5.
SONOS_SPREAD = (
    (19.88665, 176.3115), (25.59102, 186.85544), (28.72753, 193.56834), (31.04318, 198.90332), (33.76214, 204.77023),
    (34.57909, 207.34309),
)  # fmt: skip
#: Mean drift: coefficients from the constant up, days 1 and 5.
SONOS_DRIFT = {
    1: (6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08, 5.88902e-11, -1.07685e-13, 1.17751e-16,
        -7.60016e-20, 2.67255e-23, -3.94954e-27),
    5: (1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09, 3.39044e-11, -7.53872e-14, 8.98185e-17,
        -6.00346e-20, 2.12615e-23, -3.11099e-27),
}  # fmt: skip


def sonos(current: float, day: int) -> tuple[float, float]:
    """SONOS: mean current, and spread of cells and reads together."""
    mean = current + (float(np.polyval(SONOS_DRIFT[day][::-1], current)) if day else 0.0)
    amplitude, scale = SONOS_SPREAD[day]
    cells = amplitude * (1 - np.exp(-mean / scale))
    reads = 12.58037 * (1 - np.exp(-current / 215.36557))
    return mean, float(np.hypot(cells, reads))


MLC_RRAM = {
    "rram-mlc/1-bit": ((0, 0.0086), (1, 0.0034)),
    "rram-mlc/2-bit": ((0, 0.0086), (0.3846, 0.0335), (0.7217, 0.0274), (1, 0.0034)),
    "rram-mlc": (
        (0, 0.0086), (0.0783, 0.0135), (0.2038, 0.0304), (0.3846, 0.0335), (0.5421, 0.0248), (0.7217, 0.0274),
        (0.8861, 0.0372), (1, 0.0034),
    ),
}  # fmt: skip


def nand(level: int, cycles: float, at: float) -> tuple[float, float]:
    """Two-bit flash: mean and spread of a threshold voltage, Gaussians in place of uniform and Laplace parts."""
    start = (1.4, 2.7, 3.3, 4.03)[level]
    write = 0.35 if level == 0 else 0.2 / np.sqrt(12.0)
    log = np.log1p(at / 3600.0)
    # Losses follow each cell's own voltage: a Gaussian about the level's mean.
    z, weight = normal_grid()
    state = start + write * z
    over = np.maximum(state - 1.4, 0.0)
    mean = state - 0.333 * over * 4e-4 * cycles**0.5 * log
    variance = 0.333 * over * 2e-6 * cycles**0.6 * log + 2.0 * (4e-4 * cycles**0.5) ** 2
    first = float(mean @ weight)
    return first, float(np.sqrt((mean - first) ** 2 @ weight + variance @ weight))
