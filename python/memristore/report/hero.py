"""The first picture: the metric against cells per weight, the winner and its margin in words on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from memristore.evaluate.comparison import Comparison
from memristore.evaluate.plots import _decades, _time_axis, _vertical
from memristore.evaluate.result import Evaluation
from memristore.evaluate.schemes import BEST
from memristore.report.gathered import Group
from memristore.report.palette import LIGHT, POINT, drawn
from memristore.sweep.plan import BASELINE, RECIPE, RIVAL
from memristore.units import format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS: Final = {
    RECIPE: {"marker": "o", "markersize": 7},
    BASELINE: {"marker": "s", "markersize": 6.5},
    RIVAL: {"marker": "D", "markersize": 5.5, "markerfacecolor": "none"},
}
#: What lies beyond the picture stands at its edge.
_BEYOND: Final = {"marker": "v", "markersize": 6}
_WORDS: Final = {RECIPE: "recipe", BASELINE: "digital number format", RIVAL: "digital rival of a recipe"}
#: Width of a letter of the arrow's words, CSS pixels.
_WORD_PIXELS: Final = 7.0
#: Where a label may stand: horizontal and vertical shift in points, and how it is aligned.
_PLACES: Final = (
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (8, 9, "left", "bottom"),
    (8, -9, "left", "top"),
    (-8, 9, "right", "bottom"),
    (-8, -9, "right", "top"),
)


def hero(group: Group, width: int, height: int) -> Figure:
    """Draw the metric against cells per weight at the verdict's time.

    Parameters
    ----------
    group : Group
    width, height : int
        CSS pixels.

    Returns
    -------
    Figure
    """
    return drawn(lambda figure: _draw(figure, group, width), width, height)


def short(scheme: str) -> str:
    """Name of a scheme where room is short: the rival's recipe is told by where it stands."""
    return BEST if scheme.startswith(f"{BEST} for ") else scheme


def _draw(figure: Figure, group: Group, width: int) -> None:
    axes = figure.subplots()
    verdict, scale = group.verdict, group.comparison.metric.scale
    rows = list(verdict.order)
    winner = verdict.winner
    limit = _limit(group)
    _decades(axes, [row.cells_per_weight for row in rows] + ([] if limit is None else [limit]))
    y_label = _height(axes, group)
    _bounds(axes, group, width)
    for kind in (BASELINE, RIVAL, RECIPE):
        mine = [row for row in rows if group.kind(row) == kind and row is not winner]
        for row in mine:
            result = row.at(verdict.at)
            seen, shown = _seen(axes, scale * result.mean)
            axes.errorbar(
                row.cells_per_weight,
                shown,
                yerr=None if result.ci95 is None or not seen else scale * result.ci95,
                color=LIGHT[kind],
                elinewidth=0.9,
                linestyle="none",
                label=_WORDS[kind] if row is mine[0] else None,
                **(_MARKS[kind] if seen else _BEYOND),  # type: ignore[arg-type]
            )
    if winner is not None:
        _crown(axes, group, winner, width)
    axes.set_title(f"{y_label}, {when(verdict.at)}")
    of = " of the original network" if width >= 600 else ""
    axes.set_xlabel(f"memory cells per weight{of} (fewer is better)")
    _label(axes, group, rows, width)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2 if width < 600 else 5, handletextpad=0.4
    )


def _limit(group: Group) -> float | None:
    return None if group.verdict.winner is None else group.limit(group.verdict.winner)


def _height(axes: Axes, group: Group) -> str:
    """Choose the vertical range: from a little beyond what is good enough to the best; returns the label."""
    verdict, metric = group.verdict, group.comparison.metric
    alone = _at_one_time(group)
    if verdict.floor is None:
        return _vertical(axes, alone).replace(" (errors on a logarithmic scale)", ", errors on a logarithmic scale")
    clean, floor = metric.scale * verdict.order[0].clean, metric.scale * verdict.floor
    sign = 1.0 if metric.higher_is_better else -1.0
    results = [row.at(verdict.at) for row in alone]
    reach = [metric.scale * (sign * result.mean + (result.ci95 or 0)) for result in results]
    best = max([*reach, sign * clean]) if metric.unit == "fraction" else max(reach)
    room = max(best - sign * floor, 1e-9)
    ends = sorted((sign * (sign * floor - 0.7 * room), sign * (best + 0.16 * room)))
    axes.set_ylim(*ends)
    return metric.label[:1].upper() + metric.label[1:]


