"""Sweeps: many networks, recipes, devices, times and seeds, run anywhere, killed and resumed, kept in one file."""

from __future__ import annotations

from memristore.sweep.executors import RayExecutor
from memristore.sweep.plan import Sweep, SweepModel
from memristore.sweep.results import SweepResults
from memristore.sweep.run import run_sweep

__all__ = ["RayExecutor", "Sweep", "SweepModel", "SweepResults", "run_sweep"]
