"""What a search found: the recipe, its numbers, and everything it was weighed against."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memristore.errors import FileError
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.result import Evaluation
from memristore.limits import Empirical, capacity, rate
from memristore.spec import StorageSpec
from memristore.units import format_time

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table
    from torch import nn

    from memristore.storage import PreparedModel
    from memristore.torch_io import StateDict

SCHEMA: Final = "memristore.fit"
VERSION: Final = 1
#: Fewest values of which a distribution is told well enough to say how many bits they need.
_FEWEST: Final = 256


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The recipe that `fit` found, and the front it lies on.

    Parameters
    ----------
    spec : StorageSpec
        The recipe, for `memristore.store`.
    network : Module or state_dict
        What goes into it: the network given, or a copy with calibrated batch norm or fine-tuned weights.
    evaluation : Evaluation
        Its row: cells per weight, the metric with its 95 % confidence interval.
    front : Comparison
        All recipes judged in full by cells, then the digital number formats.
    max_drop, budget : float or None
        The bound; one of them.
    limit_cells : float
        Shannon's rate for the errors that this recipe leaves in each large tensor, over the capacity of a cell, in
        cells per weight. Values are taken as independent draws from each tensor's own distribution, and the capacity is
        that of inputs on a grid (`memristore.limits.capacity`), at most 10 bits: on cells almost without noise, or for
        weights with structure, a code may need less. Small tensors and exact bits are not in it.
    holdout : Evaluation or None
        The same recipe judged by data that the search did not see, if there were any.
    left_out : tuple of (str, str)
        Families that were dropped before a full judgement, and why.
    seconds : float
        Time that the search took.
    """

    spec: StorageSpec
    network: nn.Module | StateDict = field(repr=False, compare=False)
    evaluation: Evaluation
    front: Comparison
    max_drop: float | None
    budget: float | None
    limit_cells: float
    holdout: Evaluation | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0

    @property
    def cells_per_weight(self) -> float:
        """Cells per weight of the recipe."""
        return self.evaluation.cells_per_weight

    @property
    def drop(self) -> float:
        """By how much the recipe's mean is worse than the network itself, in the units of the metric."""
        return _drop(self.evaluation)

    @property
    def pareto(self) -> tuple[Evaluation, ...]:
        """Rows of the front that no other row beats in both cells and metric, by cells."""
        sign = 1.0 if self.evaluation.metric.higher_is_better else -1.0
        out: list[Evaluation] = []
        for row in sorted(self.front, key=lambda e: (e.cells_per_weight, -sign * e.results[0].mean)):
            if not out or sign * row.results[0].mean > sign * out[-1].results[0].mean:
                out.append(row)
        return tuple(out)

    def table(self) -> Table:
        """All rows, by cells; see `Comparison.table`."""
        return self.front.table(self.evaluation.scheme)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the metric against cells per weight and save the picture to `path` if given."""
        from memristore.evaluate.fit_plot import front
        from memristore.evaluate.plots import save

        figure = front(self)
        if path is not None:
            save(figure, path)
        return figure

    def sentences(self) -> list[str]:
        """Say what was found, in words; computed from the rows."""
        row, about = self.evaluation, self.evaluation.metric
        result = row.results[0]
        out = [
            f"{row.scheme}: {row.cells_per_weight:.3f} cells per weight, {about.label} "
            f"{about.text(result.mean, result.ci95)} over {result.trials} arrays after "
            f"{format_time(result.at_seconds)}; {_lost(row)}",
        ]
        if self.holdout is not None:
            held = self.holdout.results[0]
            out.append(
                f"on data that the search did not see: {about.label} {about.text(held.mean, held.ci95)}; "
                f"{_lost(self.holdout)}"
            )
        if self.limit_cells < row.cells_per_weight:
            out.append(
                f"Shannon's limit for the same errors in the same tensors, values taken as independent: "
                f"{self.limit_cells:.3f} cells per weight"
            )
        for name in ("fp32", "int8"):
            rivals = [e for e in self.front if e.scheme.startswith(f"{name}, ")]
            if rivals:
                least = min(rivals, key=lambda e: e.cells_per_weight)
                ratio = least.cells_per_weight / row.cells_per_weight
                out.append(f"{ratio:.2f} times fewer cells than {least.scheme} ({least.cells_per_weight:.3f})")
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict: the front as `Comparison.to_dict` gives it, the recipe, the bound."""
        return {
            **self.front.to_dict(),
            "schema": SCHEMA,
            "version": VERSION,
            "spec": self.spec.to_dict(),
            "best": self.evaluation.scheme,
            "cells_per_weight": self.cells_per_weight,
            "drop": self.drop,
            "max_drop": self.max_drop,
            "budget": self.budget,
            "limit_cells_per_weight": self.limit_cells,
            "holdout": None if self.holdout is None else self.holdout.to_row(),
            "pareto": [row.scheme for row in self.pareto],
            "left_out": dict(self.left_out),
            "seconds": self.seconds,
            "sentences": self.sentences(),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON, and write it to `path` if given; `FileError` if that cannot be."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            try:
                Path(path).write_text(text, encoding="utf-8")
            except OSError as error:
                raise FileError(f"{os.fspath(path)}: cannot be written ({error})") from error
        return text


def _drop(row: Evaluation) -> float:
    return (1.0 if row.metric.higher_is_better else -1.0) * (row.clean - row.results[0].mean)


def _lost(row: Evaluation) -> str:
    """How far below the network itself a recipe is, in words."""
    about, drop = row.metric, _drop(row)
    if about.is_exact(row.clean):
        return "the network itself is exact"
    unit = "points" if about.unit == "fraction" else about.unit
    return f"{about.scale * abs(drop):.4g} {unit}".strip() + f" {'below' if drop >= 0 else 'above'} the network itself"


def limit_cells(
    prepared: PreparedModel, model: nn.Module | StateDict, at: float, *, seed: int, threads: int = 0
) -> float:
    """Cells per weight that Shannon's rate asks for the errors that a recipe leaves in each large tensor.

    Parameters
    ----------
    prepared : PreparedModel
    model : Module or state_dict
        What the recipe was made for: `FitResult.network`.
    at : float
        Read time, seconds.
    seed : int
        Of the array.
    threads : int

    Returns
    -------
    float
        Sum of R(D) over tensors of at least 256 values that vary (where they come back without error: the entropy of
        their values), over the capacity of a cell and all weights.
    """
    stored = prepared.program(seed=seed, trace=False, threads=threads)
    found = stored.load(at=at, threads=threads)
    state = model if not hasattr(model, "state_dict") else model.state_dict()
    bits = 0.0
    for entry in prepared.entries:
        given = state[entry.name].detach().cpu()
        values = given.double().numpy().reshape(-1) if entry.kind == "analog" else np.zeros(0)
        if values.size < _FEWEST or values.var() == 0:
            continue
        error = float(np.square(found[entry.name].cpu().double().numpy().reshape(-1) - values).mean())
        if error > 0:
            bits += values.size * rate(Empirical.of(values), error / float(values.var()))
        else:
            share = np.unique(values, return_counts=True)[1] / values.size
            bits -= values.size * float(share @ np.log2(share))
    per_cell = max(float(capacity(stored.spec.cell, at, write=stored.spec.write).bits), 1e-12)
    return bits / per_cell / max(stored.weights, 1)
