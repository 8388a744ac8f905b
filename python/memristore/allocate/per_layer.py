"""Redundancy per layer without any sensitivity: every layer counts alike, so small layers can afford more planes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.allocate import Allocator
from memristore.config import check_number
from memristore.errors import SpecError

#: Undominated partial solutions kept per layer; the search is exact while it needs no more.
_WIDTH: Final = 4096

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PerLayer(Allocator):
    """Spread an average number of planes over the layers so that the sum of their noise variances is least.

    Minimises ``sum_l 1 / planes_l`` (the variance of an average over planes; each layer counts alike) subject to
    ``sum_l n_l * planes_l <= mean * sum_l n_l``. Without the integer limits the Lagrangian gives
    ``planes_l ~ 1 / sqrt(n_l)``. Integers are found greedily by gain per cell and then improved by a search over
    undominated partial solutions, bounded by the Lagrangian: exact up to a few dozen layers, and for larger networks
    never worse than greedy. Tensors of equal size may differ by one plane, the first in order getting more.

    Parameters
    ----------
    mean : float
        Budget: planes per value on average, in [minimum, maximum].
    minimum, maximum : int
        Limits for each tensor, 1 to 64.

    Raises
    ------
    SpecError
        If the limits or the budget do not fit together.
    """

    name: ClassVar[str] = "per-layer"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"mean": 2.0}, {"mean": 1.3, "minimum": 1, "maximum": 4})
    mean: float
    minimum: int = 1
    maximum: int = 8

    def __post_init__(self) -> None:
        check_number("per-layer", "minimum", self.minimum, 1, 64, integer=True)
        check_number("per-layer", "maximum", self.maximum, self.minimum, 64, integer=True)
        check_number("per-layer", "mean", self.mean, self.minimum, self.maximum)

    def planes(self, sizes: Mapping[str, int], distortion: Callable[[str, int], float] | None = None) -> dict[str, int]:
        """Return the number of planes of each tensor.

        Parameters
        ----------
        sizes : mapping of str to int
            Number of analog values of each tensor.
        distortion : callable, optional
            Not asked: every layer counts alike.

        Returns
        -------
        dict of str to int
            Planes by the same names; empty tensors get the minimum.

        Raises
        ------
        SpecError
            If a size is not a non-negative integer.
        """
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
                raise SpecError(f"per-layer: the size of {name} must be a non-negative integer, not {size!r}")
        out = dict.fromkeys(sizes, self.minimum)
        names = sorted((name for name in sizes if sizes[name] > 0), key=lambda name: -sizes[name])
        if names and self.minimum < self.maximum:
            values = np.array([sizes[name] for name in names], np.int64)
            # The tolerance keeps a budget such as 1.1 * 10 = 11.000000000000002 or 10.999999999999998 at 11 cells.
            budget = int(self.mean * int(values.sum()) * (1 + 1e-12) + 1e-9)
            out.update(zip(names, self._solve(values, budget), strict=True))
        return out

    def _solve(self, sizes: I64, budget: int) -> list[int]:
        levels = np.arange(self.minimum, self.maximum + 1, dtype=np.int64)
        greedy, price = self._greedy(sizes, budget)
        found = _search(sizes, levels, budget, price, float((1.0 / greedy).sum()))
        return [int(p) for p in (greedy if found is None else found)]

    def _greedy(self, sizes: I64, budget: int) -> tuple[I64, float]:
        """Take single planes by falling gain per cell; return planes and the gain per cell where the budget ran out."""
        steps = np.arange(self.minimum, self.maximum)
        gain = 1.0 / (steps * (steps + 1.0)) / sizes[:, None]
        planes = np.full(sizes.size, self.minimum, np.int64)
        left = budget - int((sizes * planes).sum())
        price = 0.0
        for flat in np.argsort(-gain, axis=None, kind="stable"):
            layer, step = divmod(int(flat), steps.size)
            if sizes[layer] <= left and planes[layer] == steps[step]:
                planes[layer] += 1
                left -= int(sizes[layer])
            elif price == 0.0:
                price = float(gain[layer, step])
        return planes, price


def _search(sizes: I64, levels: I64, budget: int, price: float, bound: float) -> I64 | None:
    """Find planes with a sum of variances below `bound`, None if there are none.

    Partial solutions (cost, value) are extended layer by layer, largest first. One is dropped if another costs no more
    and is no worse, or if even the Lagrangian relaxation of the layers left cannot bring it below `bound`.
    """
    relaxed = (1.0 / levels + price * sizes[:, None] * levels).min(axis=1)
    rest_value = np.append(np.cumsum(relaxed[::-1])[::-1], 0.0)
    rest_cost = np.append(np.cumsum((sizes * levels[0])[::-1])[::-1], 0)
    cost, value = np.zeros(1, np.int64), np.zeros(1)
    trail: list[tuple[I64, I64]] = []
    for layer, size in enumerate(sizes):
        new_cost = (cost[:, None] + size * levels).reshape(-1)
        new_value = (value[:, None] + 1.0 / levels).reshape(-1)
        # Two bounds: the layers left at the best price per cell, and with as many planes as they may have.
        least = new_value + np.maximum(
            rest_value[layer + 1] - price * (budget - new_cost), (sizes.size - layer - 1) / levels[-1]
        )
        alive = np.flatnonzero((new_cost + rest_cost[layer + 1] <= budget) & (least < bound * (1 - 1e-12)))
        order = alive[np.lexsort((new_value[alive], new_cost[alive]))]
        running = np.minimum.accumulate(new_value[order])
        better = np.ones(order.size, np.bool_)
        better[1:] = new_value[order][1:] < running[:-1]
        kept = order[better]
        if kept.size > _WIDTH:
            kept = np.sort(kept[np.argsort(least[kept], kind="stable")[:_WIDTH]])
            kept = kept[np.argsort(new_cost[kept], kind="stable")]
        if kept.size == 0:
            return None
        trail.append((kept // levels.size, kept % levels.size))
        cost, value = new_cost[kept], new_value[kept]
    at = int(np.argmin(value))
    planes = np.empty(sizes.size, np.int64)
    for layer in range(sizes.size - 1, -1, -1):
        parents, chosen = trail[layer]
        planes[layer] = levels[chosen[at]]
        at = int(parents[at])
    return planes
