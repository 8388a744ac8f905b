"""The page: one HTML file that needs no network."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from memristore.errors import FileError
from memristore.evaluate.result import Evaluation
from memristore.report import cells, figures
from memristore.report.gathered import Group, gather
from memristore.report.hero import hero, when
from memristore.report.palette import LIGHT, ROLES, inline_svg
from memristore.sweep.results import SweepResults
from memristore.units import Time, format_time

#: Sizes of pictures, CSS pixels.
_WIDE: Final = (980, 520)
_NARROW: Final = (350, 430)
_CARD: Final = 400


@dataclass(frozen=True, eq=False)
class _Picture:
    """A figure with its words."""

    name: str
    title: str
    caption: str
    figure: Figure


def write_report(
    results: SweepResults | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    figures_to: str | os.PathLike[str] | None = None,
    at: Time | None = None,
    max_drop: float | None = None,
    at_least: float | None = None,
) -> list[Path]:
    """Write a report: one HTML page with everything in it, and its pictures as files if they are wanted.

    Parameters
    ----------
    results : SweepResults or path
        What `run_sweep` gave, finished or not.
    path : path
        The page.
    figures_to : path, optional
        Folder for every picture as PNG and SVG; made if it does not exist.
    at : time, optional
        Read time at which the winner is found; default: the last one.
    max_drop : float, optional
        What may be lost against the original network, in units of the metric (0.01 is one percentage point of
        accuracy). Default 0.01 for fractions. Other metrics have no default, and then nobody wins.
    at_least : float, optional
        A bound on the metric itself, instead.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    FileError
        If there are no results, or something cannot be written.
    SpecError
        If nothing was read at `at`, or both bounds are given.
    """
    if not Path(path).parent.is_dir():
        raise FileError(f"{os.fspath(path)}: cannot be written; there is no folder {Path(path).parent}")
    own = not isinstance(results, SweepResults)
    found = results if isinstance(results, SweepResults) else SweepResults(results)
    try:
        groups = gather(found, at=at, max_drop=max_drop, at_least=at_least)
        shown = [(f"g{index}", group, list(_pictures(group))) for index, group in enumerate(groups)]
        text = _page(found, shown)
    finally:
        if own:
            found.close()
    written = [Path(path)]
    try:
        written[0].write_text(text, encoding="utf-8")
        if figures_to is not None:
            written += _write_figures(shown, Path(figures_to))
    except OSError as error:
        raise FileError(f"{error.filename or os.fspath(path)}: cannot be written ({error})") from error
    return written


def _write_figures(shown: list[tuple[str, Group, list[_Picture]]], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for _, group, pictures in shown:
        stem = re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{group.model}-{group.device}")
        first = _Picture("accuracy-against-cells", "", "", hero(group, *_WIDE))
        for text in first.figure.axes[0].texts:  # the page does this by its styles
            text.set_path_effects([withStroke(linewidth=2.5, foreground=LIGHT["paper"])])
        for picture in [first, *pictures]:
            for ending in ("png", "svg"):
                target = folder / f"{stem}-{picture.name}.{ending}"
                picture.figure.savefig(target, dpi=200, facecolor=LIGHT["paper"])
                written.append(target)
    return written


def _page(found: SweepResults, shown: list[tuple[str, Group, list[_Picture]]]) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sweeps = found.sweeps()
    counts = found.counts()
    missing = ", ".join(
        f"{counts[state]} {words}"
        for state, words in (("open", "results to come"), ("claimed", "being run"), ("failed", "failed"))
        if counts.get(state)
    )
    about = [recipe["about"] for _, group, _ in shown for recipe in group.recipes.values()]
    facts = {
        "results": f"{len(found)} in {found.path.name}",
        "digest": found.digest(),
        **{name: ", ".join(sorted({str(item[name]) for item in about})) for name in ("memristore", "torch", "isa")},
        "networks": ", ".join(sorted({f"{item['description']} (weights {item['network'][:12]})" for item in about})),
    }
    return environment.get_template("page.html.j2").render(
        title=" · ".join(dict.fromkeys(str(sweep["name"]) for sweep in sweeps)),
        roles=ROLES,
        missing=missing,
        groups=[_section(prefix, group, pictures) for prefix, group, pictures in shown],
        facts=facts,
        sweeps=[{"name": sweep["name"], "text": json.dumps(sweep, indent=1)} for sweep in sweeps],
    )


def _section(prefix: str, group: Group, pictures: list[_Picture]) -> dict[str, Any]:
    verdict, metric = group.verdict, group.comparison.metric
    best = verdict.winner or verdict.order[0]
    portrait = group.portrait(best.scheme)
    label = f"{metric.name} against cells per weight. {verdict.headline(metric)}. {verdict.sentence(metric)}"
    table_head, table_rows = _table(group)
    return {
        "id": prefix,
        "model": group.model,
        "device": group.device,
        "description": group.description,
        "source": None if portrait is None else _mark(portrait["stages"]["device"], group.device),
        "headline": verdict.headline(metric),
        "sentence": verdict.sentence(metric),
        "rule": _rule(group),
        "tiles": _tiles(group),
        "hero_wide": inline_svg(hero(group, *_WIDE), f"{prefix}w", label),
        "hero_narrow": inline_svg(hero(group, *_NARROW), f"{prefix}n", label),
        "hero_caption": _hero_caption(group),
        "label": f"{metric.label} {when(verdict.at)}",
        "rows": [_row(group, row) for row in verdict.order],
        "figures": [
            {"title": p.title, "caption": p.caption, "svg": inline_svg(p.figure, f"{prefix}f{i}", p.title)}
            for i, p in enumerate(pictures)
        ],
        "table_head": table_head,
        "table_rows": table_rows,
        "stages": None if portrait is None else portrait["stages"],
        "stages_of": best.scheme,
    }


def _mark(words: str, device: str) -> str:
    """Where a device's numbers are from: sourced, computed or recalled."""
    return words.removeprefix(device).strip(" ()")


