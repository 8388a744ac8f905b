"""Pictures of limits: capacity and the best SDR against read time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memristore.errors import SpecError
from memristore.evaluate.plots import _style, _time_axis


def against_time(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw capacity, and the best SDR for each number of cells per value, against read time; a panel per source.

    Parameters
    ----------
    rows : sequence of dict
        As `memristore.limits.report.rows` gives them, of one device. A ``word`` in a row's source names its panel.

    Returns
    -------
    Figure

    Raises
    ------
    SpecError
        If there are no rows.
    """
    if not rows:
        raise SpecError("there are no rows to draw")
    times = list(dict.fromkeys(row["at_seconds"] for row in rows))
    # Zero has no logarithm: it stands where a time ten times shorter than the first one would, and is labelled so.
    first = min((time for time in times if time > 0), default=1.0)
    places = {time: time if time > 0 else first / 10 for time in times}
    names = list(dict.fromkeys(_panel(row) for row in rows))
    count = len(names) + 1
    figure = Figure(figsize=(3.6 * count + 0.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count, squeeze=False)[0]
    capacity = {row["at_seconds"]: row["capacity_bits"] for row in rows}
    panels[0].plot([places[t] for t in times], [capacity[t] for t in times], **_style(0))
    panels[0].set_title("capacity", fontsize=10)
    panels[0].set_ylabel("bits per cell")
    panels[0].set_ylim(bottom=0)
    for axes, name in zip(panels[1:], names, strict=True):
        mine = [row for row in rows if _panel(row) == name]
        for index, cells in enumerate(dict.fromkeys(row["cells_per_value"] for row in mine)):
            line = [row for row in mine if row["cells_per_value"] == cells and math.isfinite(row["sdr_db"])]
            axes.plot(
                [places[row["at_seconds"]] for row in line],
                [row["sdr_db"] for row in line],
                label=f"{cells:g} cell{'' if cells == 1 else 's'} per value",
                **_style(index),
            )
        axes.set_title(f"{name} values", fontsize=10)
        axes.set_ylim(bottom=0)
    panels[1].set_ylabel("best SDR, dB")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    for axes in panels:
        _time_axis(axes, places)
        axes.tick_params(axis="x", rotation=45)
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel("Time between programming and reading", fontsize=10)
    figure.suptitle(f"What any code could reach on {rows[0]['device']}", fontsize=11)
    return figure


def _panel(row: dict[str, Any]) -> str:
    source = row["source"]
    return str(source.get("word", source["type"]))
