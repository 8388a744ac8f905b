"""The budget optimiser: one option per item, least predicted loss for the cells, or least cells for the loss.

Both are the multiple-choice knapsack problem. Its Lagrangian relaxation is solved over the lower convex hull of every
item's options, by steps of falling gain per cost; that leaves one fractional item. The integer solution takes the whole
steps, fills what is left greedily, and is then improved, to the proven optimum where that is feasible: options whose
reduced cost exceeds the gap cannot be in a better solution, and the few items left are searched by dynamic programming
with bounds. The dual bound, and hence the optimality gap, is always reported.

Method: P. Sinha, A. A. Zoltners, "The multiple-choice knapsack problem", Operations Research 27 (1979),
doi:10.1287/opre.27.3.503; Lagrangian allocation over hulls after Y. Shoham, A. Gersho, "Efficient bit allocation for an
arbitrary set of quantizers", IEEE Trans. ASSP 36 (1988), doi:10.1109/29.90373.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memristore.errors import SpecError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
#: float64, float32 or int64; a table of a billion options is not copied to another type.
Numbers = npt.NDArray[Any]

#: Items handled at a time: their options stay in the cache.
_CHUNK: Final = 1 << 14
#: Candidates below which steps are sorted rather than split.
_FEW: Final = 1 << 12
#: Undominated partial solutions of the search; it is exact while it needs no more.
_WIDTH: Final = 1 << 15
#: Items with more than one option left that are searched.
_CORE: Final = 400
#: Relative room for rounding in sums.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Plan:
    """Which option each item takes.

    Parameters
    ----------
    choice : ndarray, shape (items,), int64
        Index of the option.
    cells, loss : float
        Sums over the items.
    bound : float
        No choice within the limit has less of what was minimised than this (the dual bound, or the optimum itself
        where that is proven).
    price : float
        Loss that one more cell saves at the optimum of the relaxation.
    exact : bool
        Whether the plan is proven to be the optimum, up to rounding of sums.
    objective : float
        What was minimised: `loss` or `cells`.
    """

    choice: I64
    cells: float
    loss: float
    bound: float
    price: float
    exact: bool
    objective: float

    @property
    def gap(self) -> float:
        """By how much the plan may be worse than the optimum, as a fraction of the plan; 0 where that is proven."""
        return max(0.0, self.objective - self.bound) / abs(self.objective) if self.objective else 0.0


def least_loss(cells: npt.ArrayLike, loss: npt.ArrayLike, budget: float) -> Plan:
    """Choose one option per item so that the loss is least and the cells keep within a budget.

    Parameters
    ----------
    cells : array_like, shape (items, options) or (options,)
        Cells of each option, not negative; one row if it is the same for all items.
    loss : array_like, shape (items, options)
        Predicted loss of each option: sensitivity times squared error, summed over the item's values. ``inf`` where an
        item lacks an option.
    budget : float
        Cells in total.

    Returns
    -------
    Plan

    Raises
    ------
    SpecError
        If shapes or values are not valid, or if even the fewest cells exceed the budget.
    """
    need, want = _checked(cells, loss)
    choice, bound, price, exact = _solve(want, need, float(budget), "cells")
    value = _sum(want, choice)
    return Plan(choice, _sum(need, choice), value, value if exact else bound, price, exact, value)


def fewest_cells(cells: npt.ArrayLike, loss: npt.ArrayLike, limit: float) -> Plan:
    """Choose one option per item so that cells are fewest and the loss keeps within a limit.

    Parameters
    ----------
    cells, loss : array_like
        As for :func:`least_loss`.
    limit : float
        Largest total loss.

    Returns
    -------
    Plan

    Raises
    ------
    SpecError
        If shapes or values are not valid, or if even the least loss exceeds the limit.
    """
    want, need = _checked(cells, loss)
    choice, bound, price, exact = _solve(want, need, float(limit), "loss")
    value = _sum(want, choice)
    # The relaxation's price is in cells per loss here.
    per_cell = 1.0 / price if price > 0 else 0.0
    return Plan(choice, value, _sum(need, choice), value if exact else bound, per_cell, exact, value)


def _checked(cells: npt.ArrayLike, loss: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Both as arrays of one shape; a row that all items share is not copied."""
    rows, table = _numbers(cells, "cells"), _numbers(loss, "loss")
    if table.ndim != 2 or table.shape[1] == 0:
        raise SpecError(f"budget: loss must have shape (items, options), not {table.shape}")
    if rows.shape not in ((table.shape[1],), table.shape):
        raise SpecError(f"budget: cells of shape {rows.shape} do not fit a loss of shape {table.shape}")
    return np.broadcast_to(rows, table.shape), table


