"""Monte Carlo over independently programmed arrays: the only honest way to put a number on a noisy memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from torch import nn
from tqdm import tqdm

from memristore import _core
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.evaluate.arrays import Arrays
from memristore.evaluate.probe import Judge, Probe
from memristore.evaluate.result import Evaluation, Metric, Result
from memristore.evaluate.stopping import arrays_for
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel
    from memristore.stored import StoredModel
    from memristore.torch_io import StateDict


#: Least number of arrays whose spread may decide on how many more there are.
_PILOT: Final = 5


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


@dataclass(kw_only=True)
class _Tally:
    """What the trials gave at one read time."""

    at_seconds: float
    values: list[float] = field(default_factory=list)
    reads: list[tuple[float, ...]] = field(default_factory=list)
    also: dict[str, list[float]] = field(default_factory=dict)
    bits_raw_errors: int = 0
    words_corrected: int = 0
    words_failed: int = 0

    def note(self, found: Sequence[tuple[float, dict[str, float]]]) -> None:
        """Take the reads of one array."""
        self.reads.append(tuple(value for value, _ in found))
        self.values.append(sum(self.reads[-1]) / len(found) if len(found) > 1 else found[0][0])
        for name in found[0][1]:
            self.also.setdefault(name, []).append(sum(more[name] for _, more in found) / len(found))

    def result(self, higher_is_better: bool, pilot: int) -> Result:
        """Return the result of all trials."""
        return Result(
            at_seconds=self.at_seconds,
            values=tuple(self.values),
            bits_raw_errors=self.bits_raw_errors,
            words_corrected=self.words_corrected,
            words_failed=self.words_failed,
            higher_is_better=higher_is_better,
            pilot=pilot,
            reads=tuple(self.reads) if len(self.reads[0]) > 1 else (),
            also={name: tuple(values) for name, values in self.also.items()},
        )


def metric_of(metric: Callable[[Any], float], higher_is_better: bool | None) -> Metric:
    """What a metric says about itself: optional attributes `name`, `unit`, `higher_is_better`."""
    name = getattr(metric, "name", None) or getattr(metric, "__name__", "metric")
    better = getattr(metric, "higher_is_better", True) if higher_is_better is None else higher_is_better
    label = "metric" if name == "<lambda>" else str(name)
    return Metric(name=label, unit=str(getattr(metric, "unit", "")), higher_is_better=bool(better))


def evaluate(
    stored: StoredModel | StorageSpec,
    model: nn.Module | StateDict,
    metric: Callable[[Any], float],
    at: Time | Sequence[Time] = (0, "1 day", "1 year", "10 years"),
    trials: int = 10,
    *,
    reads: int = 1,
    precision: float | None = None,
    max_trials: int = 1000,
    scheme: str = "stored",
    clean: float | None = None,
    higher_is_better: bool | None = None,
    prepared: PreparedModel | None = None,
    seed: int = 0,
    progress: bool = True,
    threads: int = 0,
    keep: bool = False,
) -> Evaluation:
    """Judge a stored network over independent programmings, reads and times.

    Trial 0 reads `stored` itself. Trial k programs a fresh array from `model` with a seed derived from that of
    `stored`, and reads it `reads` times at each time. All reads of a trial are of the same array, a trajectory;
    each read has an event, hence read noise, of its own ((k * reads + read) * number of times + index of the time).

    Parameters
    ----------
    stored : StoredModel or StorageSpec
        What `memristore.store` returned; or the recipe: then trial 0 is programmed with `seed`, and no array is held
        beside the one that is judged, which takes the least memory.
    model : Module or state_dict
        The network that was stored; it is not changed. Trials after the first are programmed from its weights.
    metric : callable
        ``metric(model) -> float``, given a copy of `model` with the weights as read (for a state_dict: the weights).
        Its optional attributes `name`, `unit` (``"fraction"`` is printed as percent) and `higher_is_better` go into the
        tables. With a method ``against(model)`` it is replaced by what that returns for `model` (for the metric of a
        task: one that knows the clean answers); with a method ``measure(model)``, a dict of its own number, by its
        name, and others, these others are reported too (for tasks ``agreement`` and ``kl``).
    at : time or sequence of times
        Seconds or strings such as ``"1 year"``.
    trials : int
        Number of independently programmed arrays, at least 1. With 1 there is no confidence interval.
    reads : int
        Reads of each array at each time; a trial's value is their mean.
    precision : float, optional
        Half width that the 95 % confidence interval is to have at every time, in units of the metric (0.002 is 0.2
        points of accuracy): after `trials` arrays their spread says how many more it takes (`arrays_for`: Stein's rule,
        which does not stop early by luck). Then `trials` is at least 5.
    max_trials : int
        Most arrays for that; the interval is wider than wanted where they are not enough.
    scheme : str
        Name of the row in tables and pictures.
    clean : float, optional
        The value to compare with; default ``metric(model)``. Give it if `model` was already changed for storage, for
        example pruned.
    higher_is_better : bool, optional
        Decides which trial is the worst; default: what the metric says of itself, else True.
    prepared : PreparedModel, optional
        What `memristore.prepare` made of `model` and the recipe, to save compressing it again.
    seed : int
        Names the first array where a recipe is given; not used otherwise.
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
    _check_plan(trials, reads, precision, max_trials)
    times = _times(at)
    about = metric_of(metric, higher_is_better)
    # The metric may do what it likes to what it is given: the model itself goes only to metrics of ours.
    judge = Judge(metric, model)
    reference = float(clean) if clean is not None else judge.clean(lambda: copy.deepcopy(model))
    arrays = Arrays(stored, model, prepared, seed, keep, threads)
    probe = Probe(model)
    probe.load(arrays.clean())
    compressed = judge(probe.subject, "for the compressed network")[0]
    probe.release()
    if trials > 1:
        arrays.check()
    tallies = [_Tally(at_seconds=time) for time in times]
    done, wanted = 0, trials
    with tqdm(total=trials * len(times) * reads, desc=scheme, leave=False, disable=None if progress else True) as bar:
        while done < wanted:
            _trial(arrays, probe, judge, tallies, done, reads, bar.update)
            done += 1
            if done == trials and precision is not None:
                wanted = arrays_for([tally.values for tally in tallies], precision, max(max_trials, trials))
                bar.reset(wanted * len(times) * reads)
                bar.update(done * len(times) * reads)
    pilot = trials if wanted > trials else 0
    return Evaluation(
        scheme=scheme,
        metric=about,
        cells_per_weight=arrays.cells_per_weight,
        net_bits_per_cell=arrays.net_bits_per_cell,
        clean=reference,
        compressed=compressed,
        results=tuple(tally.result(about.higher_is_better, pilot) for tally in tallies),
        spec=arrays.spec.to_dict(),
        seed=int(arrays.seed),
        memristore=package_version(),
        isa=_core.isa(),
        stored=tuple(arrays.kept),
    )


