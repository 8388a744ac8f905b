"""The front that `fit` found, as a picture: families, digital number formats, the winner, bound and limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memristore.evaluate.plots import _style

if TYPE_CHECKING:
    from memristore.evaluate.fit_result import FitResult
    from memristore.evaluate.result import Evaluation

#: Rows that lose more than so many times what the winner loses lie below the picture, and are named there.
_SHOWN: Final = 8.0
#: Bits per cell that formats are stored at: the last part of their rows' names.
_FORMATS: Final = ("bit/cell", "bits/cell")


def front(found: FitResult) -> Figure:
    """Draw the metric against cells per weight.

    Parameters
    ----------
    found : FitResult

    Returns
    -------
    Figure
    """
    about, best = found.evaluation.metric, found.evaluation
    sign, scale = (1.0 if about.higher_is_better else -1.0), about.scale
    clean = best.clean
    lost = max(sign * (clean - best.results[0].mean), found.max_drop or 0.0)
    floor = sign * clean - _SHOWN * lost if lost > 0 else min(sign * e.results[0].mean for e in found.front)
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    below: list[str] = []
    for index, (name, rows) in enumerate(_families(list(found.front)).items()):
        below += [row.scheme for row in rows if sign * row.results[0].mean < floor]
        seen = [row for row in rows if sign * row.results[0].mean >= floor]
        if seen:
            style = _style(index) | ({"linestyle": "none"} if name == "number formats" else {})
            axes.plot(*_points(seen, scale), label=name, **style)
            if name == "number formats":
                _named(axes, seen, scale)
    axes.plot(
        *_points([best], scale), "*", color="#ffcc00", markeredgecolor="black", markersize=17, label="found", zorder=5
    )
    axes.axhline(scale * clean, color="#555555", linewidth=0.8, linestyle="--", label="network itself")
    if found.max_drop is not None:
        axes.axhline(
            scale * (clean - sign * found.max_drop), color="#aa3377", linewidth=0.8, linestyle=":", label="bound"
        )
    axes.axvline(found.limit_cells, color="#117733", linewidth=0.8, linestyle="-.", label="Shannon, errors as found")
    axes.margins(y=0.12)
    axes.set_xscale("log")
    axes.set_xticks(_ticks(found))
    axes.set_xticklabels([f"{x:g}" for x in _ticks(found)])
    axes.minorticks_off()
    axes.set_xlabel("Memory cells per weight of the original network")
    axes.set_ylabel(about.label)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    note = "" if not below else "\nbelow the picture: " + ", ".join(below[:4]) + (" …" if len(below) > 4 else "")
    figure.suptitle(found.front.title + note, fontsize=9)
    return figure


def _families(rows: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Rows by family: names without the knob, formats together."""
    out: dict[str, list[Evaluation]] = {}
    for row in rows:
        head, _, knob = row.scheme.rpartition(", ")
        turned = bool(head) and knob[:1].isdigit()
        name = row.scheme if not turned else "number formats" if knob.endswith(_FORMATS) else head
        out.setdefault(name, []).append(row)
    return {name: sorted(rows, key=lambda e: e.cells_per_weight) for name, rows in out.items()}


def _points(rows: Sequence[Evaluation], scale: float) -> tuple[list[float], list[float]]:
    return [row.cells_per_weight for row in rows], [scale * row.results[0].mean for row in rows]


def _named(axes: object, rows: Sequence[Evaluation], scale: float) -> None:
    """Write each format's name at its densest form."""
    densest: dict[str, Evaluation] = {}
    for row in rows:
        densest.setdefault(row.scheme.rpartition(", ")[0], row)
    for number, (name, row) in enumerate(densest.items()):
        at = (row.cells_per_weight, scale * row.results[0].mean)
        axes.annotate(  # type: ignore[attr-defined]
            name, at, xytext=(0, 7 + 9 * (number % 4)), textcoords="offset points", ha="center", fontsize=7
        )


def _ticks(found: FitResult) -> list[float]:
    cells = [row.cells_per_weight for row in found.front] + [found.limit_cells]
    low, high = min(cells), max(cells)
    steps = [m * 10.0**e for e in range(-4, 5) for m in (1, 2, 5)]
    return [x for x in steps if 0.8 * low <= x <= 1.25 * high]
