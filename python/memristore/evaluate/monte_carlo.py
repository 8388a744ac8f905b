"""Monte Carlo over independently programmed arrays: the only honest way to put a number on a noisy memory."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm import tqdm

from memristore import _core, rng
from memristore.errors import SpecError, TensorError
from memristore.evaluate.result import Evaluation, Metric, Result
from memristore.storage import prepare
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    from memristore.storage import PreparedModel
    from memristore.stored import StoredModel
    from memristore.torch_io import StateDict


def package_version() -> str:
    """Version of the installed package."""
    try:
        return metadata.version("memristore")
    except metadata.PackageNotFoundError:
        return "not installed"


def _times(at: Time | Sequence[Time]) -> list[float]:
    """Read times in seconds, in the order given, each once."""
    given = [at] if isinstance(at, (str, int, float)) else list(at)
    times = list(dict.fromkeys(parse_time(time) for time in given))
    if not times:
        raise SpecError("evaluate: give at least one read time, for example at=['1 day', '1 year']")
    return times


def _judge(metric: Callable[[Any], float], subject: Any, when: str) -> float:
    """Call the metric and insist on a finite number."""
    value: Any = metric(subject)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = "; end it with .item()" if isinstance(value, torch.Tensor) else ""
        raise SpecError(
            f"evaluate: the metric must return a float, but {when} it returned {type(value).__name__}{hint}"
        )
    number = float(value)
    if number - number != 0:
        raise SpecError(f"evaluate: the metric returned {number} {when}; it must be a finite number for every read")
    return number


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts hold the same bits."""
    if first.keys() != second.keys():
        return False

    def bits(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)

    return all(first[n].dtype == second[n].dtype and torch.equal(bits(first[n]), bits(second[n])) for n in first)