def _numbers(given: npt.ArrayLike, name: str) -> Numbers:
    array = np.asarray(given)
    if array.dtype not in (np.float32, np.float64, np.int64):
        array = array.astype(np.float64)
    if array.size and not array.min() >= 0:
        raise SpecError(f"budget: {name} must be numbers that are not negative")
    return array


def _sum(table: Numbers, choice: I64) -> float:
    return float(table[np.arange(choice.size), choice].sum(dtype=np.float64))


def _solve(want: Numbers, need: Numbers, limit: float, what: str) -> tuple[I64, float, float, bool]:
    """Least sum of `want` with a sum of `need` within `limit`: choice, lower bound, price, whether it is optimal."""
    if len(want) == 0:
        return np.zeros(0, np.int64), 0.0, 0.0, True
    most = limit + abs(limit) * _ROUNDING
    start, steps, gain, cost = _hulls(want, need)
    floor = _sum(need, start)
    if not (floor <= most and np.isfinite(_sum(want, start))):
        raise SpecError(f"budget: the least {what} possible are {floor:g}, more than the limit of {limit:g}; raise it")
    price = _price(gain, cost, most - floor)
    choice = _whole(start, steps, gain, cost, price, most - floor)
    del steps, gain, cost
    choice = _filled(choice, want, need, most)
    bound, value = _dual(want, need, price, limit), _sum(want, choice)
    for _ in range(3):
        if value <= bound * (1 + _ROUNDING):
            return choice, bound, price, True
        found, exact = _searched(want, need, most, price, value, value - bound)
        if found is None:
            return choice, bound, price, exact
        # What was cut off may hide something better still; the smaller gap leaves less to search.
        choice, value = found, _sum(want, found)
        if exact:
            break
    return choice, bound, price, exact


def _hulls(want: Numbers, need: Numbers) -> tuple[I64, npt.NDArray[np.int16], F64, F64]:
    """Vertices of the lower convex hulls, from least need to least want.

    Returns
    -------
    start, shape (items,)
        First vertex.
    steps, shape (options - 1, items)
        Further vertices; the previous one again where there are no more.
    gain, cost, shape (options - 1, items)
        Want saved per need of each step, not rising along an item, and its need; 0 where there is no step.
    """
    items, options = want.shape
    start = np.empty(items, np.int64)
    steps = np.empty((options - 1, items), np.int16)
    gain, cost = np.zeros((options - 1, items)), np.zeros((options - 1, items))
    for first in range(0, items, _CHUNK):
        part = slice(first, min(first + _CHUNK, items))
        # One row per option: the work below runs along items.
        w, n = (np.ascontiguousarray(table[part].T, dtype=np.float64) for table in (want, need))
        n = np.where(np.isfinite(w), n, np.inf)
        start[part] = at = np.argmin(np.where(n == n.min(axis=0), w, np.inf), axis=0)
        rows, before = np.arange(at.size), np.full(at.size, np.inf)
        for step in range(options - 1):
            best, to = _steepest(w, n, at, rows)
            if not best.any():
                steps[step:, part] = at
                break
            # Rounding must not let a later step look better than an earlier one.
            before = gain[step, part] = np.minimum(best, before)
            cost[step, part] = np.where(best > 0, n[to, rows] - n[at, rows], 0.0)
            steps[step, part] = at = to
    return start, steps, gain, cost


