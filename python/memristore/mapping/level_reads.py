"""What levels are read as: the distribution of reads of targets, for either way of writing."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.array import ProgramAndVerify, Write, write_cells
from memristore.devices.device import Device
from memristore.devices.tails import BINS, BINS_OF_MEANS, ReadKernel, read_kernel
from memristore.rng import key as make_key

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Cells simulated for each target of program-and-verify. What their sample cannot show is at most 3 / SAMPLES with
#: 95 % confidence (the rule of three), and is added to error rates.
SAMPLES: Final[int] = 65536
#: Candidate targets among which levels are placed; fewer where reads are averaged.
CANDIDATES: Final[int] = 1025
CANDIDATES_OF_MEANS: Final[int] = 257
_SKETCH_TARGETS: Final[int] = 65
_SKETCH_SAMPLES: Final[int] = 4096


def simulated_states(device: Device, write: Write, x: F64, samples: int) -> F64:
    """Programmed states of `samples` cells for each target, shape (n, samples), from a fixed key."""
    key = make_key(0, "levels")
    targets = np.repeat(x, samples).astype(np.float32)
    return write_cells(device, write, key, 0, targets).state.astype(np.float64).reshape(x.size, samples)


@functools.lru_cache(maxsize=16)
def _sketch(device: Device, write: Write) -> tuple[F64, F64]:
    x = np.linspace(0.0, 1.0, _SKETCH_TARGETS)
    return x, np.sort(simulated_states(device, write, x, _SKETCH_SAMPLES), axis=1)


def _sketched_states(device: Device, write: Write, x: F64) -> F64:
    """States at targets between those that were simulated: quantiles interpolated."""
    grid, states = _sketch(device, write)
    position = x * (grid.size - 1)
    low = np.minimum(position.astype(np.int64), grid.size - 2)
    upper = (position - low)[:, None]
    return np.asarray(states[low] * (1.0 - upper) + states[low + 1] * upper)


@dataclass(frozen=True)
class Reads:
    """Reads of a device's cells at one age: the mean of `copies` of them.

    Parameters
    ----------
    device : Device
    write : Write
    at : float
        Seconds after programming.
    copies : int
        Cells with the same target whose reads are averaged.
    tails : bool
        Whether reads with a probability below 1e-6 must be right.
    """

    device: Device
    write: Write
    at: float
    copies: int = 1
    tails: bool = True

    @property
    def kernel(self) -> ReadKernel:
        """Ageing and reading, tabulated."""
        bins = BINS if self.copies == 1 else BINS_OF_MEANS
        finest = math.inf
        if isinstance(self.write, ProgramAndVerify):
            # A verify loop leaves about its band and the noise of its reads.
            low, high = self.device.state_range
            model = self.write.model(self.device)
            finest = max(math.hypot(model.band, model.verify_std) / 8.0, (high - low) / 2048.0)
        return read_kernel(self.device, self.at, bins, finest, self.tails)

    @property
    def edges(self) -> F64:
        """Edges of the bins, equally spaced."""
        return self.kernel.mean_edges(self.copies)

    @property
    def unseen(self) -> float:
        """Upper limit of the probability of what the simulated cells did not show; 0 for one-shot writes."""
        return 3.0 / SAMPLES if isinstance(self.write, ProgramAndVerify) else 0.0

    def masses(self, x: F64, *, stuck: bool = True, sketch: bool = False) -> F64:
        """Distribution of reads of targets, shape (n,).

        Parameters
        ----------
        x : ndarray, shape (n,)
        stuck : bool
            Whether stuck cells are part of it.
        sketch : bool
            For program-and-verify: interpolate between targets simulated once, for placing levels.

        Returns
        -------
        ndarray, shape (n, bins)
        """
        kernel = self.kernel
        if not isinstance(self.write, ProgramAndVerify):
            single = kernel.of_targets(x)
        elif sketch:
            single = kernel.of_states(_sketched_states(self.device, self.write, x))
        else:
            # Target by target: 65,536 states of many targets at once would not fit a cache.
            rows = [kernel.of_states(simulated_states(self.device, self.write, one, SAMPLES)) for one in x[:, None]]
            single = np.concatenate(rows)
        if stuck:
            single = kernel.with_stuck(single)
        return kernel.of_means(single, self.copies)


@functools.lru_cache(maxsize=8)
def candidate_masses(reads: Reads) -> tuple[F64, F64]:
    """Candidate targets by rising mean state, and the distribution of reads of each."""
    x = np.linspace(0.0, 1.0, CANDIDATES if reads.copies == 1 else CANDIDATES_OF_MEANS)
    x = x[np.argsort(reads.device.response(x), kind="stable")]
    return x, reads.masses(x, sketch=True)