def _seen(axes: Axes, value: float) -> tuple[bool, float]:
    """Whether a value lies in the picture, and where it is drawn: at the edge if not."""
    low, high = axes.get_ylim()
    edge = 0.035 * (high - low)
    return (low <= value <= high), min(max(value, low + edge), high - edge)


def _at_one_time(group: Group) -> Comparison:
    """The comparison with nothing but the results at the verdict's time."""
    at = group.verdict.at
    return Comparison([dataclasses.replace(row, results=(row.at(at),)) for row in group.verdict.order])


def _bounds(axes: Axes, group: Group, width: int) -> None:
    """What is good enough, the original network, and the limit for the winner's errors."""
    verdict, metric = group.verdict, group.comparison.metric
    clean = metric.scale * verdict.order[0].clean
    if metric.unit == "fraction":
        axes.axhline(clean, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    if verdict.floor is not None:
        floor = metric.scale * verdict.floor
        bottom, top = axes.get_ylim()
        worse = bottom if metric.higher_is_better else top
        axes.axhspan(worse, floor, color=LIGHT["shade"], zorder=0, linewidth=0)
        axes.set_ylim(bottom, top)
        axes.annotate(
            "not good enough", (1, floor), xycoords=("axes fraction", "data"), xytext=(-4, -4),
            textcoords="offset points", ha="right", va="top", color=LIGHT["muted"], fontsize=11 * POINT,
        )  # fmt: skip
    limit = _limit(group)
    if limit is not None:
        words = "Shannon's limit for the winner's errors" if width >= 600 else "Shannon's limit"
        axes.axvline(limit, color=LIGHT["limit"], linewidth=1.2, linestyle="-.", zorder=1, label=words)


def _crown(axes: Axes, group: Group, winner: Evaluation, width: int) -> None:
    """The winner as a star, and an arrow from what it is measured against."""
    verdict, metric = group.verdict, group.comparison.metric
    result = winner.at(verdict.at)
    at = (winner.cells_per_weight, metric.scale * result.mean)
    axes.errorbar(
        *at,
        yerr=None if result.ci95 is None else metric.scale * result.ci95,
        marker="*",
        markersize=17,
        color=LIGHT["winner"],
        markeredgecolor=LIGHT["paper"],
        markeredgewidth=0.8,
        linestyle="none",
        zorder=6,
        label="winner",
    )
    rival = verdict.baseline or verdict.runner_up
    if rival is None or verdict.saved(rival) < 1.02:
        return
    # Along the horizontal axis, where cells are counted: its length is the margin.
    start, height = rival.cells_per_weight, _seen(axes, metric.scale * rival.at(verdict.at).mean)[1]
    axes.plot([start, start], [at[1], height], color=LIGHT["winner"], linewidth=0.9, linestyle=":", zorder=3)
    axes.annotate(
        "", at, (start, at[1]), zorder=4,
        arrowprops={"arrowstyle": "-|>", "color": LIGHT["winner"], "linewidth": 1.7, "shrinkA": 0, "shrinkB": 10},
    )  # fmt: skip
    words = f"{verdict.saved(rival):.2g}× fewer than {short(rival.scheme)}"
    room = axes.transData.transform((start, at[1]))[0] - axes.transData.transform(at)[0]
    beside = room < _WORD_PIXELS * len(words) + 24
    axes.annotate(
        words, (start if beside else (at[0] * start) ** 0.5, at[1]), xytext=(6, 0) if beside else (0, -5),
        textcoords="offset points", ha="left" if beside else "center", va="center" if beside else "top",
        color=LIGHT["winner"], fontsize=12.5 * POINT, fontweight="bold", zorder=7,
    )  # fmt: skip


def _label(axes: Axes, group: Group, rows: Sequence[Evaluation], width: int) -> None:
    """Name points where there is room, the most important ones first; the others are named in the table below."""
    figure, verdict, metric = axes.figure, group.verdict, group.comparison.metric
    figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [_box_of(text) for text in axes.texts if text.get_text()]
    pixels = {row.scheme: axes.transData.transform(_point(axes, row, verdict.at, metric.scale)) for row in rows}
    marks = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels.values()]
    taken += _arrow_box(axes, group)
    inside = axes.bbox.extents
    rank = {id(verdict.winner): 0, id(verdict.runner_up): 1, id(verdict.baseline): 1}
    kinds = {BASELINE: 2, RECIPE: 3, RIVAL: 5}
    ordered = sorted(rows, key=lambda row: rank.get(id(row), kinds[group.kind(row)]))
    for row in ordered:
        best = row is verdict.winner
        seen = _seen(axes, metric.scale * row.at(verdict.at).mean)[0]
        if seen and group.kind(row) == RIVAL and row not in (verdict.winner, verdict.runner_up):
            continue  # many, all called the same; the table names them
        words = f"{row.scheme}\n{row.cells_per_weight:.3g} cells per weight" if best else short(row.scheme)
        if not seen:
            words += f" {metric.text(row.at(verdict.at).mean)}"
        for dx, dy, ha, va in _PLACES:
            far = 1.5 if best else 1.0
            text = axes.annotate(
                words, _point(axes, row, verdict.at, metric.scale), xytext=(far * dx, far * dy),
                textcoords="offset points", ha=ha, va=va, fontsize=(13 if best else 11) * POINT, zorder=7,
                fontweight="bold" if best else "normal", color=LIGHT["winner" if best else group.kind(row)],
            )  # fmt: skip
            box = _box_of(text)
            own = pixels[row.scheme]
            others = [m for m in marks if m != (own[0] - 6, own[1] - 6, own[0] + 6, own[1] + 6)]
            fits = box[0] >= inside[0] and box[2] <= inside[2] + 4 and box[1] >= inside[1] and box[3] <= inside[3] + 4
            if fits and not any(_overlap(box, other) for other in [*taken, *others]):
                taken.append(box)
                break
            text.remove()