class _Probe:
    """What the metric is given: a copy of the module with weights as read, or the bare weights."""

    def __init__(self, model: nn.Module | StateDict) -> None:
        self.module = copy.deepcopy(model) if isinstance(model, nn.Module) else None
        self.subject: Any = model if self.module is None else self.module

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Load weights, every one of them, or say which do not fit."""
        if self.module is None:
            self.subject = state
            return
        try:
            self.module.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise TensorError(f"evaluate: the stored network does not fit the model given: {error}") from error


@dataclass(kw_only=True)
class _Tally:
    """What the trials gave at one read time."""

    at_seconds: float
    index: int
    count: int
    values: list[float] = field(default_factory=list)
    bits_raw_errors: int = 0
    words_corrected: int = 0
    words_failed: int = 0

    def read(self, array: StoredModel, probe: _Probe, metric: Callable[[Any], float], trial: int, threads: int) -> None:
        """Read an array, judge what came back, count what went wrong."""
        # Each time has an event of its own: reads a year apart do not share their read noise.
        event = trial * self.count + self.index
        found = array.read(at=self.at_seconds, event=event, threads=threads)
        probe.load(found.state_dict)
        self.values.append(_judge(metric, probe.subject, f"in trial {trial} after {format_time(self.at_seconds)}"))
        self.bits_raw_errors += int(found.report.bits_raw_errors)
        self.words_corrected += int(found.report.words_corrected)
        self.words_failed += int(found.report.words_failed)

    def result(self, higher_is_better: bool) -> Result:
        """Return the result of all trials."""
        return Result(
            at_seconds=self.at_seconds,
            values=tuple(self.values),
            bits_raw_errors=self.bits_raw_errors,
            words_corrected=self.words_corrected,
            words_failed=self.words_failed,
            higher_is_better=higher_is_better,
        )


def _metric_of(metric: Callable[[Any], float], higher_is_better: bool | None) -> Metric:
    """What a metric says about itself: optional attributes `name`, `unit`, `higher_is_better`."""
    name = getattr(metric, "name", None) or getattr(metric, "__name__", "metric")
    better = getattr(metric, "higher_is_better", True) if higher_is_better is None else higher_is_better
    label = "metric" if name == "<lambda>" else str(name)
    return Metric(name=label, unit=str(getattr(metric, "unit", "")), higher_is_better=bool(better))


def evaluate(
    stored: StoredModel,
    model: nn.Module | StateDict,
    metric: Callable[[Any], float],
    at: Time | Sequence[Time] = (0, "1 day", "1 year", "10 years"),
    trials: int = 10,
    *,
    scheme: str = "stored",
    clean: float | None = None,
    higher_is_better: bool | None = None,
    prepared: PreparedModel | None = None,
    progress: bool = True,
    threads: int = 0,
    keep: bool = False,
) -> Evaluation:
    """Judge a stored network over independent programmings, reads and times.

    Trial 0 reads `stored` itself. Trial k programs a fresh array from `model` with a seed derived from that of
    `stored`, and reads it once at each time. All read times of a trial belong to the same array, a trajectory;
    each read has an event, hence read noise, of its own (k * number of times + index of the time).

    Parameters
    ----------
    stored : StoredModel
        What `memristore.store` returned.
    model : Module or state_dict
        The network that was stored; it is not changed. Trials after the first are programmed from its weights.
    metric : callable
        ``metric(model) -> float``, given a copy of `model` with the weights as read (for a state_dict: the weights).
        Its optional attributes `name`, `unit` (``"fraction"`` is printed as percent) and `higher_is_better` go into the
        tables.
    at : time or sequence of times
        Seconds or strings such as ``"1 year"``.
    trials : int
        Number of independently programmed arrays, at least 1. With 1 there is no confidence interval.
    scheme : str
        Name of the row in tables and pictures.
    clean : float, optional
        The value to compare with; default ``metric(model)``. Give it if `model` was already changed for storage, for
        example pruned.
    higher_is_better : bool, optional
        Decides which trial is the worst; default: what the metric says of itself, else True.
    prepared : PreparedModel, optional
        What `memristore.prepare` made of `model` and the recipe, to save compressing it again.
    progress : bool
        Show a bar on standard error if that is a terminal.
    threads : int
        Threads for the kernels; 0 means all. Results do not depend on it.
    keep : bool
        Keep the programmed arrays in `Evaluation.stored`.

    Returns
    -------
    Evaluation

    Raises
    ------
    SpecError
        If an argument is not valid, if the metric returns something else than a finite number, or if `model` is not
        what was stored.
    TensorError
        If the stored tensors do not fit `model`.
    """
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise SpecError(f"evaluate: trials must be an integer of at least 1, not {trials!r}")
    times = _times(at)
    about = _metric_of(metric, higher_is_better)
    probe = _Probe(model)
    reference = _judge(metric, probe.subject, "for the original network") if clean is None else float(clean)
    prepared = prepare(model, stored.spec, threads=threads) if prepared is None else prepared
    probe.load(prepared.decode_clean())
    compressed = _judge(metric, probe.subject, "for the compressed network")
    if trials > 1 and not _same(
        prepared.program(seed=stored.seed, trace=False, threads=threads).load(threads=threads),
        stored.load(threads=threads),
    ):
        raise SpecError(
            "evaluate: the weights of the model given are not those that were stored, so further trials would judge "
            "another network; give the model that was stored, or trials=1 (float buffers of a module are kept exactly, "
            "those of a bare state_dict are not unless they are batch-norm statistics: store the module itself)"
        )
    kept: list[StoredModel] = []
    tallies = [_Tally(at_seconds=time, index=i, count=len(times)) for i, time in enumerate(times)]
    with tqdm(total=trials * len(times), desc=scheme, leave=False, disable=None if progress else True) as bar:
        for trial in range(trials):
            array = stored
            if trial > 0:
                seed = rng.key(stored.seed, "trial", trial)
                array = prepared.program(seed=seed, trace=None if keep else False, threads=threads)
            if keep:
                kept.append(array)
            for tally in tallies:
                tally.read(array, probe, metric, trial, threads)
                bar.update()
    return Evaluation(
        scheme=scheme,
        metric=about,
        cells_per_weight=float(stored.cells_per_weight),
        net_bits_per_cell=stored.bits.format.net_bits_per_cell,
        clean=reference,
        compressed=compressed,
        results=tuple(tally.result(about.higher_is_better) for tally in tallies),
        spec=stored.spec.to_dict(),
        seed=int(stored.seed),
        memristore=package_version(),
        isa=_core.isa(),
        stored=tuple(kept),
    )
