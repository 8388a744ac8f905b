"""Fine-tuning inside the search: the weights learn to stand a coarser grid, round by round, down to the bound."""

from __future__ import annotations

import copy
import dataclasses
import glob
import math
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from memristore.codes import Densest
from memristore.compress import Constant, RateDistortion
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.evaluate.fit_calibrate import folded, norms_of
from memristore.evaluate.fit_families import (
    SDR_RANGE,
    STATES,
    Family,
    Tensor,
    gains_of,
    large_tensors,
    ratios,
)
from memristore.evaluate.tasks.data import judging
from memristore.storage import prepare
from memristore.torch_io import base_of
from memristore.train import GridQuantizer, robust_finetune

if TYPE_CHECKING:
    from memristore.evaluate.fit_search import Point, Search
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel

#: Sensitivity to this power spreads the steps; what did best without fine-tuning.
_POWER: Final = 0.5
#: Bits of levels that the first round aims at, and the least that any does, relative to what does without training.
_FIRST: Final = 0.5
_LEAST: Final = 0.25
#: Bits of levels that a long round starts with, more than its goal, relative to it; and what is long, in batches. The
#: price brings them down, which takes time.
_MORE: Final = 0.2
_LONG: Final = 4000
#: Learning rate of later rounds, relative to the first: on a new grid, and on the one that weights lie on, which a
#: higher rate would make them leave.
_LATER: Final = 0.5
_SETTLING: Final = 0.1
#: How far bits may be from a round's goal, relative to it, for the grid of the last round to be kept.
_NEAR: Final = 0.02
#: Cells of the next goal, relative to the last: by the share of the bound that was used up. After a miss that is not a
#: large one, more training at the same goal is tried before more cells.
_NEXT: Final = ((0.5, 0.92), (1.0, 0.96), (3.0, 1.0), (math.inf, 1.06))
#: A goal above what was accepted is pointless; this is as close as it gets.
_BELOW: Final = 0.98
#: Signal-to-distortion ratios of vectors that are tried, dB: at 35 one ResNet-20 lost 0.2 points more than at 38 or 41.
_VECTOR_SDRS: Final = (38.0, 40.0, 43.0)
#: Coded bits of levels over what :meth:`GridQuantizer.bits` says, before the first round has shown it.
_CODED: Final = 0.97
#: Share of a budget that rounds aim at: a goal is met to about a percent.
_WITHIN: Final = 0.985
#: Halvings of the interval in which the mean ratio is sought.
_HALVINGS: Final = 14
#: Batches that batch norm's statistics are taken from again behind the final weights.
_STATISTICS: Final = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Finetune:
    """What `fit` may train with, and how long.

    Parameters
    ----------
    loader : callable
        ``loader(round)`` returns that round's batches ``(inputs, labels)``, with a length; rounds count from 0.
    rounds : int
        Rounds of training; after each the network is stored and judged, and the next one's goal is set. Give
        most batches to the first; later rounds are to correct its cells.
    rate : float
        Largest learning rate of the first round (SGD with Nesterov momentum of 0.9, one cycle each round). A later
        round has half of it; one that aims at as many cells as there are keeps its grid and has a tenth.
    price : float
        Loss, nats, that a bit per weight is worth when training begins; it is then steered so that the goal is met. See
        :class:`memristore.train.GridQuantizer`.
    goal : float, optional
        Cells per weight that the first round aims at; by default about half of what does without training. Where `fit`
        is given the cells, all rounds aim at those.
    kl, temperature : float
        Weight and temperature of the divergence from the teacher.
    teacher : Module, optional
        Network whose answers are aimed at; by default the one to be stored, as it was given. For a pruned network, the
        unpruned one.

    Raises
    ------
    SpecError
        If a number is out of range, the loader cannot be called or the teacher is no network.
    """

    loader: Callable[[int], Iterable[Any]]
    rounds: int = 1
    rate: float = 0.02
    price: float = 1.5
    goal: float | None = None
    kl: float = 0.7
    temperature: float = 2.0
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        if not callable(self.loader):
            raise SpecError("finetune: loader must be a function of the round that returns its batches")
        check_number("finetune", "rounds", self.rounds, 1, 1000, integer=True)
        check_number("finetune", "rate", self.rate, 0, 100, open_low=True)
        check_number("finetune", "price", self.price, 0, 1e6, open_low=True)
        if self.goal is not None:
            check_number("finetune", "goal", self.goal, 0, 1e6, open_low=True)
        check_number("finetune", "kl", self.kl, 0, 1)
        check_number("finetune", "temperature", self.temperature, 0, 1e6, open_low=True)
        if not isinstance(self.teacher, nn.Module | None):
            raise SpecError("finetune: teacher must be a network, of torch")

    def check(self, model: object, batches: object) -> None:
        """Raise `SpecError` where training could not begin: known before a long search."""
        if batches is None:
            raise SpecError("finetune: sensitivities say where weights may be coarse; give batches")
        if not isinstance(model, nn.Module):
            raise SpecError("finetune: bare weights cannot be trained; give the network")
        if not any(p.dim() > 1 and p.is_floating_point() for p in model.parameters()):
            raise SpecError("finetune: the network has no tensor of two dimensions or more to quantise")
        first = self.loader(0)
        if not isinstance(first, Sized) or len(first) == 0:
            raise SpecError("finetune: a round's batches need a length, which sets the learning rate's course")
        if self.teacher is not None:
            inputs = _inputs(next(iter(first)))
            wanted = _shape(model, inputs)
            try:
                found = _shape(self.teacher, inputs)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise SpecError(f"finetune: the teacher does not take the loader's inputs ({error})") from error
            if found != wanted:
                raise SpecError(f"finetune: the teacher answers in shape {found}, the network in {wanted}")


