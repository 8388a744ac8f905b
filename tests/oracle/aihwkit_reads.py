"""The same cells in IBM aihwkit's noise models and here: what both read of the same targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp

from memristore import CellArray, Device, devices, from_aihwkit

DAY = 86400.0
YEAR = 365 * DAY
TIMES = (1.0, DAY, YEAR)


@dataclass(frozen=True)
class Pair:
    """A built-in device and the noise model it is to agree with.

    Parameters
    ----------
    device : str
    model : object
    times : tuple of float
        Seconds; NeuRRAM's model knows three times only.
    follows_state : bool
        Whether drift exponents are drawn by the programmed conductance, as they are here; aihwkit's own
        `apply_noise` draws them by the target.
    """

    device: str
    model: Any
    times: tuple[float, ...] = TIMES
    follows_state: bool = True


def pairs() -> list[Pair]:
    """Every model that a built-in device stands for; raises ImportError or OSError without aihwkit."""
    from aihwkit.inference.noise.hermes import HermesNoiseModel
    from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
    from aihwkit.inference.noise.reram import ReRamCMONoiseModel, ReRamWan2022NoiseModel

    return [
        Pair("pcm-ibm-90nm", PCMLikeNoiseModel(g_max=25.0)),
        Pair("pcm-hermes-14nm", HermesNoiseModel(num_devices=1)),
        Pair("pcm-hermes-14nm/2-devices", HermesNoiseModel(num_devices=2)),
        Pair("rram-neurram", ReRamWan2022NoiseModel(g_max=40.0), (1.0, DAY, 2 * DAY), follows_state=False),
        Pair("rram-cmo-hfox", ReRamCMONoiseModel(g_max=90.0, g_min=8.0, acceptance_range=0.2)),
        Pair("rram-cmo-hfox/2-percent", ReRamCMONoiseModel(g_max=90.0, g_min=8.0, acceptance_range=2)),
    ]


def theirs(pair: Pair, x: float, at: float, n: int, *, by_target: bool = False) -> np.ndarray:
    """Reads of n cells of one target in aihwkit, shape (n,), uS."""
    low, high = devices.get(pair.device).state_range
    target = torch.full((n,), low + (high - low) * x)
    programmed = pair.model.apply_programming_noise_to_conductance(target.clone())
    leading = programmed if pair.follows_state and not by_target else target
    exponents = pair.model.generate_drift_coefficients(leading.clone())
    return np.asarray(pair.model.apply_drift_noise_to_conductance(programmed, exponents, at).numpy(), dtype=np.float64)


def ours(device: Device, x: float, at: float, n: int) -> np.ndarray:
    """Reads of n cells of one target here, shape (n,), uS."""
    cells = CellArray(device, n, seed=21)
    cells.program(np.full(n, x, dtype=np.float32))
    return cells.read(at=at).astype(np.float64)


def compare(
    pair: Pair, x: float, at: float, n: int, *, imported: bool = False, by_target: bool = False
) -> dict[str, float]:
    """Relative differences of mean and spread, and the largest difference of the distribution functions."""
    torch.manual_seed(int(at) + int(1000 * x))
    device = from_aihwkit(pair.model) if imported else devices.get(pair.device)
    a, b = ours(device, x, at, n), theirs(pair, x, at, n, by_target=by_target)
    return {
        "mean": float(a.mean() / b.mean() - 1.0),
        "std": float(a.std() / b.std() - 1.0),
        "ks": float(ks_2samp(a, b).statistic),
    }
