"""Pictures of results, drawn without pyplot: no window, no global state."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from memristore.errors import FileError
from memristore.units import SECONDS, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from memristore.evaluate.comparison import Comparison

#: Colours that people with colour-blindness tell apart (Okabe and Ito, 2008), darkest first; markers differ as well.
_COLORS: Final = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
_MARKERS: Final = "osD^vPhX<>pd"
_INK: Final = "#444444"


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the ending of `path` decides the format.

    Raises
    ------
    FileError
        If the folder does not exist, cannot be written to, or the format is not known.
    """
    try:
        figure.savefig(Path(path), dpi=150)
    except (OSError, ValueError) as error:
        raise FileError(f"{os.fspath(path)}: the picture cannot be written ({error})") from error


def _style(index: int) -> dict[str, Any]:
    """Colour and marker of a scheme."""
    return {"color": _COLORS[index % len(_COLORS)], "marker": _MARKERS[index % len(_MARKERS)]}


def _new(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    return figure, [axis for line in axes for axis in line]


def _error_scale(axes: Axes, values: Sequence[float]) -> None:
    """Show percentages so that 99 and 98 are as far apart as 98 and 96: the logarithm of what is missing to 100."""
    missing = [100 - value for value in values]
    floor = max(min((m for m in missing if m > 0), default=1.0) / 1.6, 0.01)

    def forward(value: np.ndarray) -> np.ndarray:
        height: np.ndarray = -np.log10(np.maximum(100 - np.asarray(value, dtype=float), floor))
        return height

    def backward(height: np.ndarray) -> np.ndarray:
        shown: np.ndarray = 100 - 10.0 ** -np.asarray(height, dtype=float)
        return shown

    low, high = 100 - min(max(missing) * 1.25, 100.0), 100 - floor
    axes.set_yscale("function", functions=(forward, backward))
    axes.set_ylim(low, high)
    ticks = [0, 20, 40, 50, 60, 70, 80, 90, 95, 97, 98, 99, 99.5, 99.8, 99.9, 99.95]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _vertical(axes: Axes, comparison: Comparison) -> str:
    """Scale of the metric, by what is missing to 100 % if schemes differ widely, else linear; returns its label."""
    label = comparison.metric.label[:1].upper() + comparison.metric.label[1:]
    scale = comparison.metric.scale
    means = [scale * result.mean for row in comparison for result in row.results]
    reach = [scale * (result.mean - (result.ci95 or 0)) for row in comparison for result in row.results]
    values = [*means, *reach, *(scale * row.clean for row in comparison)]
    wide = max(values) - min(values) > 8
    if comparison.metric.unit == "fraction" and wide and max(values) <= 100 and min(values) < 100:
        _error_scale(axes, values)
        label += " (errors on a logarithmic scale)"
    return label


def _decades(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic cells per weight with plain numbers: 0.5, 1, 2, 5, 10, ..."""
    axes.set_xscale("log")
    low, high = min(values) / 1.35, max(values) * 1.35
    axes.set_xlim(low, high)
    span = math.log10(high / low)
    steps = (1, 2, 5) if span < 2.5 else (1, 3) if span < 3.5 else (1,)
    ticks = [step * 10.0**k for k in range(-6, 10) for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def _clean_line(axes: Axes, comparison: Comparison, label: str | None) -> None:
    """Dashed line at the original network, if the rows agree on it."""
    cleans = {row.clean for row in comparison}
    if len(cleans) == 1:
        axes.axhline(
            comparison.metric.scale * cleans.pop(), color=_INK, linestyle="--", linewidth=1, label=label, zorder=1
        )


def _legend(figure: Figure, axes: Axes) -> None:
    """One legend beside the panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9, labelspacing=0.9)


def _finish(figure: Figure, panels: Sequence[Axes], comparison: Comparison, x_label: str, y_label: str) -> None:
    """Grid, labels and title."""
    for axes in panels:
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel(x_label, fontsize=10)
    figure.supylabel(y_label, fontsize=10)
    if comparison.title:
        figure.suptitle(comparison.title, fontsize=11)


def against_cells(comparison: Comparison) -> Figure:
    """Draw the metric against cells per weight, a panel per read time, a marker per scheme, bars of 95 % CI.

    Parameters
    ----------
    comparison : Comparison
        Schemes.

    Returns
    -------
    Figure
    """
    times = comparison.times
    columns = 1 if len(times) == 1 else 2
    rows = -(-len(times) // columns)
    figure, panels = _new(rows, columns, (4.1 * columns + 3.4, 3.0 * rows + 1.2))
    scale = comparison.metric.scale
    for axes, time in zip(panels, times, strict=False):
        _clean_line(axes, comparison, "original network")
        for index, row in enumerate(comparison):
            result = next((r for r in row.results if r.at_seconds == time), None)
            if result is None:
                continue
            axes.errorbar(
                row.cells_per_weight,
                scale * result.mean,
                yerr=None if result.ci95 is None else scale * result.ci95,
                linestyle="none",
                markersize=9,
                markerfacecolor="none",  # hollow, so that schemes at the same place are both seen
                markeredgewidth=1.5,
                capsize=2.5,
                capthick=0.9,
                elinewidth=0.9,
                label=row.scheme,
                **_style(index),
            )
        axes.set_title("read at once" if time == 0 else f"read after {format_time(time)}", fontsize=10)
    for axes in panels[len(times) :]:
        axes.set_visible(False)
    _decades(panels[0], [row.cells_per_weight for row in comparison])
    y_label = _vertical(panels[0], comparison)
    _legend(figure, panels[0])
    _finish(figure, panels[: len(times)], comparison, "Memory cells per weight of the original network", y_label)
    return figure


def against_time(comparison: Comparison) -> Figure:
    """Draw the metric against read time on a logarithmic axis; time 0 has a place of its own at the left.

    Parameters
    ----------
    comparison : Comparison
        Schemes.

    Returns
    -------
    Figure
    """
    times = comparison.times
    later = [time for time in times if time > 0]
    # Zero has no logarithm: it stands where a time ten times shorter than the first one would, and is labelled so.
    first = min(later, default=1.0)
    places = {time: time if time > 0 else first / 10 for time in times}
    many = len(comparison) > 1
    figure, panels = _new(1, 1, (6.4 + (2.6 if many else 0), 4.2))
    axes, scale = panels[0], comparison.metric.scale
    _clean_line(axes, comparison, "original network")
    for index, row in enumerate(comparison):
        spreads = [result.ci95 for result in row.results]
        axes.errorbar(
            [places[result.at_seconds] for result in row.results],
            [scale * result.mean for result in row.results],
            yerr=None if None in spreads else [scale * (spread or 0.0) for spread in spreads],
            linewidth=1.3,
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=0.6,
            capsize=3,
            label=row.scheme if many else "mean, 95 % confidence interval",
            **_style(index),
        )
        if not many:
            worst = [scale * result.worst for result in row.results]
            where = [places[result.at_seconds] for result in row.results]
            axes.plot(where, worst, linestyle="none", marker="_", markersize=9, color=_INK, label="worst trial")
    _time_axis(axes, places)
    y_label = _vertical(axes, comparison)
    if many:
        _legend(figure, axes)
    else:
        axes.legend(frameon=False, fontsize=9)
    _finish(figure, panels, comparison, "Time between programming and reading", y_label)
    return figure


def _time_axis(axes: Axes, places: dict[float, float]) -> None:
    """Label decades of time in their natural units."""
    low, high = min(places.values()), max(places.values())
    axes.set_xscale("log")
    axes.set_xlim(low / 2, high * 2)
    marks = {1e-3: "1 ms", 1.0: "1 s", 60.0: "1 min"} | {
        n * SECONDS[unit]: format_time(n * SECONDS[unit])
        for n, unit in ((1, "hour"), (1, "day"), (30, "day"), (1, "year"), (10, "year"), (100, "year"), (1000, "year"))
    }
    ticks = {place: text for place, text in marks.items() if low / 2 <= place <= high * 2}
    if 0.0 in places:
        ticks = {place: text for place, text in ticks.items() if place > 2 * places[0.0]} | {places[0.0]: "0"}
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.set_xticks(sorted(ticks), [ticks[place] for place in sorted(ticks)])
    axes.xaxis.set_minor_locator(NullLocator())
