"""The other pictures: accuracy over time, distortion by layer, ledgers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure

from memristore.evaluate.comparison import Comparison
from memristore.evaluate.plots import _vertical
from memristore.report.gathered import Group
from memristore.report.hero import times_axis
from memristore.report.palette import LIGHT, POINT, SERIES, drawn
from memristore.sweep.plan import BASELINE, RIVAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Most lines of a picture, and most layers.
_LINES: Final = 6
_LAYERS: Final = 24
_MARKERS: Final = "osD^vPX<"
#: Kinds of cells from what a network needs to what protects it; colours follow this order.
_KINDS: Final = (
    "data",
    "exact",
    "sign",
    "flag",
    "mask",
    "index",
    "codebook",
    "scale",
    "parity",
    "padding",
    "reference",
)


def over_time(group: Group, width: int, height: int) -> Figure | None:
    """Draw the metric against time since programming on a logarithmic axis; None where there is one time only."""
    if len(group.comparison.times) < 2:
        return None
    return drawn(lambda figure: _over_time(figure, group), width, height)


def _over_time(figure: Figure, group: Group) -> None:
    axes = figure.subplots()
    comparison, scale = group.comparison, group.comparison.metric.scale
    times = comparison.times
    first = min(time for time in times if time > 0)
    places = {time: time if time > 0 else first / 10 for time in times}
    rows = group.shown(_LINES)
    series = iter(range(len(SERIES)))
    for row in rows:
        best = row is group.verdict.winner
        color = LIGHT["winner"] if best else LIGHT["baseline"] if group.kind(row) == BASELINE else SERIES[next(series)]
        where = [places[result.at_seconds] for result in row.results]
        means = [scale * result.mean for result in row.results]
        spread = [scale * (result.ci95 or 0.0) for result in row.results]
        axes.plot(
            where, means, color=color, linewidth=2.4 if best else 1.4, label=_clipped(row.scheme, 42),
            marker="*" if best else _MARKERS[rows.index(row)], markersize=10 if best else 4.5, zorder=5 if best else 3,
            linestyle="--" if group.kind(row) == RIVAL else "-",
        )  # fmt: skip
        low = [m - s for m, s in zip(means, spread, strict=True)]
        high = [m + s for m, s in zip(means, spread, strict=True)]
        axes.fill_between(where, low, high, color=color, alpha=0.15, linewidth=0)
    times_axis(axes, places, 6)
    axes.set_title(
        _vertical(axes, Comparison(rows)).replace(" (errors on a logarithmic scale)", ", errors logarithmic")
    )
    axes.set_xlabel("time between programming and reading")
    legend(figure, axes)


def by_layer(group: Group, width: int) -> Figure | None:
    """Draw the signal-to-distortion ratio of each tensor; None where all came back exactly."""
    rows = [row for row in group.shown(8) if group.layers.get(row.scheme)][:5]
    tensors = list(dict.fromkeys(name for row in rows for name in group.layers[row.scheme]))
    if not tensors:
        return None
    # Too many for a picture: those with the most distortion under the best row.
    if len(tensors) > _LAYERS:
        worst = sorted(tensors, key=lambda name: group.layers[rows[0].scheme].get(name, 1e9))[:_LAYERS]
        tensors = [name for name in tensors if name in worst]
    height = 110 + 20 * len(tensors) + 18 * len(rows)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        series = iter(range(len(SERIES)))
        for index, row in enumerate(rows):
            best = row is group.verdict.winner
            known = [
                (group.layers[row.scheme][name], i)
                for i, name in enumerate(tensors)
                if name in group.layers[row.scheme]
            ]
            axes.plot(
                *zip(*known, strict=True), linestyle="none", marker="*" if best else _MARKERS[index],
                markersize=11 if best else 6, label=_clipped(row.scheme, 42), zorder=5 if best else 3,
                color=LIGHT["winner"] if best else SERIES[next(series)],
            )  # fmt: skip
        axes.set_yticks(range(len(tensors)), [_clipped(name, 22) for name in tensors])
        axes.invert_yaxis()
        axes.margins(y=0.8 / len(tensors))
        axes.set_xlabel("signal-to-distortion ratio, dB (more is better)")
        legend(figure, axes)

    return drawn(draw, width, height)


def ledgers(group: Group, width: int) -> Figure | None:
    """Draw cells per weight by kind as stacked bars, a bar per scheme; None where no portrait has been made yet."""
    found: list[tuple[str, dict[str, float]]] = []
    for row in group.verdict.order:
        portrait = group.portrait(row.scheme)
        if portrait is not None:
            kinds: dict[str, int] = portrait["cells_by_kind"]
            total = max(1, sum(kinds.values()))
            found.append((row.scheme, {k: row.cells_per_weight * cells / total for k, cells in kinds.items()}))
    if not found:
        return None
    # One long bar would flatten all others: those far beyond the middle one are cut, and say so.
    lengths = sorted(sum(kinds.values()) for _, kinds in found)
    reach = 1.04 * max(length for length in lengths if length <= 2.5 * lengths[len(lengths) // 2])
    present = [kind for kind in _KINDS if any(kind in kinds for _, kinds in found)]
    present += sorted({kind for _, kinds in found for kind in kinds} - set(present))
    height = 120 + 26 * len(found) + 18 * (-(-len(present) // 4))
    return drawn(lambda figure: _stacked(figure.subplots(), figure, found, present, reach), width, height)


def _stacked(
    axes: Axes, figure: Figure, found: list[tuple[str, dict[str, float]]], present: list[str], reach: float
) -> None:
    for index, (_, kinds) in enumerate(found):
        start = 0.0
        for kind in present:
            length = kinds.get(kind, 0.0)
            color = SERIES[present.index(kind) % len(SERIES)]
            axes.barh(index, min(length, max(reach - start, 0.0)), left=start, height=0.66, color=color, linewidth=0)
            start += length
        cut = start > reach
        axes.annotate(
            f"{start:.3g}" + (" →" if cut else ""), (min(start, reach), index), xytext=(-4 if cut else 4, 0),
            textcoords="offset points", va="center", ha="right" if cut else "left", fontsize=11 * POINT,
            color=LIGHT["paper"] if cut else LIGHT["ink"], fontweight="bold" if cut or index == 0 else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(found)), [_clipped(name, 30) for name, _ in found])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlim(0, reach * 1.12)
    axes.set_xlabel("cells per weight (fewer is better)")
    handles: list[Any] = [axes.barh(0, 0, color=SERIES[i % len(SERIES)]) for i in range(len(present))]
    figure.legend(handles, present, loc="outside lower left", ncols=4, handlelength=0.9, columnspacing=1.2)


def legend(figure: Figure, axes: Axes) -> None:
    """Legend below the picture, in as many columns as its words leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(len(label) for label in labels) <= 22 else 1
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=1.5, labelspacing=0.3)


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"
