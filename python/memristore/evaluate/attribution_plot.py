"""Costs of tensors or layers as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memristore.evaluate.attribution import Attribution, mean_ci
from memristore.units import format_time

if TYPE_CHECKING:
    from memristore.evaluate.attribution import Cost

_BAR: Final = "#0072b2"
_INK: Final = "#444444"


def bars(found: Attribution, most: int = 30) -> Figure:
    """Draw what errors of each group cost alone, dearest on top; the title says what all cost together.

    Parameters
    ----------
    found : Attribution
    most : int
        Groups shown.

    Returns
    -------
    Figure
    """
    shown: list[Cost] = list(found.costs[:most])
    by_kl = bool(found.together.kl)
    scale = 1.0 if by_kl else found.metric.scale
    figure = Figure(figsize=(7.6, 1.5 + 0.26 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    unit = "points" if found.metric.unit == "fraction" else found.metric.unit
    for place, cost in enumerate(reversed(shown)):
        mean, spread = mean_ci(cost.kl if by_kl else cost.lost)
        axes.barh(place, scale * mean, color=_BAR, height=0.7)
        if spread is not None:
            axes.errorbar(scale * mean, place, xerr=scale * spread, color=_INK, capsize=2, linewidth=1)
        lost = found.metric.scale * mean_ci(cost.lost)[0]
        note = f" {lost:+.2f} {unit}, {cost.sdr_db:.1f} dB".replace("+-", "-") if by_kl else f" {cost.sdr_db:.1f} dB"
        axes.annotate(
            note, (scale * (mean + (spread or 0.0)), place), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=7, color=_INK,
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), [cost.name for cost in reversed(shown)], fontsize=8)
    axes.set_xlabel("divergence from the clean answers, nats" if by_kl else f"{found.metric.name} lost, {unit}")
    axes.margins(x=0.25)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if not by_kl else 0.0)
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    words = f"{found.scheme}: errors after {format_time(found.at_seconds)}, one at a time"
    all_lost = f"{found.metric.scale * mean_ci(found.together.lost)[0]:.2f} {unit} of {found.metric.name}"
    all_kl = f"{mean_ci(found.together.kl)[0]:.3g} nats, " if by_kl else ""
    beside = f"; beside the bars: {found.metric.name} lost, SDR" if by_kl else "; beside the bars: SDR"
    axes.set_title(f"{words}{beside}\nall together: {all_kl}{all_lost} lost", fontsize=9, loc="left")
    return figure