def _rule(group: Group) -> str:
    verdict, metric = group.verdict, group.comparison.metric
    if verdict.floor is None:
        return "Give --max-drop or --at-least to say what is good enough."
    unit = " %" if metric.unit == "fraction" else f" {metric.unit}".rstrip()
    bound = "at least" if metric.higher_is_better else "at most"
    return (
        f"The winner is whoever takes the fewest cells with a mean {metric.name} of {bound} "
        f"{metric.text(verdict.floor)}{unit} {when(verdict.at)}. All cells count."
    )


def _tiles(group: Group) -> list[dict[str, str]]:
    verdict, metric = group.verdict, group.comparison.metric
    best = verdict.winner
    if best is None:
        return []
    tiles = [{"value": f"{best.cells_per_weight:.3g}", "words": f"cells per weight: {best.scheme}"}]
    tiles += [
        {"value": f"{factor:.2g}× fewer", "words": f"than {row.scheme} ({row.cells_per_weight:.3g})"}
        for row, factor in (verdict.margins()[:1] + verdict.margins()[1:][-2:])
    ]
    result = best.at(verdict.at)
    unit = " %" if metric.unit == "fraction" else f" {metric.unit}".rstrip()
    clean = f"; {metric.text(best.clean)} % originally" if metric.unit == "fraction" else ""
    tiles.append({"value": f"{metric.text(result.mean)}{unit}", "words": f"{metric.name} {when(verdict.at)}{clean}"})
    limit = group.limit(best)
    if limit is not None:
        tiles.append({"value": f"{limit:.3g}", "words": "cells per weight: Shannon's limit for the same errors"})
    return tiles


def _hero_caption(group: Group) -> str:
    said = "Bars: 95 % confidence interval over independently programmed arrays; dashed: the original network."
    if group.verdict.winner is not None and group.limit(group.verdict.winner) is not None:
        said += " Shannon's limit: cells that the rate for the winner's errors asks for, weights taken as independent."
    return said


