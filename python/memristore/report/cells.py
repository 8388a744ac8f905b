"""Pictures of cells: levels, drift, conductance maps."""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from memristore.report.hero import times_axis, when
from memristore.report.palette import LIGHT, SERIES, drawn
from memristore.units import format_time

#: Order of colours for bands and levels that lie side by side: neighbours differ.
_TURNS: Final = (0, 1, 2, 3, 5, 4, 7, 6)


def _color(index: int) -> str:
    return SERIES[_TURNS[index % len(_TURNS)]]


def _axis_label(unit: str) -> str:
    return f"conductance, {'µS' if unit == 'uS' else unit}" if "ohm" not in unit else f"resistance, {unit}"


def histograms(sample: dict[str, Any], width: int, height: int) -> Figure:
    """Draw how states of cells are spread, as programmed and as read at the end, by level or band.

    Parameters
    ----------
    sample : dict
        ``analog`` or ``levels`` of a portrait.
    width, height : int
        CSS pixels.
    """
    edges = np.array(sample["edges"])
    # Levels differ in width by so much that one scale would show the narrowest only.
    apart = "map" not in sample

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, found in zip((upper, lower), sample["histograms"], strict=True):
            at = found["at"]
            for band, counts in enumerate(found["counts"]):
                share = np.array(counts) / max(1, max(counts) if apart else sample["sampled"])
                axes.stairs(share, edges, fill=True, color=_color(band), alpha=0.75, linewidth=0)
            axes.set_title("as programmed" if isinstance(at, str) else f"read {format_time(at)} later")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        lower.set_xlabel(_axis_label(sample["unit"]))

    return drawn(draw, width, height)


def drift(sample: dict[str, Any], width: int, height: int) -> Figure | None:
    """Draw median and middle 90 % of each level or band against time; None where there is one age only."""
    ages = sample["drift"]["ages"]
    later = [age for age in ages if age > 0]
    if len(later) < 2:
        return None
    places = {age: age if age > 0 else later[0] / 10 for age in ages}
    where = [places[age] for age in ages]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for band, quantiles in enumerate(sample["drift"]["quantiles"]):
            low, middle, high = np.array(quantiles).T
            axes.fill_between(where, low, high, color=_color(band), alpha=0.22, linewidth=0)
            axes.plot(where, middle, color=_color(band), linewidth=1.6)
        times_axis(axes, places, 6)
        axes.set_title(_axis_label(sample["unit"]))
        axes.set_xlabel("time since programming")

    return drawn(draw, width, height)


def conductance_map(sample: dict[str, Any], width: int, height: int) -> Figure | None:
    """Draw a square of cells as programmed and as read at the end; None where the sample has no map."""
    found = sample.get("map")
    if found is None or found["side"] < 2:
        return None
    side = int(found["side"])
    codes = [np.frombuffer(base64.b64decode(code), np.uint8).reshape(side, side) for code in found["codes"]]
    low, high = found["low"], found["high"]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, code, title in zip(panels, codes, ("as programmed", when(found["last"])), strict=True):
            image = axes.imshow(
                low + code / 255 * (high - low), cmap="viridis", vmin=low, vmax=high, interpolation="none"
            )
            axes.set_title(title)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        bar = figure.colorbar(image, ax=panels, location="bottom", fraction=0.06, pad=0.04, aspect=40)
        bar.outline.set_edgecolor(LIGHT["line"])
        bar.set_label(_axis_label(sample["unit"]))

    return drawn(draw, width, height)
