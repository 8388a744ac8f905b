"""Published statistics of IBM's 90 nm doped-GST phase-change memory, in the words of the papers, and their moments.

Joshi et al., Nat. Commun. 2020, and Nandakumar et al., ICECS 2019, as given in aihwkit's documentation of its
statistical PCM model. A second copy on purpose: nothing here knows of curves, so wrong or swapped tables are seen.
g = G / Gmax, Gmax = 25 uS, ln is the natural logarithm.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
G_MAX = 25.0
T_C = 20.0
T_R = 250e-9


def sigma_p(g: F64) -> F64:
    """Programming noise, uS."""
    return np.maximum(-1.1731 * g**2 + 1.9650 * g + 0.2635, 0.0)


def mu_nu(g: F64) -> F64:
    """Mean drift exponent."""
    return np.clip(-0.0155 * np.log(g) + 0.0244, 0.049, 0.1)


def sigma_nu(g: F64) -> F64:
    """Spread of the drift exponent."""
    return np.clip(-0.0125 * np.log(g) - 0.0059, 0.008, 0.045)


def q_s(g: F64) -> F64:
    """Strength of the 1/f read noise."""
    return np.minimum(0.0088 / g**0.65, 0.2)


def normal_grid(points: int = 2001, reach: float = 9.0) -> tuple[F64, F64]:
    """Nodes and weights that integrate against the standard normal density."""
    z = np.linspace(-reach, reach, points)
    weight = np.exp(-0.5 * z * z)
    return z, weight / weight.sum()


def folded_moments(mean: float, std: float) -> tuple[float, float]:
    """Mean and variance of |N(mean, std)|."""
    ratio = mean / std
    folded = std * math.sqrt(2 / math.pi) * math.exp(-0.5 * ratio**2) + mean * math.erf(ratio / math.sqrt(2))
    return folded, mean**2 + std**2 - folded**2


def read_moments(g_target: float, seconds: float) -> F64:
    """Raw moments 1 to 4 of the read conductance, uS, of cells programmed to `g_target` and read after `seconds`.

    G = max(G_T + sigma_p(g_T) z1, 0); G(t) = G (T / t_c)^-|mu_nu + sigma_nu z2|; read max(G(t) (1 + Q_s k z3), 0) with
    k = sqrt(ln((T + t_r) / (2 t_r))), T = t + t_c. The curves of ageing are taken at the programmed conductance.
    """
    z, weight = normal_grid()
    since = seconds + T_C
    programmed = np.maximum(G_MAX * g_target + sigma_p(np.full(1, g_target)) * z, 0.0)
    g = np.maximum(programmed / G_MAX, 1e-7)
    exponent = np.abs(mu_nu(g)[:, None] + sigma_nu(g)[:, None] * z)
    growth = np.sqrt(np.log((since + T_R) / (2 * T_R)))
    read = np.maximum(1.0 + (q_s(g) * growth)[:, None] * z, 0.0)
    kept = (since / T_C) ** -exponent
    return np.array([np.sum(weight * programmed**k * (kept**k @ weight) * (read**k @ weight)) for k in range(1, 5)])


def delayed_moments(mean: float, std: float, log2_delay: float, verify_std: float) -> tuple[float, float]:
    """Mean and variance of a state after one full-step pulse from 2 uS to 12.5 uS, judged by a verify after a delay.

    The verify sees 2 * 2^(-|nu| log2_delay) + noise, and the pulse adds 12.5 less that: so does the state end.
    """
    z, weight = normal_grid(20_001)
    seen = 2.0 * 2.0 ** (-np.abs(mean + std * z) * log2_delay)
    average = float(seen @ weight)
    return 2.0 + 12.5 - average, float(seen**2 @ weight) - average**2 + verify_std**2
