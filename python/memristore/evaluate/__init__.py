"""Judging stored networks: Monte Carlo with uncertainty, tasks to judge by, tables and pictures."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from memristore.evaluate.attribution import Attribution, attribute
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.monte_carlo import evaluate
from memristore.evaluate.rates import Rate, compression_report
from memristore.evaluate.result import Evaluation, Metric, Result

__all__ = [
    "Attribution",
    "Comparison",
    "Evaluation",
    "Metric",
    "Rate",
    "Result",
    "attribute",
    "compression_report",
    "evaluate",
]


class _CallablePackage(ModuleType):
    """Python binds a package as attribute of its parent, over the function of the same name; so it can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Evaluation:
        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
