"""Who wins: the fewest cells among those that keep the network good enough, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from memristore.errors import SpecError
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.result import Evaluation, Metric
from memristore.sweep.plan import BASELINE, RECIPE, RIVAL
from memristore.units import Time, format_time, parse_time

#: Accuracy that may be lost unless it is said otherwise, as a fraction.
MAX_DROP: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The winner of a comparison at one read time.

    Parameters
    ----------
    at : float
        Read time, seconds.
    floor : float or None
        Worst mean that is good enough; None where no bound is known, and then nobody wins.
    order : tuple of Evaluation
        Those that are good enough by cells, fewest first, then the others by their metric, best first.
    good : int
        How many are good enough.
    kinds : mapping
        Kind of each scheme.
    """

    at: float
    floor: float | None
    order: tuple[Evaluation, ...]
    good: int
    kinds: Mapping[str, str]

    @property
    def winner(self) -> Evaluation | None:
        """The first, if it is good enough."""
        return self.order[0] if self.good else None

    @property
    def runner_up(self) -> Evaluation | None:
        """The second, if it is good enough."""
        return self.order[1] if self.good > 1 else None

    @property
    def baseline(self) -> Evaluation | None:
        """The digital number format with the fewest cells that is good enough, and does not win."""
        formats = [row for row in self.order[1 : self.good] if self.kinds.get(row.scheme) == BASELINE]
        return formats[0] if formats else None

    def saved(self, other: Evaluation) -> float:
        """How many times fewer cells the winner takes than another."""
        return other.cells_per_weight / self.order[0].cells_per_weight

    def margins(self) -> list[tuple[Evaluation, float]]:
        """What the winner saves on the runner-up, on the best of each other kind, and on the largest number format."""
        others = [self.runner_up]
        for kind in (RECIPE, RIVAL, BASELINE):
            rows = [row for row in self.order[1 : self.good] if self.kinds.get(row.scheme) == kind]
            others += rows[:1] if self.winner is not None and self.kinds.get(self.winner.scheme) != kind else []
            others += rows[-1:] if kind == BASELINE else []
        named = {row.scheme: row for row in others if row is not None}
        return [(row, self.saved(row)) for row in named.values()]

    def headline(self, metric: Metric) -> str:
        """Say it in one sentence."""
        when = "read at once" if self.at == 0 else f"after {format_time(self.at)}"
        if self.floor is None:
            return f"No winner named: nobody said what is good enough {when}"
        best = self.winner
        if best is None:
            return f"No recipe keeps {metric.name} at {metric.text(self.floor)} or better {when}"
        return f"{best.scheme} wins with {best.cells_per_weight:.3g} cells per weight"

    def sentence(self, metric: Metric) -> str:
        """Say by how much, and at what quality."""
        best = self.winner
        if best is None:
            return ""
        result = best.at(self.at)
        parts = [f"{factor:.2g} times fewer than {row.scheme}" for row, factor in self.margins()]
        lead = f"{'; '.join(parts)}. " if parts else ""
        when = "read at once" if self.at == 0 else f"after {format_time(self.at)}"
        unit = " %" if metric.unit == "fraction" else f" {metric.unit}".rstrip()
        return (
            f"{lead}{metric.name[:1].upper()}{metric.name[1:]} {metric.text(result.mean, result.ci95)}{unit} {when}, "
            f"over {result.trials} arrays{_original(metric, best.clean)}."
        )


def _original(metric: Metric, clean: float) -> str:
    """What the original network has, where that says something: its own distortion is none."""
    return f"; the original network has {metric.text(clean)} %" if metric.unit == "fraction" else ""


def judge(
    comparison: Comparison,
    kinds: Mapping[str, str],
    *,
    at: Time | None = None,
    max_drop: float | None = None,
    at_least: float | None = None,
) -> Verdict:
    """Find the winner.

    Parameters
    ----------
    comparison : Comparison
    kinds : mapping of str to str
        Kind of each scheme: recipe, baseline or rival.
    at : time, optional
        Read time; default: the last one that every row has.
    max_drop : float, optional
        What may be lost against the original network, in units of the metric. Default: 0.01 for fractions; for other
        metrics nothing tells how much is too much.
    at_least : float, optional
        A bound on the metric itself, instead.

    Returns
    -------
    Verdict

    Raises
    ------
    SpecError
        If no row was read at `at`, or both bounds are given.
    """
    if max_drop is not None and at_least is not None:
        raise SpecError("report: give max_drop or at_least, not both")
    shared = [time for time in comparison.times if all(_has(row, time) for row in comparison)]
    seconds = parse_time(at) if at is not None else (shared or comparison.times)[-1]
    rows = [row for row in comparison if _has(row, seconds)]
    if not rows:
        known = ", ".join(format_time(time) for time in comparison.times)
        raise SpecError(f"report: nothing was read after {format_time(seconds)}; there are {known}")
    metric = comparison.metric
    sign = 1.0 if metric.higher_is_better else -1.0
    floor = at_least
    if floor is None and (max_drop is not None or metric.unit == "fraction"):
        floor = rows[0].clean - sign * (MAX_DROP if max_drop is None else max_drop)

    def keeps(row: Evaluation) -> bool:
        return floor is not None and sign * row.at(seconds).mean >= sign * floor - 1e-12

    good = sorted((row for row in rows if keeps(row)), key=lambda row: row.cells_per_weight)
    others = sorted((row for row in rows if not keeps(row)), key=lambda row: -sign * row.at(seconds).mean)
    return Verdict(at=seconds, floor=floor, order=(*good, *others), good=len(good), kinds=dict(kinds))


def _has(row: Evaluation, seconds: float) -> bool:
    return any(result.at_seconds == seconds for result in row.results)
