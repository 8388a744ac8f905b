"""The hunt for the cheapest recipe: which family, which knob."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from memristore.errors import SpecError
from memristore.evaluate.fit_families import (
    EQUAL_SDR,
    Family,
    Tensor,
    analog_families,
    priced,
    quantised,
    sparsities,
    spreads,
    tensors_of,
)
from memristore.evaluate.fit_finetune import Finetune, Tuning
from memristore.evaluate.fit_search import Point, Search
from memristore.evaluate.result import Evaluation
from memristore.evaluate.schemes import analog_schemes, digital_best, digital_schemes
from memristore.spec import StorageSpec
from memristore.storage import prepare
from memristore.units import format_time

#: Mean ratio at which the search starts, dB.
_START: Final = 18.0
#: Families of those that lose less than the best that are placed by the metric.
_PLACED: Final = 2
#: Points of the winning family to either side of the best, in cells relative to it.
_BESIDE: Final = (0.8, 0.9, 1.1, 1.25)
#: Analog recipe whose digital rival is judged.
_RIVALLED: Final = "sign + range"
_PLAIN: Final = f"quantised, {EQUAL_SDR}"


class Hunt:
    """One search: which family, which knob."""

    def __init__(
        self, search: Search, base: StorageSpec, weights: dict[str, float] | None, max_drop: float | None,
        budget: float | None,
    ) -> None:  # fmt: skip
        self.search = search
        self.base = base
        self.weights = weights
        self.max_drop = max_drop
        self.budget = budget
        self.tensors: list[Tensor] = tensors_of(search.model, base)
        self.left_out: dict[str, str] = {}
        self.placed: dict[str, Point] = {}

    def run(self) -> Point:
        """Return the best point, judged in full."""
        families = self._families()
        best = self._contest(list(families), self._start(families))
        if not best.family.name.startswith(_PLAIN) and self.budget is None:
            # Far fewer cells than the plain family's may be another contest.
            best = self._contest(list(families), best)
        best = self._contest(self._pruned([families[best.family]] if best.family in families else []), best)
        if self.max_drop is None:
            best = self._analog_for_budget(best)
            points = {point.name: point for point in (best, *self.placed.values())}
            lost = {name: self.search.drop(self.search.judge(point, full=True)) for name, point in points.items()}
            return min(points.values(), key=lambda point: (lost[point.name], point.cells))
        best = self._confirmed(self._analog_for_drop(best, self.max_drop), self.max_drop)
        # The full metric may ask for more cells than the quick one, and analog recipes may fit between.
        rival = self._analog_for_drop(best, self.max_drop)
        return best if rival is best else self._confirmed(rival, self.max_drop)

    def finetuned(self, best: Point, settings: Finetune) -> Point:
        """Let the network be trained; return the best point then, judged in full."""
        search = self.search
        tuning = Tuning(search, self.base, self.tensors, self.weights or {}, settings)

        def share(point: Point) -> float:
            loss = search.drop(search.judge(point, full=True))
            self.placed[point.name] = point
            if self.budget is not None:
                return 0.0 if point.cells <= self.budget else math.inf
            if search.holds(point, self.max_drop or 0.0, full=True):
                return max(loss, 0.0) / self.max_drop if self.max_drop else 1.0
            return loss / self.max_drop if self.max_drop else math.inf

        found = tuning.run(best, share, self.budget)
        if self.budget is not None:
            return min([*found, best], key=lambda point: search.drop(search.judge(point, full=True)))
        return min([*found, best], key=_cells)

    def _families(self) -> dict[Family, Callable[[float], Family]]:
        """Digital families, each with the way to prune before it; the plain one is never calibrated."""
        base, tensors, calibrated = self.base, self.tensors, self.search.calibration is not None
        makers: list[Callable[[float], Family]] = []
        for words, gains in spreads(base, tensors, self.weights):
            if calibrated:
                makers.append(partial(quantised, base, tensors, gains, words, calibrated=True))
            if not calibrated or words == EQUAL_SDR:
                makers.append(partial(quantised, base, tensors, gains, words))
        if self.search.divergence is not None:
            self.search.report("measuring what errors of each tensor cost")
            rules = self.search.costs(base, tensors).rules
            makers.append(partial(priced, base, rules, calibrated=calibrated))
        return {maker(0.0): maker for maker in makers}

    def _pruned(self, makers: Iterable[Callable[[float], Family]]) -> list[Family]:
        return [maker(sparsity) for maker in makers for sparsity in sparsities(self.tensors)]

    def _start(self, families: Mapping[Family, Callable[[float], Family]]) -> Point:
        """Place the plainest family whose recipes can meet the bound at all."""
        plain = next(family for family in families if family.name == _PLAIN)
        if self.budget is not None:
            # Vectors that are not calibrated may take more than the budget by themselves.
            others = [*families, *self._pruned(families.values()), *analog_families(self.base, self.weights)]
            return self._within(self.budget, [plain, *(family for family in others if family is not plain)])
        found = self.search.least(plain, _START, self.max_drop or 0.0, full=False)
        if found is None:
            raise SpecError(self._closest([self.search.point(plain, plain.high)]))
        self.placed[plain.name] = found
        return found

    def _within(self, budget: float, families: Sequence[Family]) -> Point:
        """Return the point of the first family that the budget has room for."""
        search = self.search
        least = search.point(families[0], families[0].low)
        for family in families:
            found = search.filling(family, budget, _START)
            if found is not None:
                self.placed[family.name] = found
                return found
            least = min(least, search.point(family, family.low), key=_cells)
        raise SpecError(
            f"fit: no recipe of those searched takes {budget:g} cells per weight or fewer; the closest, {least.name}, "
            f"takes {least.cells:.4g} and loses {self._text(search.drop(search.judge(least, full=False)))}"
        )

    def _contest(self, families: Sequence[Family], best: Point) -> Point:
        """Let families run against the best point at its cells, by predicted loss; place the ones that lose less."""
        search = self.search
        cells = best.cells if self.budget is None else self.budget
        bound = search.loss(best)
        search.report(f"{best.name}: {best.cells:.3f} cells per weight, predicted loss {bound:.4g}")
        losses: list[tuple[float, Point]] = []
        for family in families:
            if family.name == best.family.name:
                continue
            point = search.filling(family, cells, best.knob)
            if point is None:
                self.left_out[family.name] = f"takes more than {cells:.3f} cells per weight"
                continue
            losses.append((search.loss(point), point))
            search.report(f"{point.name}: {point.cells:.3f} cells per weight, predicted loss {losses[-1][0]:.4g}")
        losses.sort(key=lambda pair: pair[0])
        for rank, (loss, point) in enumerate(losses):
            if loss < bound and rank < _PLACED:
                best = self._placed(point, best)
            elif point.family.name not in self.placed:
                self.left_out[point.family.name] = f"predicted loss {loss:.3g} at {point.cells:.3f} cells per weight"
        return best

    def _placed(self, point: Point, best: Point) -> Point:
        """Turn a rival's knob to where it meets the bound; return it if it is better than the best."""
        search = self.search
        if self.max_drop is None:
            self.placed[point.family.name] = point
            worse = search.drop(search.judge(point, full=False)) > search.drop(search.judge(best, full=False))
            return best if worse else point
        self.left_out.pop(point.family.name, None)
        found = self.placed.get(point.family.name) or search.least(point.family, point.knob, self.max_drop, full=False)
        if found is None:
            self.left_out[point.family.name] = "does not meet the bound"
            return best
        self.placed[found.family.name] = found
        return found if found.cells < best.cells else best

    def _analog_for_drop(self, best: Point, max_drop: float) -> Point:
        """Place the analog families that could take fewer cells."""
        # What a quick measure is too strict for, nothing would put right later.
        full = self.search.quick.stricter
        for family in (f for f in analog_families(self.base, self.weights) if f.name not in self.placed):
            low = self.search.point(family, family.low)
            if low.cells >= best.cells:
                self.left_out[family.name] = f"takes {low.cells:.3f} cells per weight or more"
                continue
            most = self.search.filling(family, best.cells, family.low) or low
            if not self.search.holds(most, max_drop, full=full):
                loss = self._text(self.search.drop(self.search.judge(most, full=full)))
                self.left_out[family.name] = f"loses {loss} at {best.cells:.3f} cells per weight"
                continue
            found = self.search.least(family, most.knob, max_drop, full=full)
            if found is not None and found.cells < best.cells:
                best = found
                self.placed[family.name] = found
                self.left_out.pop(family.name, None)
        return best

    def _analog_for_budget(self, best: Point) -> Point:
        """Judge the analog families that fit the budget."""
        search = self.search
        for family in analog_families(self.base, self.weights):
            point = search.filling(family, self.budget or 0.0, family.low)
            if point is None:
                self.left_out[family.name] = f"takes more than {self.budget:g} cells per weight"
                continue
            self.placed[family.name] = point
            if search.drop(search.judge(point, full=False)) < search.drop(search.judge(best, full=False)):
                best = point
        return best

    def _confirmed(self, best: Point, max_drop: float) -> Point:
        """Place families again by the full metric, cheapest first, until none of the others could take fewer cells."""
        search = self.search
        tried: list[Point] = []
        winner: Point | None = None
        for rival in sorted({best.name: best, **{p.name: p for p in self.placed.values()}}.values(), key=_cells):
            # The plain one is placed in any case: it is what the others are measured by.
            if winner is not None and rival.cells > 1.05 * winner.cells and not rival.name.startswith(_PLAIN):
                continue
            found = search.least(rival.family, rival.knob, max_drop, full=True)
            if found is None:
                tried.append(search.point(rival.family, rival.family.high))
                continue
            self.placed[found.family.name] = found
            if winner is None or found.cells < winner.cells:
                winner = found
        if winner is None:
            raise SpecError(self._closest(tried))
        return winner

    def _closest(self, points: Sequence[Point]) -> str:
        """Say that no recipe meets the bound, and which comes closest."""
        search = self.search
        losses = [(search.drop(search.judge(point, full=True)), point) for point in points]
        loss, point = min(losses, key=lambda pair: pair[0])
        return (
            f"fit: no recipe loses at most {self._text(self.max_drop or 0.0)} on {self.base.cell.name} after "
            f"{format_time(search.at)}; the closest, {point.name}, loses {self._text(loss)} with {point.cells:.4g} "
            f"cells per weight. Allow more, shorten the retention time or take another device"
        )

    def _text(self, drop: float) -> str:
        about = self.search.metric
        return f"{100 * drop:.2f} points" if about.unit == "fraction" else f"{drop:.4g} {about.unit}".strip()

    def rows(self, best: Point) -> tuple[Point, list[Evaluation]]:
        """Judge in full what was placed, and the best family a little to either side.

        Returns the best as well: within a budget, a neighbour that loses no more with fewer cells takes its place.
        """
        search = self.search
        points = {best.name: best} | {point.name: point for point in self.placed.values()}
        if best.family.low < best.family.high:
            for share in _BESIDE:
                beside = search.filling(best.family, share * best.cells, best.knob)
                if beside is not None:
                    points.setdefault(beside.name, beside)
        # What the bisection judged in full besides is part of the front too.
        for (_, _, full), found in list(search.judged.items()):
            if full:
                points.pop(found.scheme, None)
        for point in points.values():
            search.judge(point, full=True)
        if self.budget is not None:
            within = [best, *(point for point in points.values() if point.cells <= self.budget)]
            best = min(within, key=lambda point: (search.drop(search.judge(point, full=True)), point.cells))
        return best, sorted((e for (_, _, full), e in search.judged.items() if full), key=lambda e: e.cells_per_weight)

    def baselines(self) -> list[Evaluation]:
        """Judge every number format and the digital rival of a plain analog recipe, on an array each."""
        search, out = self.search, []
        schemes = digital_schemes(self.base.cell, self.base.retention)
        analog = next(s for s in analog_schemes(self.base.cell, self.base.retention) if s.name == _RIVALLED)
        known = prepare(search.model, analog.spec, threads=search.threads)
        (rival,) = digital_best(analog, known, search.at, seed=search.seed)
        for scheme in [*schemes, replace(rival, name=f"{rival.name} at the SDR of '{analog.name}'")]:
            search.report(f"{scheme.name}: storing and reading")
            prepared = prepare(search.model, scheme.spec, threads=search.threads)
            point = Point(_fixed(scheme.name, scheme.spec), 0.0, scheme.spec, prepared, 0.0, search.model)
            with warnings.catch_warnings():
                # A code that falls short on these cells is part of the comparison: its errors are in the row.
                warnings.simplefilter("ignore", UserWarning)
                out.append(search.judge(point, full=True))
        return out


def _cells(point: Point) -> float:
    return point.cells


def _fixed(name: str, spec: StorageSpec) -> Family:
    return Family(name=name, spec=lambda _: spec, low=0.0, high=0.0, step=1.0, unit="", digital=True)
