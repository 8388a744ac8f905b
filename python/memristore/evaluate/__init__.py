"""Judging stored networks: Monte Carlo with uncertainty, tasks to judge by, tables and pictures."""

from __future__ import annotations

from memristore.evaluate.comparison import Comparison
from memristore.evaluate.monte_carlo import evaluate
from memristore.evaluate.result import Evaluation, Metric, Result

__all__ = ["Comparison", "Evaluation", "Metric", "Result", "evaluate"]