def _steepest(w: F64, n: F64, at: I64, rows: I64) -> tuple[F64, I64]:
    """The option that saves most want per need from where each item is, and how much; 0 where none saves any."""
    now_w, now_n = w[at, rows], n[at, rows]
    best, length, to = np.zeros(at.size), np.full(at.size, np.inf), at
    for option in range(len(w)):
        saved, more = now_w - w[option], n[option] - now_n
        good = (saved > 0) & (more > 0)
        ratio = np.divide(saved, more, out=np.zeros(at.size), where=good)
        # Ties go to the shorter step, so that options in line all become vertices.
        better = good & ((ratio > best) | ((ratio == best) & (more < length)))
        best, length = np.where(better, ratio, best), np.where(better, more, length)
        to = np.where(better, option, to)
    return best, to


def _price(gain: F64, cost: F64, room: float) -> float:
    """Gain of the first step that does not fit if steps are taken by falling gain; 0 if all fit."""
    kept = gain > 0
    gains, costs = gain[kept], cost[kept]
    while gains.size > _FEW:
        pivot = float(np.median(gains[:: max(1, gains.size // 1001)]))
        above = gains > pivot
        if not above.any():
            above = gains == pivot
            if costs[above].sum() > room:
                return pivot
        mass = float(costs[above].sum())
        if mass > room:
            gains, costs = gains[above], costs[above]
        else:
            room -= mass
            gains, costs = gains[~above], costs[~above]
    order = np.argsort(-gains, kind="stable")
    over = np.flatnonzero(np.cumsum(costs[order]) > room)
    return float(gains[order[over[0]]]) if over.size else 0.0


def _whole(start: I64, steps: npt.NDArray[np.int16], gain: F64, cost: F64, price: float, room: float) -> I64:
    """Take the steps above the price, and those at the price while they fit."""
    if len(steps) == 0:
        return start
    above = gain > price
    taken = above.sum(axis=0)
    if price > 0:
        room -= float(cost[above].sum())
        # In the order of steps, so that no item's later step goes before its earlier one.
        step, item = np.nonzero(gain == price)
        fits = np.cumsum(cost[step, item]) <= room
        np.add.at(taken, item[fits], 1)
    choice: I64 = np.where(taken > 0, steps[np.maximum(taken - 1, 0), np.arange(start.size)], start).astype(np.int64)
    return choice


def _filled(choice: I64, want: Numbers, need: Numbers, most: float) -> I64:
    """Spend what is left on single changes, best saving per need first, until none fits."""
    choice = choice.copy()
    for _ in range(2 if want.size > 1 << 20 else 64):
        left = most - _sum(need, choice)
        saved, more, to = np.zeros(choice.size), np.ones(choice.size), choice.copy()
        for first in range(0, choice.size, _CHUNK):
            part = slice(first, min(first + _CHUNK, choice.size))
            w, n = (np.asarray(table[part], np.float64) for table in (want, need))
            now = choice[part, None]
            less = np.take_along_axis(w, now, 1) - w
            extra = n - np.take_along_axis(n, now, 1)
            less[~(extra <= left) | ~np.isfinite(less)] = 0.0
            best = np.argmax(less, axis=1)
            rows = np.arange(best.size)
            saved[part], more[part], to[part] = less[rows, best], extra[rows, best], best
        gainful = np.flatnonzero(saved > 0)
        if gainful.size == 0:
            break
        ratio = saved[gainful] / np.maximum(more[gainful], 1e-300)
        order = gainful[np.argsort(-ratio, kind="stable")[:_FEW]]
        spent = 0.0
        for item in order:
            if spent + more[item] <= left:
                spent += more[item]
                choice[item] = to[item]
    return choice


def _relaxed(want: Numbers, need: Numbers, price: float) -> F64:
    """Want plus need at its price; infinite where an option is missing."""
    total = np.asarray(want, np.float64) + price * np.where(np.isfinite(need), need, 0.0)
    return np.where(np.isfinite(need), total, np.inf)


def _dual(want: Numbers, need: Numbers, price: float, limit: float) -> float:
    """Lower bound of every choice within the limit, from the Lagrangian at a price."""
    sums = [
        _relaxed(want[i : i + _CHUNK], need[i : i + _CHUNK], price).min(axis=1).sum()
        for i in range(0, len(want), _CHUNK)
    ]
    return float(np.sum(sums)) - price * limit


def _searched(
    want: Numbers, need: Numbers, most: float, price: float, best: float, gap: float
) -> tuple[I64 | None, bool]:
    """Look for a choice with less want than `best`; None if there is none. Second: whether all were covered."""
    base = np.empty(len(want), np.int64)
    alive: dict[int, I64] = {}
    for first in range(0, len(want), _CHUNK):
        reduced = _relaxed(want[first : first + _CHUNK], need[first : first + _CHUNK], price)
        base[first : first + _CHUNK] = np.argmin(reduced, axis=1)
        # A choice with such an option is at least as bad as the bound plus its reduced cost.
        near = reduced - reduced.min(axis=1, keepdims=True) <= gap * (1 + 1e-9)
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            if len(alive) >= _CORE:
                return None, False
            alive[first + int(row)] = np.flatnonzero(near[row])
    items = sorted(alive, key=lambda i: -float(np.ptp(np.asarray(need[i, alive[i]], np.float64))))
    rest = np.ones(len(want), np.bool_)
    rest[items] = False
    fixed = np.flatnonzero(rest)
    tables = [(np.asarray(want[i, alive[i]], np.float64), np.asarray(need[i, alive[i]], np.float64)) for i in items]
    used = float(need[fixed, base[fixed]].sum(dtype=np.float64))
    spent = float(want[fixed, base[fixed]].sum(dtype=np.float64))
    found, exact = _partial_solutions(tables, most - used, price, best - spent, best)
    if found is None:
        return None, exact
    for item, option in zip(items, found, strict=True):
        base[item] = alive[item][option]
    return base, exact


def _partial_solutions(
    tables: list[tuple[F64, F64]], room: float, price: float, best: float, scale: float
) -> tuple[list[int] | None, bool]:
    """Dynamic programming over (need, want) of partial solutions.

    One is dropped if another needs no more and wants no more, or if even the relaxation of the items left cannot bring
    it below `best`. Returns the option of each item, None if none is below `best`; and whether nothing was cut off.
    """
    # Backwards sums over the items left: least need, least want, least of both at the price.
    least = [(n.min(), w.min(), (w + price * n).min()) for w, n in tables]
    after = np.append(np.cumsum(np.array(least).reshape(-1, 3)[::-1], axis=0)[::-1], np.zeros((1, 3)), axis=0)
    needs, wants, trail = np.zeros(1), np.zeros(1), list[tuple[I64, int]]()
    exact = True
    for k, (w, n) in enumerate(tables):
        new_needs = (needs[:, None] + n).reshape(-1)
        new_wants = (wants[:, None] + w).reshape(-1)
        floor = new_wants + np.maximum(after[k + 1, 1], after[k + 1, 2] - price * (room - new_needs))
        alive = np.flatnonzero((new_needs + after[k + 1, 0] <= room) & (floor < best - abs(scale) * _ROUNDING))
        order = alive[np.lexsort((new_wants[alive], new_needs[alive]))]
        running = np.minimum.accumulate(new_wants[order])
        better = np.ones(order.size, np.bool_)
        better[1:] = new_wants[order][1:] < running[:-1]
        kept = order[better]
        if kept.size > _WIDTH:
            exact = False
            kept = np.sort(kept[np.argsort(floor[kept], kind="stable")[:_WIDTH]])
            kept = kept[np.argsort(new_needs[kept], kind="stable")]
        if kept.size == 0:
            return None, exact
        trail.append((kept, w.size))
        needs, wants = new_needs[kept], new_wants[kept]
    at, out = int(np.argmin(wants)), list[int]()
    for kept, options in reversed(trail):
        at, option = divmod(int(kept[at]), options)
        out.append(option)
    return out[::-1], exact
