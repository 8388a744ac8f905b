"""Search along the knobs of families: recipes are made, counted, judged by a predicted loss, then by Monte Carlo."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from memristore import rng
from memristore.errors import SpecError
from memristore.evaluate.fit_calibrate import Calibration
from memristore.evaluate.fit_families import STATES, Family, Tensor
from memristore.evaluate.fit_measure import Costs, costs_of
from memristore.evaluate.monte_carlo import evaluate
from memristore.evaluate.result import Evaluation
from memristore.spec import StorageSpec
from memristore.storage import PreparedModel, prepare
from memristore.streams import Payload, Stream
from memristore.torch_io import base_of

if TYPE_CHECKING:
    from memristore.torch_io import StateDict

#: Of the cells that are allowed, the share that a point must use; and how often the knob is set for that.
_FILLED = 0.995
_TRIES = 8
#: Multiple of a family's step to which a first search goes.
_COARSE = 4


class Remembered:
    """A metric that is asked once for the same weights: bits that come back as they were need no second judgement.

    The metric must say the same of the same weights.
    """

    def __init__(self, metric: Callable[[Any], float]) -> None:
        self._metric = metric
        self._known: dict[bytes, float] = {}
        self.name = getattr(metric, "name", None) or getattr(metric, "__name__", "metric")
        self.unit = getattr(metric, "unit", "")
        self.higher_is_better = getattr(metric, "higher_is_better", True)
        self.stricter = bool(getattr(metric, "stricter", False))

    def __call__(self, subject: nn.Module | Mapping[str, torch.Tensor]) -> float:
        """Return the metric of a network."""
        state = subject.state_dict() if isinstance(subject, nn.Module) else subject
        digest = hashlib.blake2b()
        for name, tensor in state.items():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(name.encode() + (flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""))
        key = digest.digest()
        if key not in self._known:
            self._known[key] = self._metric(subject)
        return self._known[key]


class Divergence:
    """Predicted loss: mean KL divergence, nats, from a network's answers to those of a copy with other weights.

    Parameters
    ----------
    model : Module
        Gives scores before the softmax, classes on the last axis.
    batches : sequence of Tensor
        Inputs.
    """

    def __init__(self, model: nn.Module, batches: Sequence[torch.Tensor]) -> None:
        self._copy = copy.deepcopy(model).eval()
        self._batches = batches
        with torch.inference_mode():
            self._clean = [torch.log_softmax(self._copy(inputs), -1) for inputs in batches]

    def __call__(self, state: Mapping[str, torch.Tensor]) -> float:
        """Return the divergence for weights; infinite if answers are not finite."""
        self._copy.load_state_dict(dict(state))
        total, count = 0.0, 0
        with torch.inference_mode():
            for inputs, clean in zip(self._batches, self._clean, strict=True):
                found = torch.log_softmax(self._copy(inputs), -1)
                total += float((clean.exp() * (clean - found)).sum())
                count += clean[..., 0].numel()
        return total / max(count, 1) if math.isfinite(total) else math.inf


def inputs_of(batches: Iterable[Any]) -> list[torch.Tensor]:
    """Inputs of batches, which are tensors or tuples that start with one."""
    found = [batch[0] if isinstance(batch, (tuple, list)) else batch for batch in batches]
    if not found or not all(isinstance(inputs, torch.Tensor) for inputs in found):
        raise SpecError("fit: batches must be tensors of inputs, or tuples that start with one; at least one")
    return found


def renewed(prepared: PreparedModel, tensors: Mapping[str, torch.Tensor], *, threads: int = 0) -> PreparedModel:
    """Return what `prepare` makes of a network some tensors of which have other values, without doing the rest again.

    For recipes that compress each of these tensors by itself and protect nothing.
    """
    part = prepare(dict(tensors), prepared.spec, threads=threads)
    made: dict[str, list[Stream]] = {}
    for stream in part.payload:
        made.setdefault(base_of(stream.name), []).append(stream)
    streams: list[Stream] = []
    placed: set[str] = set()
    for stream in prepared.payload:
        base = base_of(stream.name)
        if base not in made:
            streams.append(stream)
        elif base not in placed:
            placed.add(base)
            streams += made[base]
    return PreparedModel(prepared.entries, Payload(streams), prepared.spec, prepared.codes | part.codes)


@dataclass(frozen=True)
class Point:
    """A recipe of a family, made and counted, and the network that goes into it."""

    family: Family
    knob: float
    spec: StorageSpec
    prepared: PreparedModel = field(repr=False, compare=False)
    cells: float
    network: Any = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of its row."""
        return self.family.row(self.knob)


