"""What the pictures of one network on one device are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memristore.evaluate.comparison import Comparison
from memristore.evaluate.result import EXACT, Evaluation
from memristore.report.verdict import Verdict, judge
from memristore.sweep.plan import BASELINE, RECIPE, RIVAL
from memristore.sweep.results import SweepResults
from memristore.units import Time


@dataclass(frozen=True, eq=False)
class Group:
    """Results of one network on one device.

    Parameters
    ----------
    model, device : str
    comparison : Comparison
        A row per scheme.
    verdict : Verdict
    recipes : mapping
        What `SweepResults.recipes` says of each scheme.
    layers : mapping
        Mean signal-to-distortion ratio of each tensor at the verdict's time, dB, by scheme and tensor.
    """

    model: str
    device: str
    comparison: Comparison
    verdict: Verdict
    recipes: Mapping[str, dict[str, Any]]
    layers: Mapping[str, dict[str, float]]

    @property
    def description(self) -> str:
        """Network and data in words."""
        return str(next(iter(self.recipes.values()))["about"]["description"])

    def kind(self, row: Evaluation) -> str:
        """Role of a row: recipe, baseline or rival; the winner's is its own."""
        return str(self.recipes[row.scheme]["kind"])

    def portrait(self, scheme: str) -> dict[str, Any] | None:
        """Portrait of a scheme's first array, if it has been made."""
        found: dict[str, Any] | None = self.recipes[scheme]["portrait"]
        return found

    def limit(self, row: Evaluation) -> float | None:
        """Cells per weight that Shannon's rate asks for a row's errors, where that is known and below what it takes."""
        portrait = self.portrait(row.scheme)
        limit = None if portrait is None else portrait["limit_cells"]
        return float(limit) if limit is not None and limit < row.cells_per_weight else None

    def shown(self, most: int) -> list[Evaluation]:
        """Rows for pictures with room for a few: the winner, then recipes, a number format, rivals; by rank each."""
        order = self.verdict.order
        by_kind = {kind: [row for row in order if self.kind(row) == kind] for kind in (RECIPE, BASELINE, RIVAL)}
        first = [*order[:1], *by_kind[RECIPE][: most - 2], *by_kind[BASELINE][:1], *by_kind[RIVAL], *order]
        chosen = list({row.scheme: row for row in first}.values())[:most]
        return [row for row in order if row in chosen]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the comparison, and who won."""
        verdict = self.verdict
        return {
            "model": self.model,
            "device": self.device,
            "at_seconds": verdict.at,
            "floor": verdict.floor,
            "winner": None if verdict.winner is None else verdict.winner.scheme,
            "order": [row.scheme for row in verdict.order],
            "good": verdict.good,
            "headline": verdict.headline(self.comparison.metric),
            "sentence": verdict.sentence(self.comparison.metric),
            "comparison": self.comparison.to_dict(),
        }

    def with_cells(self, part: str) -> tuple[str, dict[str, Any]] | None:
        """The highest-ranked scheme whose portrait has such cells (``analog`` or ``levels``), and its sample."""
        for row in self.verdict.order:
            portrait = self.portrait(row.scheme)
            if portrait is not None and portrait[part] is not None:
                return row.scheme, portrait[part]
        return None


def gather(
    results: SweepResults, *, at: Time | None = None, max_drop: float | None = None, at_least: float | None = None
) -> list[Group]:
    """Gather a file of results by network and device; see `memristore.report.verdict.judge` for the bounds."""
    recipes: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for recipe in results.recipes():
        recipes.setdefault((recipe["model"], recipe["device"]), {})[recipe["scheme"]] = recipe
    rows = list(results.rows())
    groups = []
    for key, comparison in results.comparisons().items():
        known = recipes[key]
        kinds = {scheme: str(recipe["kind"]) for scheme, recipe in known.items()}
        verdict = judge(comparison, kinds, at=at, max_drop=max_drop, at_least=at_least)
        mine = [row for row in rows if (row["model"], row["device"]) == key and row["at_seconds"] == verdict.at]
        groups.append(Group(*key, comparison, verdict, known, _layers(mine)))
    return groups


def _layers(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over arrays; tensors that came back exactly are at 200 dB and left out, for they have no distortion."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for tensor, ratio in row["layers"].items():
            found.setdefault(row["scheme"], {}).setdefault(tensor, []).append(ratio)
    means = {s: {t: sum(v) / len(v) for t, v in tensors.items()} for s, tensors in found.items()}
    return {s: {t: mean for t, mean in tensors.items() if mean < EXACT} for s, tensors in means.items()}
