"""What cells could hold at best: capacity, rate-distortion functions, and the limit where they meet (OPTA)."""

from __future__ import annotations

from memristore.limits.capacity import Capacity, blahut_arimoto, capacity, mutual_information
from memristore.limits.composites import SOURCES, Mixture, SpikeAndSlab, as_source
from memristore.limits.empirical import Empirical
from memristore.limits.rate_distortion import (
    cells_for,
    distortion,
    efficiency,
    entropy_gain,
    from_db,
    opta,
    rate,
    sdr_db,
    shannon_lower_bound,
    zeros_apart,
)
from memristore.limits.sources import Gaussian, GeneralisedGaussian, Laplacian, Source

__all__ = [
    "SOURCES",
    "Capacity",
    "Empirical",
    "Gaussian",
    "GeneralisedGaussian",
    "Laplacian",
    "Mixture",
    "Source",
    "SpikeAndSlab",
    "as_source",
    "blahut_arimoto",
    "capacity",
    "cells_for",
    "distortion",
    "efficiency",
    "entropy_gain",
    "from_db",
    "mutual_information",
    "opta",
    "rate",
    "sdr_db",
    "shannon_lower_bound",
    "zeros_apart",
]
