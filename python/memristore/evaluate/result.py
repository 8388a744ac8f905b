"""What the evaluation of one stored network found: numbers with their uncertainty."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memristore.errors import FileError, SpecError
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.table import Table

    from memristore.evaluate.comparison import Comparison


#: Other numbers that metrics may give, as tables head them.
_HEADINGS: Final = {"agreement": "same class, %", "kl": "KL, nats"}


def _shown(name: str, mean: float, spread: float | None) -> str:
    """Print another number of a metric: a share in percent."""
    if name == "agreement":
        return f"{100 * mean:.2f}"
    return f"{mean:.3g}" + ("" if spread is None else f" ± {spread:.2g}")


#: What an exact copy scores where the metric is a ratio in dB.
EXACT: Final = 200.0


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What the numbers mean.

    Parameters
    ----------
    name : str
        For headings, for example ``"accuracy"``.
    unit : str
        ``"fraction"`` is printed as percent; anything else as a plain number.
    higher_is_better : bool
        Decides which trial is the worst.
    """

    name: str = "metric"
    unit: str = ""
    higher_is_better: bool = True

    @property
    def scale(self) -> float:
        """Factor from stored to printed numbers."""
        return 100.0 if self.unit == "fraction" else 1.0

    @property
    def label(self) -> str:
        """Heading with the printed unit."""
        suffix = "%" if self.unit == "fraction" else self.unit
        return f"{self.name}, {suffix}" if suffix else self.name

    def is_exact(self, value: float) -> bool:
        """Whether a value stands for a copy without any error, of which no ratio in dB can be given."""
        return self.unit == "dB" and value >= EXACT

    def text(self, value: float, spread: float | None = None) -> str:
        """Print a value, with ± its spread if there is one."""
        if self.is_exact(value):
            return "exact"
        if self.unit == "fraction":
            return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")
        return f"{value:.4g}" + ("" if spread is None else f" ± {spread:.2g}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The trials at one read time.

    Parameters
    ----------
    at_seconds : float
        Time between programming and reading, seconds.
    values : tuple of float
        Metric of each trial.
    bits_raw_errors, words_corrected, words_failed : int
        Over all trials: wrong bits before correction, words put right, words that could not be.
    higher_is_better : bool
        Decides which trial is the worst.
    pilot : int
        Where the number of trials was chosen from the spread of the first ones: how many those were; else 0.
    reads : tuple of tuple of float
        Metric of each read of each trial where there were several; `values` are their means.
    also : dict of str to tuple of float
        Other numbers of each trial, such as ``agreement`` and ``kl``.

    Raises
    ------
    SpecError
        If there is no trial.
    """

    at_seconds: float
    values: tuple[float, ...]
    bits_raw_errors: int = 0
    words_corrected: int = 0
    words_failed: int = 0
    higher_is_better: bool = True
    pilot: int = 0
    reads: tuple[tuple[float, ...], ...] = ()
    also: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise SpecError("a result needs the value of at least one trial")

    @property
    def trials(self) -> int:
        """Number of independently programmed arrays."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over the trials."""
        return math.fsum(self.values) / len(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over the trials (n - 1 in the denominator); None for one trial."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def ci95(self) -> float | None:
        """Half width of the 95 % confidence interval of the mean by Student's t; None for one trial.

        It covers programming and reading. That a test set is itself a sample is not in it. Where the number of trials
        was chosen, the spread is that of the first trials, by which it was chosen (Stein's interval).
        """
        return self._half_width(self.values)

    def _half_width(self, values: tuple[float, ...]) -> float | None:
        from scipy.stats import t

        first = values[: self.pilot] if self.pilot else values
        if len(first) < 2:
            return None
        return float(t.ppf(0.975, len(first) - 1)) * float(np.std(first, ddof=1)) / math.sqrt(len(values))

    @property
    def worst(self) -> float:
        """The worst trial; with several reads of each, the worst read."""
        every = [value for values in self.reads for value in values] or self.values
        return min(every) if self.higher_is_better else max(every)

    @property
    def read_std(self) -> float | None:
        """Standard deviation between reads of the same array; None where each was read once."""
        if not self.reads or len(self.reads[0]) < 2:
            return None
        return math.sqrt(float(np.mean([np.var(values, ddof=1) for values in self.reads])))

    def mean_of(self, name: str) -> tuple[float, float | None]:
        """Mean of one of the other numbers over the trials, and the half width of its 95 % confidence interval."""
        values = self.also[name]
        return math.fsum(values) / len(values), self._half_width(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `std` and `ci95` are None for one trial."""
        return {
            "at_seconds": self.at_seconds,
            "at": format_time(self.at_seconds),
            "mean": self.mean,
            "ci95": self.ci95,
            "std": self.std,
            "worst": self.worst,
            "trials": self.trials,
            "values": list(self.values),
            "bits_raw_errors": self.bits_raw_errors,
            "words_corrected": self.words_corrected,
            "words_failed": self.words_failed,
            **({"pilot": self.pilot} if self.pilot else {}),
            **({"reads": [list(values) for values in self.reads]} if self.reads else {}),
            **({"also": {name: list(values) for name, values in self.also.items()}} if self.also else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One stored network, judged over several programmings and read times.

    Parameters
    ----------
    scheme : str
        Name of the row.
    metric : Metric
        What the numbers mean.
    cells_per_weight : float
        All cells, divided by the parameters of the original network.
    clean : float
        Metric of the original network.
    compressed : float
        Metric of the network that perfect cells would give back: what compression alone costs.
    results : tuple of Result
        One per read time.
    spec : dict
        The recipe as `StorageSpec.to_dict` gives it.
    seed : int
        Seed of the first trial; the others are derived from it.
    memristore : str
        Version of the package.
    isa : str
        Instruction set that the kernels used. Results do not depend on it.
    stored : tuple
        The programmed networks, if they were to be kept; not part of the JSON.
    """

    scheme: str
    metric: Metric
    cells_per_weight: float
    clean: float
    compressed: float
    results: tuple[Result, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    net_bits_per_cell: float | None = None
    memristore: str = ""
    isa: str = ""
    stored: tuple[Any, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return str(self._alone())

    def _alone(self, title: str = "") -> Comparison:
        from memristore.evaluate.comparison import Comparison

        return Comparison([self], title)

    def at(self, time: Time) -> Result:
        """Return the result at a read time (seconds or for example ``"1 year"``); KeyError if there is none."""
        seconds = parse_time(time)
        for result in self.results:
            if result.at_seconds == seconds:
                return result
        raise KeyError(time)

    def table(self) -> Table:
        """One line per read time: mean, 95 % CI, standard deviation, worst trial, bit errors."""
        from rich.table import Table

        text = self.metric.text
        clean = f"{self.metric.label}; original {text(self.clean)}, compressed without noise {text(self.compressed)}"
        table = Table(title=f"{self.scheme}: {self.cells_per_weight:.3g} cells per weight", caption=clean)
        table.add_column("read after")
        also = list(self.results[0].also) if self.results else []
        for heading in ("mean ± 95 % CI", "std", "worst", "trials", *also, "wrong bits", "words lost"):
            table.add_column(_HEADINGS.get(heading, heading), justify="right")
        for result in self.results:
            table.add_row(
                format_time(result.at_seconds),
                text(result.mean, result.ci95),
                "" if result.std is None else text(result.std),
                text(result.worst),
                str(result.trials) + (f" x {len(result.reads[0])} reads" if result.reads else ""),
                *(_shown(name, *result.mean_of(name)) for name in also),
                str(result.bits_raw_errors),
                str(result.words_failed),
            )
        return table

    def to_dataframe(self) -> pandas.DataFrame:
        """One line per read time."""
        return self._alone().to_dataframe()

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the metric against time and save the picture to `path` if given."""
        title = f"{self.scheme}, {self.cells_per_weight:.3g} cells per weight"
        return self._alone(title).plot(path, against="time")

    def to_dict(self) -> dict[str, Any]:
        """The document that `to_json` writes, with one row."""
        return self._alone().to_dict()

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON (schema ``memristore.evaluation``), and write it to `path` if given."""
        return self._alone().to_json(path)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Read what :meth:`to_json` wrote; `FileError` if it holds several rows (then use `Comparison.from_json`)."""
        from memristore.evaluate.comparison import Comparison

        rows = Comparison.from_json(path).evaluations
        if len(rows) != 1:
            raise FileError(f"{os.fspath(path)}: holds {len(rows)} rows; read it with Comparison.from_json")
        return rows[0]

    def to_row(self) -> dict[str, Any]:
        """The object that stands for this evaluation in ``rows``."""
        return {
            "scheme": self.scheme,
            "cells_per_weight": self.cells_per_weight,
            "clean": self.clean,
            "compressed": self.compressed,
            "results": [result.to_dict() for result in self.results],
            "spec": self.spec,
            "seed": self.seed,
            "net_bits_per_cell": self.net_bits_per_cell,
            "memristore": self.memristore,
            "isa": self.isa,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any], metric: Metric) -> Evaluation:
        """Rebuild from :meth:`to_row`'s form; statistics are computed again from the values."""
        names = ("bits_raw_errors", "words_corrected", "words_failed")
        results = tuple(
            Result(
                at_seconds=float(item["at_seconds"]),
                values=tuple(float(value) for value in item["values"]),
                higher_is_better=metric.higher_is_better,
                pilot=int(item.get("pilot", 0)),
                reads=tuple(tuple(float(v) for v in values) for values in item.get("reads", ())),
                also={k: tuple(float(v) for v in values) for k, values in item.get("also", {}).items()},
                **{name: int(item[name]) for name in names},
            )
            for item in row["results"]
        )
        given = {
            k: row[k]
            for k in ("scheme", "cells_per_weight", "clean", "compressed", "spec", "seed", "memristore", "isa")
        }
        net = row.get("net_bits_per_cell")
        return cls(metric=metric, results=results, net_bits_per_cell=None if net is None else float(net), **given)