def _arrow_box(axes: Axes, group: Group) -> list[tuple[float, float, float, float]]:
    """Where the arrow to the winner is, so that no label lies on it."""
    verdict, scale = group.verdict, group.comparison.metric.scale
    rival = verdict.baseline or verdict.runner_up
    if verdict.winner is None or rival is None:
        return []
    x, y = axes.transData.transform(_point(axes, verdict.winner, verdict.at, scale))
    start = axes.transData.transform((rival.cells_per_weight, 0.0))[0]
    return [(x, y - 3, start, y + 3)]


def _point(axes: Axes, row: Evaluation, at: float, scale: float) -> tuple[float, float]:
    return row.cells_per_weight, _seen(axes, scale * row.at(at).mean)[1]


def _box_of(text: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = text.get_window_extent().extents
    return x0, y0, x1, y1


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def times_axis(axes: Axes, places: dict[float, float], most: int) -> None:
    """Label a logarithmic axis of time with at most so many ticks."""
    _time_axis(axes, places)
    ticks = list(axes.get_xticks())
    if len(ticks) > most:
        step = -(-len(ticks) // most)
        labels = [label.get_text() for label in axes.get_xticklabels()]
        kept = list(range(len(ticks) - 1, -1, -step))[::-1]
        axes.xaxis.set_major_locator(FixedLocator([ticks[i] for i in kept]))
        axes.set_xticklabels([labels[i] for i in kept])


def when(seconds: float) -> str:
    """A read time in words."""
    return "read at once" if seconds == 0 else f"after {format_time(seconds)}"
