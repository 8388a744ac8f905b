"""The choice of a size: which member of a family of networks is best in so many cells."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from memristore import rng
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.spec import StorageSpec
from memristore.storage import prepare
from memristore.units import Time

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Member:
    """One size under one recipe.

    Parameters
    ----------
    name : str
        Of the size.
    recipe : int
        Place of the recipe in the list given.
    weights, cells : int
        Parameters of the network; all cells that it takes.
    mean, std : float
        Metric over arrays, and its standard deviation (0 for one array).
    fits : bool
        Whether it takes no more cells than the budget.
    """

    name: str
    recipe: int
    weights: int
    cells: int
    mean: float
    std: float
    fits: bool


@dataclass(frozen=True, eq=False)
class Chosen:
    """The best member of a family.

    Parameters
    ----------
    model : torch.nn.Module
        As it was given.
    spec : StorageSpec
        The recipe to store it with.
    member : Member
    members : list of Member
        All that were tried, in order.
    """

    model: nn.Module
    spec: StorageSpec
    member: Member
    members: list[Member]

    def table(self) -> Table:
        """Return all members as a table for the terminal."""
        from rich.table import Table

        table = Table("size", "recipe", "weights", "cells", "metric", "")
        for m in self.members:
            note = "chosen" if m is self.member else "" if m.fits else "over budget"
            spread = f" ± {m.std:.4f}" if m.std else ""
            table.add_row(m.name, str(m.recipe), f"{m.weights:,}", f"{m.cells:,}", f"{m.mean:.4f}{spread}", note)
        return table


def elastic(
    family: Mapping[str, nn.Module] | Sequence[nn.Module] | Callable[[Any], nn.Module],
    spec: StorageSpec | Sequence[StorageSpec],
    metric: Callable[[nn.Module], float],
    *,
    budget: float | None = None,
    sizes: Iterable[Any] = (),
    at: Time | None = None,
    trials: int = 3,
    higher_is_better: bool = True,
    seed: int = 0,
    threads: int = 0,
) -> Chosen:
    """Store every size of a network and choose the one of the best metric among those that fit a number of cells.

    Parameters
    ----------
    family : mapping, sequence or callable
        Trained networks, by name or in order; or ``family(size)``, called with each of `sizes` (a supernet returns the
        sub-network of a width or depth).
    spec : StorageSpec or sequence of them
        Recipes to try with each size: a small network with more cells per weight may beat a large one with fewer.
    metric : callable
        ``metric(model) -> float``, given a copy with the weights as read.
    budget : float, optional
        Most cells, all of them counted; any number by default.
    sizes : iterable
        What a callable family is called with.
    at : float or str, optional
        Age of the cells; by default each recipe's retention time.
    trials : int
        Independently programmed arrays for each member, at least 1.
    higher_is_better : bool
        Whether large metrics are good.
    seed : int
        Names the arrays.
    threads : int
        Threads for kernels; 0 means all.

    Returns
    -------
    Chosen
        Of equal means the member of the fewest cells.

    Raises
    ------
    SpecError
        If the family is empty, an argument is not valid, or nothing fits the budget.

    Notes
    -----
    The choice among sub-networks for a budget follows NAS-BERT (J. Xu et al., KDD 2021, doi:10.1145/3447548.3467262),
    with cells in place of parameters. The metric of the member chosen is the best of several noisy ones, hence a little
    optimistic: judge it again on arrays and images of its own.
    """
    check_number("elastic", "trials", trials, 1, 10**6, integer=True)
    if budget is not None:
        check_number("elastic", "budget", budget, 0, 1e18, open_low=True)
    specs = [spec] if isinstance(spec, StorageSpec) else list(spec)
    named = _named(family, sizes)
    if not named or not specs:
        raise SpecError("elastic: there is nothing to choose from; give at least one network and one recipe")
    members: list[Member] = []
    for name, model in named.items():
        for index, recipe in enumerate(specs):
            found = _judge(model, recipe, metric, at, trials, rng.key(seed, name, index), threads, budget)
            weights, cells, values = found
            mean, std = (float(np.mean(values)), float(np.std(values))) if values else (float("nan"), 0.0)
            members.append(Member(name, index, weights, cells, mean, std, bool(values)))
    fitting = [m for m in members if m.fits]
    if not fitting:
        least = min(members, key=lambda m: m.cells)
        raise SpecError(
            f"elastic: no member fits {budget:,.0f} cells; the smallest, {least.name!r}, takes {least.cells:,} (recipe "
            f"{least.recipe}); raise the budget, or give smaller networks or recipes with fewer cells per weight"
        )
    best = max(fitting, key=lambda m: (m.mean if higher_is_better else -m.mean, -m.cells))
    return Chosen(named[best.name], specs[best.recipe], best, members)


def _named(family: Any, sizes: Iterable[Any]) -> dict[str, nn.Module]:
    if isinstance(family, nn.Module):
        raise SpecError("elastic: a family is several networks; give a list, a dict, or a function of a size")
    if isinstance(family, Mapping):
        named = {str(name): model for name, model in family.items()}
    elif callable(family):
        named = {str(size): family(size) for size in sizes}
        if not named:
            raise SpecError("elastic: a family that is a function needs the sizes to call it with")
    else:
        named = {str(i): model for i, model in enumerate(family)}
    for name, model in named.items():
        if not isinstance(model, nn.Module):
            raise SpecError(f"elastic: member {name!r} must be a torch module, not {type(model).__name__}")
    return named


def _judge(
    model: nn.Module, spec: StorageSpec, metric: Callable[[nn.Module], float], at: Time | None, trials: int, seed: int,
    threads: int, budget: float | None,
) -> tuple[int, int, list[float]]:  # fmt: skip
    """Weights, cells, and metrics over arrays; no metrics where the budget is exceeded."""
    prepared, judged = prepare(model, spec, threads=threads), copy.deepcopy(model).eval()
    when, values = spec.retention if at is None else at, []
    weights = cells = 0
    for trial in range(trials):
        stored = prepared.program(seed=rng.key(seed, trial), trace=False, threads=threads)
        weights, cells = stored.weights, stored.ledger().total
        if budget is not None and cells > budget:
            break
        stored.load_into(judged, at=when, threads=threads)
        value = float(metric(judged))
        if math.isnan(value):
            raise SpecError("elastic: the metric returned NaN; it must be a number for every read")
        values.append(value)
    return weights, cells, values