class Search:
    """What is known about a network's recipes, and how more is found out.

    Parameters
    ----------
    model : Module or state_dict
        The network.
    metric, quick : callable
        The judge, and a cheaper one for the search.
    divergence : Divergence, optional
        Predicted loss.
    calibration : Calibration, optional
        For families that are calibrated.
    at : float
        Read time, seconds.
    trials : int
        Arrays for a full judgement of recipes that are not digital.
    seed : int
        Names the arrays: the same for all recipes, so that these are compared on the same cells.
    """

    def __init__(
        self, model: nn.Module | StateDict, metric: Callable[[Any], float], quick: Callable[[Any], float] | None, *,
        divergence: Divergence | None, calibration: Calibration | None = None, at: float, trials: int, seed: int,
        progress: bool, report: Callable[[str], None], threads: int,
    ) -> None:  # fmt: skip
        self.model = model
        self.metric = Remembered(metric)
        self.quick = self.metric if quick is None else Remembered(quick)
        self.divergence = divergence
        self.calibration = calibration
        self.at = at
        self.trials = trials
        self.seed = rng.key(seed, "fit")
        self.progress = progress
        self.report = report
        self.threads = threads
        self.sign = 1.0 if self.metric.higher_is_better else -1.0
        self.clean = {False: self.quick(self._subject()), True: self.metric(self._subject())}
        self.judged: dict[tuple[str, float, bool], Evaluation] = {}
        self._points: dict[tuple[str, float], Point] = {}

    def _subject(self) -> Any:
        return copy.deepcopy(self.model) if isinstance(self.model, nn.Module) else self.model

    def point(self, family: Family, knob: float) -> Point:
        """Make a recipe and count its cells, on whole steps of the knob; the last few are kept."""
        knob = family.low + round((knob - family.low) / family.step) * family.step
        knob = min(max(knob, family.low), family.high)
        key = (family.name, knob)
        if key not in self._points:
            spec = family.spec(knob)
            network, prepared = self._made(spec, family.calibrated)
            stored = prepared.program(seed=self.seed, trace=False, threads=self.threads)
            while len(self._points) > 3:
                self._points.pop(next(iter(self._points)))
            self._points[key] = Point(family, knob, spec, prepared, float(stored.cells_per_weight), network)
        return self._points[key]

    def _made(self, spec: StorageSpec, calibrated: bool) -> tuple[nn.Module | StateDict, PreparedModel]:
        """Return what goes into a recipe, calibrated: folded, with norms set for the weights that it leaves; and it."""
        if not calibrated:
            return self.model, prepare(self.model, spec, threads=self.threads)
        if self.calibration is None:
            raise SpecError("fit: there is nothing to calibrate with")
        network = copy.deepcopy(self.calibration.network)
        prepared = prepare(network, spec, threads=self.threads)
        norms = self.calibration(prepared.decode_clean())
        network.load_state_dict({**network.state_dict(), **norms})
        return network, renewed(prepared, norms, threads=self.threads)

    def judge(self, point: Point, *, full: bool) -> Evaluation:
        """Judge a recipe by the full or the quick metric; a quick judgement takes few arrays."""
        key = (point.family.name, point.knob, full)
        if key not in self.judged:
            few = 1 if point.family.digital else min(3, self.trials)
            stored = point.prepared.program(seed=self.seed, trace=False, threads=self.threads)
            found = evaluate(
                stored, self.model, self.metric if full else self.quick, at=self.at,
                trials=self.trials if full else few, scheme=point.name, clean=self.clean[full],
                prepared=point.prepared, progress=self.progress, threads=self.threads,
            )  # fmt: skip
            self.judged[key] = found
            text = found.metric.text(found.results[0].mean, found.results[0].ci95)
            how = "" if full else ", quick"
            self.report(
                f"{point.name}: {found.cells_per_weight:.3f} cells per weight, {found.metric.label} {text}{how}"
            )
        return self.judged[key]

    def afresh(self, point: Point, metric: Callable[[Any], float]) -> Evaluation:
        """Judge a recipe by a metric that the search did not use, on the same arrays."""
        stored = point.prepared.program(seed=self.seed, trace=False, threads=self.threads)
        return evaluate(
            stored, self.model, metric, at=self.at, trials=self.trials, scheme=point.name, prepared=point.prepared,
            progress=self.progress, threads=self.threads,
        )  # fmt: skip

    def drop(self, found: Evaluation) -> float:
        """By how much a judged recipe is worse than the network itself, in the units of the metric."""
        return self.sign * (found.clean - found.results[0].mean)

    def holds(self, point: Point, max_drop: float, *, full: bool) -> bool:
        """Whether a recipe loses at most so much."""
        # The slack keeps differences of counts that should be equal from being told apart by rounding.
        return self.drop(self.judge(point, full=full)) <= max_drop + 1e-12

    def least(self, family: Family, start: float, max_drop: float, *, full: bool) -> Point | None:
        """Return the point of least cells that loses at most `max_drop`, from steps of growing width and bisection.

        None if even the most cells lose more.
        """
        step = family.step * (1 if full else _COARSE)
        if family.low == family.high:
            only = self.point(family, family.low)
            return only if self.holds(only, max_drop, full=full) else None
        knob, width = self.point(family, start).knob, 4 * step
        passing = self.holds(self.point(family, knob), max_drop, full=full)
        good, bad = (knob, None) if passing else (None, knob)
        while good is None or bad is None:
            last = good if bad is None else bad
            if last == (family.low if bad is None else family.high):
                break
            knob = min(max(float(last or 0.0) + (-width if bad is None else width), family.low), family.high)
            if self.holds(self.point(family, knob), max_drop, full=full):
                good = knob
            else:
                bad = knob
            width *= 2
        while good is not None and bad is not None and good - bad > 1.001 * step:
            middle = self.point(family, 0.5 * (good + bad)).knob
            if middle in (good, bad):
                break
            if self.holds(self.point(family, middle), max_drop, full=full):
                good = middle
            else:
                bad = middle
        return None if good is None else self.point(family, good)

    def costs(self, base: StorageSpec, tensors: Sequence[Tensor]) -> Costs:
        """Measure by the divergence what errors of each tensor cost, behind norms set for them if there are any."""
        calibration, divergence = self.calibration, self.divergence
        if divergence is None:
            raise SpecError("fit: losses cannot be measured without inputs")

        def loss(state: Mapping[str, torch.Tensor]) -> float:
            return divergence(state if calibration is None else {**state, **calibration(state)})

        network = self.model if calibration is None else calibration.network
        return costs_of(
            network, base, tensors, loss, states=STATES, progress=self.progress, threads=self.threads
        )  # fmt: skip

    def filling(self, family: Family, cells: float, start: float) -> Point | None:
        """Return the point with the most cells that are not more than `cells` per weight; None if there is none."""
        low, high = self.point(family, family.low), None
        if low.cells > cells:
            return None
        # Another family's knob may mean nothing to this one.
        knob = start if family.low < start < family.high else 0.5 * (family.low + family.high)
        for _ in range(_TRIES):
            tried = self.point(family, knob)
            low, high = (tried, high) if tried.cells <= cells else (low, tried)
            if low.cells >= _FILLED * cells or low.knob == family.high:
                break
            top, most = (family.high, None) if high is None else (high.knob, high.cells)
            if top - low.knob <= 1.5 * family.step:
                break
            # Six decibels are a bit; two cells seldom hold less than one. Afterwards along the chord.
            slope = 0.1 if most is None else (most - low.cells) / (top - low.knob)
            knob = min(max(low.knob + (cells - low.cells) / slope, low.knob + family.step), top - family.step)
            knob = top if most is None and knob >= top - family.step else knob
        return low

    def loss(self, point: Point) -> float:
        """Predicted loss of a digital recipe; without data, how far the quick metric falls."""
        if self.divergence is not None:
            return self.divergence(point.prepared.decode_clean())
        return self.drop(self.judge(point, full=False))
