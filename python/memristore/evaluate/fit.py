"""The cheapest recipe for a network: compression, protection, code and allocation searched together."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from memristore.allocate import sensitivity as sensitivities
from memristore.config import check_number
from memristore.devices import Device
from memristore.errors import SpecError
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.fit_calibrate import Calibration
from memristore.evaluate.fit_families import (
    EQUAL_SDR,
    SPARSITIES,
    Family,
    Tensor,
    analog_families,
    priced,
    quantised,
    spreads,
    tensors_of,
)
from memristore.evaluate.fit_result import FitResult, limit_cells
from memristore.evaluate.fit_search import Divergence, Point, Search, inputs_of
from memristore.evaluate.result import Evaluation
from memristore.evaluate.schemes import analog_schemes, digital_best, digital_schemes
from memristore.evaluate.sdr import Sdr
from memristore.spec import StorageSpec
from memristore.storage import prepare
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    import torch

    from memristore.torch_io import StateDict

#: Mean ratio at which the search starts, dB.
_START: Final = 18.0
#: Batches that sensitivities are measured on, and draws of each.
_DRAWS: Final = 2
#: Families of those that lose less than the best that are placed by the metric.
_PLACED: Final = 2
#: Points of the winning family to either side of the best, in cells relative to it.
_BESIDE: Final = (0.8, 0.9, 1.1, 1.25)


def fit(
    model: nn.Module | StateDict,
    device: Device | str = "pcm-ibm-90nm",
    metric: Callable[[Any], float] | None = None,
    retention: Time = "10 years",
    *,
    max_drop: float | None = None,
    budget: float | None = None,
    batches: Iterable[Any] | None = None,
    quick: Callable[[Any], float] | None = None,
    trials: int = 5,
    baselines: bool = True,
    seed: int = 0,
    title: str = "",
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
    threads: int = 0,
) -> FitResult:
    """Find the recipe with the fewest cells that keeps a network good enough, or the best one for a number of cells.

    Compression, protection, code and allocation are searched together. Digital recipes (trellis-coded quantisation
    with the distortion spread over tensors in several ways, also after pruning, on the densest cells) are compared by a
    predicted loss at equal cells, then placed by the metric; analog ones (sign protection, adaptive range, repetition
    and residual codes, planes per layer or by sensitivity) that could take fewer cells are placed by Monte Carlo on
    the same arrays. The network is not retrained.

    Parameters
    ----------
    model : Module or state_dict
        Not changed.
    device : Device or str
    metric : callable
        ``metric(model) -> float``; must say the same of the same weights. By default the signal-to-distortion ratio of
        the weights, dB, of which an exact copy has 200.
    retention : time
        The recipe is sized for it, and judged then.
    max_drop : float, optional
        Bound: by how much the mean of the metric over arrays may be worse than the network's, in units of the metric
        (0.005 is half a point of accuracy).
    budget : float, optional
        Bound: cells per weight. Either this or `max_drop`.
    batches : iterable, optional
        Inputs (or tuples that start with them) for sensitivities and the predicted loss; better not those that the
        metric judges by. The network must return scores before a softmax. Without them distortion is spread by equal
        ratio and equal error only.
    quick : callable, optional
        A cheaper metric, for example on a part of the test set, for all but the last steps.
    trials : int
        Independently programmed arrays for the final judgement.
    baselines : bool
        Judge all digital number formats for the front.
    seed : int
        Names the arrays.
    title : str
        Heading of the front.
    progress : bool
        Show bars on standard error if that is a terminal.
    report : callable
        Is told, line by line, what was found.
    threads : int
        Threads for the kernels; 0 means all.

    Returns
    -------
    FitResult

    Raises
    ------
    SpecError
        If an argument is not valid, or if no recipe meets the bound: the message names the closest.

    Notes
    -----
    The recipe is chosen on the data that the metric judges by. With few images the loss on new ones may be larger:
    the confidence interval covers programming and reading only.
    """
    began = time.monotonic()
    if (max_drop is None) == (budget is None):
        raise SpecError("fit: give max_drop (the metric that may be lost) or budget (cells per weight), one of them")
    check_number("fit", "max_drop", 0.0 if max_drop is None else max_drop, 0, 1e300)
    check_number("fit", "budget", 1.0 if budget is None else budget, 0, 1e6, open_low=True)
    check_number("fit", "trials", trials, 1, 10**6, integer=True)
    base = StorageSpec(device=device, retention=retention)
    inputs = None if batches is None else inputs_of(batches)
    divergence, weights, calibration = _prediction(model, inputs, seed, progress)
    search = Search(
        model, Sdr(model) if metric is None else metric, quick, divergence=divergence,
        calibration=calibration, at=parse_time(retention), trials=trials, seed=seed, progress=progress, report=report,
        threads=threads,
    )  # fmt: skip
    hunt = _Hunt(search, base, weights, max_drop, budget)
    best = hunt.run()
    rows = hunt.rows(best)
    found = search.judge(best, full=True)
    if baselines:
        rows += hunt.baselines()
    heading = title or f"{base.cell.name}, {format_time(search.at)}"
    return FitResult(
        spec=best.spec,
        network=best.network,
        evaluation=found,
        front=Comparison(rows, heading),
        max_drop=max_drop,
        budget=budget,
        limit_cells=limit_cells(best.prepared, best.network, search.at, seed=search.seed, threads=threads),
        left_out=tuple(hunt.left_out.items()),
        seconds=time.monotonic() - began,
    )


def _prediction(
    model: nn.Module | StateDict, inputs: list[torch.Tensor] | None, seed: int, progress: bool
) -> tuple[Divergence | None, dict[str, float] | None, Calibration | None]:
    """Predicted loss, sensitivities and calibration, where there are data and a network that takes them."""
    if inputs is None:
        return None, None, None
    if not isinstance(model, nn.Module):
        raise SpecError("fit: batches need a network that takes them, not a state_dict; leave them out or give it")
    found = sensitivities.kl(model, inputs, draws=_DRAWS, seed=seed, progress=progress)
    inputs = list(inputs[0].split(-(-len(inputs[0]) // 2))) if len(inputs) == 1 < len(inputs[0]) else inputs
    # Calibrated on the first batch, judged on the others: else the loss would be predicted too small.
    calibration = Calibration(model, inputs[:1])
    return Divergence(model, inputs[1:] or inputs), dict(sensitivities.per_tensor(found)), calibration or None


class _Hunt:
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
        best = self._contest(list(families), self._plain(list(families)))
        if not best.family.name.startswith(_PLAIN) and self.budget is None:
            # Far fewer cells than the plain family's may be another contest.
            best = self._contest(list(families), best)
        pruned = [families[best.family](sparsity) for sparsity in SPARSITIES]
        best = self._contest(pruned, best)
        if self.max_drop is None:
            best = self._analog_for_budget(best)
            points = {point.name: point for point in (best, *self.placed.values())}
            lost = {name: self.search.drop(self.search.judge(point, full=True)) for name, point in points.items()}
            return min(points.values(), key=lambda point: (lost[point.name], point.cells))
        best = self._confirmed(self._analog_for_drop(best, self.max_drop), self.max_drop)
        # The full metric may ask for more cells than the quick one, and analog recipes may fit between.
        rival = self._analog_for_drop(best, self.max_drop)
        return best if rival is best else self._confirmed(rival, self.max_drop)

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

    def _plain(self, families: Sequence[Family]) -> Point:
        """Place the plainest family whose recipes can meet the bound at all."""
        plain = next(family for family in families if family.name == _PLAIN)
        if self.budget is not None:
            found = self.search.filling(plain, self.budget, _START)
            if found is None:
                least = self.search.point(plain, plain.low)
                self.search.judge(least, full=False)
                raise SpecError(
                    f"fit: no recipe takes {self.budget:g} cells per weight or fewer; the closest, {least.name}, takes "
                    f"{least.cells:.4g} and loses {self._text(self.search.drop(self.search.judge(least, full=False)))}"
                )
            self.placed[plain.name] = found
            return found
        found = self.search.least(plain, _START, self.max_drop or 0.0, full=False)
        if found is None:
            raise SpecError(self._closest([self.search.point(plain, plain.high)]))
        self.placed[plain.name] = found
        return found

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
        for family in (f for f in analog_families(self.base, self.weights) if f.name not in self.placed):
            low = self.search.point(family, family.low)
            if low.cells >= best.cells:
                self.left_out[family.name] = f"takes {low.cells:.3f} cells per weight or more"
                continue
            most = self.search.filling(family, best.cells, family.low) or low
            if not self.search.holds(most, max_drop, full=False):
                loss = self._text(self.search.drop(self.search.judge(most, full=False)))
                self.left_out[family.name] = f"loses {loss} at {best.cells:.3f} cells per weight"
                continue
            found = self.search.least(family, most.knob, max_drop, full=False)
            if found is not None and found.cells < best.cells:
                best = found
                self.placed[family.name] = found
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

    def rows(self, best: Point) -> list[Evaluation]:
        """Judge in full what was placed, and the best family a little to either side."""
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
        return sorted((e for (_, _, full), e in search.judged.items() if full), key=lambda e: e.cells_per_weight)

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


#: Analog recipe whose digital rival is judged.
_RIVALLED: Final = "sign + range"
_PLAIN: Final = f"quantised, {EQUAL_SDR}"


def _cells(point: Point) -> float:
    return point.cells


def _fixed(name: str, spec: StorageSpec) -> Family:
    return Family(name=name, spec=lambda _: spec, low=0.0, high=0.0, step=1.0, unit="", digital=True)