def _check_plan(trials: int, reads: int, precision: float | None, max_trials: int) -> None:
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise SpecError(f"evaluate: trials must be an integer of at least 1, not {trials!r}")
    check_number("evaluate", "reads", reads, 1, 10**6, integer=True)
    check_number("evaluate", "max_trials", max_trials, 1, 10**9, integer=True)
    if precision is not None:
        check_number("evaluate", "precision", precision, 0, 1e300, open_low=True)
        if trials < _PILOT:
            raise SpecError(
                f"evaluate: precision needs trials of at least {_PILOT}, whose spread says how many more it takes"
            )


def _trial(
    arrays: Arrays, probe: Probe, judge: Judge, tallies: Sequence[_Tally], trial: int, reads: int,
    update: Callable[[], Any],
) -> None:  # fmt: skip
    """Read one array at each time, judge what came back, count what went wrong."""
    for index, tally in enumerate(tallies):
        found = []
        for read in range(reads):
            # Each time has an event of its own: reads a year apart do not share their read noise.
            event = (trial * reads + read) * len(tallies) + index
            last = tally is tallies[-1] and read == reads - 1
            result = arrays.read(trial, tally.at_seconds, event, last)
            probe.load(result.state_dict)
            tally.bits_raw_errors += int(result.report.bits_raw_errors)
            tally.words_corrected += int(result.report.words_corrected)
            tally.words_failed += int(result.report.words_failed)
            del result
            found.append(judge(probe.subject, f"in trial {trial} after {format_time(tally.at_seconds)}"))
            # Before the next read, so that two networks are never in memory.
            probe.release()
            update()
        tally.note(found)