def _row(group: Group, row: Evaluation) -> dict[str, Any]:
    verdict, metric = group.verdict, group.comparison.metric
    index = verdict.order.index(row)
    good = index < verdict.good
    # Rank by rank: a bar twice as long is twice the cells.
    longest = max(r.cells_per_weight for r in verdict.order)
    classes = [group.kind(row), "" if good else "bad", "winner" if row is verdict.winner else ""]
    classes.append("rule" if index == verdict.good - 1 and verdict.good < len(verdict.order) else "")
    result = row.at(verdict.at)
    return {
        "name": row.scheme,
        "cells": f"{row.cells_per_weight:.3g}",
        "share": f"{100 * row.cells_per_weight / longest:.1f}",
        "value": metric.text(result.mean, result.ci95),
        "factor": f"{verdict.saved(row):.2f}" if verdict.winner is not None else "",
        "classes": " ".join(c for c in classes if c),
    }


def _table(group: Group) -> tuple[list[str], list[list[str]]]:
    metric, times = group.comparison.metric, group.comparison.times
    head = [
        "scheme",
        "cells per weight",
        "limit",
        "no noise",
        *("at once" if t == 0 else format_time(t) for t in times),
    ]
    lines = []
    for row in group.verdict.order:
        found = {result.at_seconds: result for result in row.results}
        limit = group.limit(row)
        line = [
            row.scheme,
            f"{row.cells_per_weight:.4g}",
            "" if limit is None else f"{limit:.3g}",
            metric.text(row.compressed),
        ]
        line += [
            f"{metric.text(found[t].mean, found[t].ci95)} ({metric.text(found[t].worst)})" if t in found else ""
            for t in times
        ]
        lines.append(line)
    return head, lines


def _pictures(group: Group) -> Iterator[_Picture]:
    metric = group.comparison.metric
    if (figure := figures.over_time(group, _CARD, 380)) is not None:
        yield _Picture(
            "over-time", f"{metric.name[:1].upper()}{metric.name[1:]} over time",
            "Mean over arrays, shaded: 95 % confidence interval. Dashed lines: digital rivals of a recipe.", figure,
        )  # fmt: skip
    if (figure := figures.ledgers(group, _CARD)) is not None:
        yield _Picture(
            "ledger", "Where the cells go",
            "Every cell, by what it holds; by rank. Bits are counted with the code that protects them. A bar with an "
            "arrow is cut.", figure,
        )  # fmt: skip
    if (figure := figures.by_layer(group, _CARD)) is not None:
        yield _Picture(
            "by-layer", f"Distortion of each layer {when(group.verdict.at)}",
            "Power of the weights over that of their errors, against the original network. Exact copies are left out.",
            figure,
        )  # fmt: skip
    for part, words in (("levels", "levels that hold bits"), ("analog", "analog cells")):
        if (found := group.with_cells(part)) is not None:
            yield from _cell_pictures(part, words, *found)


def _cell_pictures(part: str, words: str, scheme: str, sample: dict[str, Any]) -> Iterator[_Picture]:
    bands = "level" if part == "levels" else "quarter of the cells by programmed state"
    what = f"{scheme}: {sample['of']}" if part == "levels" else f"{scheme}: first plane of {sample['of']}"
    yield _Picture(
        f"{part}-histograms", f"States of {words}",
        f"{what}; {sample['sampled']:,} cells, a colour for each {bands}"
        + (", scaled to the same height." if part == "levels" else "."), cells.histograms(sample, _CARD, 340),
    )  # fmt: skip
    if (figure := cells.drift(sample, _CARD, 340)) is not None:
        yield _Picture(f"{part}-drift", f"Drift of {words}", f"Median and middle 90 % of each {bands}.", figure)
    if (figure := cells.conductance_map(sample, _CARD, 320)) is not None:
        yield _Picture(
            f"{part}-map", f"Map of {words}", f"{what}; one pixel a cell, one scale for both.", figure
        )  # fmt: skip