def _bits(point: Point) -> int:
    return sum(stream.length for stream in point.prepared.payload.bit_streams())


class Tuning:
    """Rounds of training on ever coarser grids; weights go on from round to round, whether a goal was met or not.

    Parameters
    ----------
    search : Search
    base : StorageSpec
        Device and retention time.
    tensors : list of Tensor
    sensitivity : mapping of str to float
        KL sensitivity of each tensor.
    settings : Finetune
    start : Module, optional
        Where training starts; by default the network of the search.
    """

    def __init__(
        self, search: Search, base: StorageSpec, tensors: list[Tensor], sensitivity: Mapping[str, float],
        settings: Finetune, *, start: nn.Module | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(search.model, nn.Module):
            raise SpecError("finetune: bare weights cannot be trained; give the network")
        self.search, self.base, self.tensors, self.settings = search, base, tensors, settings
        some = next(iter(settings.loader(0)), None)
        if some is None:
            raise SpecError("finetune: the loader gave no batches; give it data")
        self.teacher = _fast(settings.teacher or search.model, _inputs(some))
        self.latent = _fast(start or search.model, _inputs(some))
        self.gains = gains_of(tensors, sensitivity, _POWER)
        self.names = {tensor.stream: tensor.name for tensor in large_tensors(tensors)}
        self.weights = sum(tensor.size for tensor in tensors)
        self._coded = _CODED
        self._last: GridQuantizer | None = None

    def run(self, best: Point, judge: Callable[[Point], float], budget: float | None = None) -> list[Point]:
        """Train, and return the points that were accepted, fewest cells first.

        Parameters
        ----------
        best : Point
            What is known to do without training.
        judge : callable
            Share of the bound that a point uses up; it is accepted up to 1.
        budget : float, optional
            Cells per weight that all rounds aim at; without it ever fewer, as long as points are accepted.
        """
        cells_per_bit = best.cells / max(_bits(best), 1)
        levels, aside = self._parts(best.prepared)
        least, self._coded = _LEAST * levels, _CODED
        budget = None if budget is None else _WITHIN * budget
        most, goal = best.cells, budget or self.settings.goal or (aside + _FIRST * levels) * cells_per_bit
        found: list[Point] = []
        for number in range(self.settings.rounds):
            self.search.report(f"fine-tuning, round {number + 1} of {self.settings.rounds}: goal {goal:.3f} cells")
            batches = self.settings.loader(number)
            quantizer = self._quantizer(goal / cells_per_bit, least, len(batches) if isinstance(batches, Sized) else 0)
            try:
                self._train(quantizer, batches, number)
            except SpecError as error:
                # What was found before is worth keeping.
                self.search.report(f"fine-tuning stopped in round {number + 1}: {error}")
                break
            self._last = quantizer
            points = self._points(quantizer, number)
            cells_per_bit = points[0].cells / max(_bits(points[0]), 1)
            self._coded = self._parts(points[0].prepared)[0] / max(quantizer.bits(self.latent), 1.0)
            share, point = math.inf, points[0]
            for each in points:  # the cheapest first
                now = judge(each)
                share, point = min((share, point), (now, each), key=lambda pair: pair[0])
                if now <= 1:
                    found.append(each)
                    most = min(most, each.cells)
                    break
            # After a miss there is more training as well as more cells, since the weights go on.
            step = next((factor for limit, factor in _NEXT if share <= limit), _NEXT[-1][1])
            goal = budget or min(step * point.cells, _BELOW * most)
        return sorted(found, key=lambda point: point.cells)

    def _parts(self, prepared: PreparedModel) -> tuple[int, int]:
        """Bits of levels, and those of all that is on no grid: vectors, constants."""
        streams = list(prepared.payload.bit_streams())
        levels = sum(stream.length for stream in streams if base_of(stream.name) in self.names)
        return levels, sum(stream.length for stream in streams) - levels

    def _quantizer(self, bits: float, least: float, calls: int) -> GridQuantizer:
        """Steps, and a goal with which the network will take this many bits, its levels `least` or more."""
        sample = self._with_bits(max(bits, least))
        _, aside = self._parts(self._prepared(folded(self._settled(sample).eval()), _VECTOR_SDRS[0]))
        wanted = max(bits - aside, least) / self._coded
        last, calls = self._last, max(calls, 1)
        if last is not None and abs(last.bits(self.latent) - wanted) <= _NEAR * wanted:
            return GridQuantizer(self.latent, price=last.price, steps=last.steps, goal=wanted, calls=calls)
        start = (1 + _MORE * min(calls / _LONG, 1.0)) * wanted
        return self._with_bits(start, goal=wanted, calls=calls)

    def _with_bits(self, bits: float, **goal: Any) -> GridQuantizer:
        """Steps with which the levels take this many bits before training."""
        low, high = SDR_RANGE[0] - 20, SDR_RANGE[1]
        made = None
        for _ in range(_HALVINGS):
            mean = 0.5 * (low + high)
            rules = [
                (self._named(pattern), ratio)
                for pattern, ratio in ratios(self.tensors, self.gains, mean)
                if pattern != "*"
            ]
            made = GridQuantizer(self.latent, rules, price=self.settings.price / max(self.weights, 1), **goal)
            low, high = (mean, high) if made.bits(self.latent) <= bits else (low, mean)
        if made is None:
            raise SpecError("finetune: no tensor to quantise")
        return made

    def _named(self, pattern: str) -> str:
        """Pattern of a parameter's name from that of its stream."""
        return next(glob.escape(name) for stream, name in self.names.items() if glob.escape(stream) == pattern)

    def _train(self, quantizer: GridQuantizer, batches: Iterable[Any], number: int) -> None:
        settings = self.settings
        steps = len(batches) if isinstance(batches, Sized) else 0
        last = self._last
        rate = settings.rate * (1.0 if last is None else _SETTLING if quantizer.steps == last.steps else _LATER)
        tuned = robust_finetune(
            self.latent, self.base, lambda _: batches, noise=quantizer, noise_schedule="constant",
            teacher=self.teacher, kl=settings.kl, temperature=settings.temperature,
            optimizer=lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9, nesterov=True),
            scheduler=lambda o: one_cycle(o, steps),
            progress=self.search.progress,
        )  # fmt: skip
        self.latent = tuned.model

    def _points(self, quantizer: GridQuantizer, number: int) -> list[Point]:
        """The network on its grid, with statistics of batch norm to match, as recipes: vectors at each ratio."""
        network = self._settled(quantizer)
        self._statistics(network, number)
        network = folded(network)
        return [self._point(network, sdr, number) for sdr in _VECTOR_SDRS]

    def _point(self, network: nn.Module, sdr: float, number: int) -> Point:
        from memristore.evaluate.fit_search import Point

        prepared = self._prepared(network, sdr)
        spec = prepared.spec
        stored = prepared.program(seed=self.search.seed, trace=False, threads=self.search.threads)
        family = Family(
            name=f"fine-tuned on a grid, round {number + 1}, vectors at {sdr:g} dB", spec=lambda _: spec, low=0.0,
            high=0.0, step=1.0, unit="", digital=True,
        )  # fmt: skip
        return Point(family, 0.0, spec, prepared, float(stored.cells_per_weight), network)

    def _settled(self, quantizer: GridQuantizer) -> nn.Module:
        """Weights so far, on the grid."""
        network: Any = copy.deepcopy(self.latent)
        network = network.to(memory_format=torch.contiguous_format)
        quantizer.settle(network)
        settled: nn.Module = network
        return settled

    def _prepared(self, network: nn.Module, sdr: float) -> PreparedModel:
        compress = (Constant(), RateDistortion(sdr=sdr, states=STATES))
        spec = dataclasses.replace(self.base, compress=compress, bits=Densest())
        return prepare(network, spec, threads=self.search.threads)

    @torch.no_grad()
    def _statistics(self, network: nn.Module, number: int) -> None:
        """Mean and variance of batch norm, anew, over some of the round's batches; all else as in evaluation."""
        norms: list[Any] = list(norms_of(network).values())
        if not norms:
            return
        kept = [norm.momentum for norm in norms]
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
            norm.train()
        device = next(network.parameters()).device
        for _, batch in zip(range(_STATISTICS), self.settings.loader(number), strict=False):
            network(_inputs(batch).to(device))
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        network.eval()


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Up to the optimiser's rate along a line in a tenth of the steps, then down to nothing along half a cosine."""
    rise = max(steps // 10, 1)

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 + 0.5 * math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1.0))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _inputs(batch: Any) -> torch.Tensor:
    inputs: torch.Tensor = batch if isinstance(batch, torch.Tensor) else batch[0]
    return inputs


def _shape(network: nn.Module, inputs: torch.Tensor) -> tuple[int, ...]:
    """Shape of a network's answers."""
    place = next((p.device for p in network.parameters()), inputs.device)
    with judging(network):
        return tuple(network(inputs.to(place)).shape)


def _fast(network: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Return a copy in the layout in which convolutions train a quarter faster on a CPU, if the network stands it."""
    copied = copy.deepcopy(network)
    try:
        laid: Any = copy.deepcopy(network)
        laid = laid.to(memory_format=torch.channels_last)
        with torch.no_grad():
            laid.eval()(inputs.to(next(network.parameters()).device))
    except (RuntimeError, StopIteration):
        return copied
    fast: nn.Module = laid.train(network.training)
    return fast
