"""Reports: who wins and by how much, and a page that needs nothing but itself."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib import image
from typer.testing import CliRunner

from memristore import StorageSpec, Sweep, SweepModel, SweepResults, run_sweep, write_report
from memristore.cli import app
from memristore.errors import FileError, SpecError
from memristore.evaluate import Comparison, Evaluation, Metric, Result
from memristore.report import judge
from memristore.report.palette import ROLES
from system.sweep_runs import QUICK, write_sweep

#: A name that would break a page or a formula if it were not taken as text.
NASTY = 'a <u>&"x"</u> $\\frac{1}$'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two devices, an awkward name, a number format, a digital rival; two arrays, two times."""
    folder = tmp_path_factory.mktemp("report")
    write_sweep(folder)
    sweep = Sweep(
        name="R&D <sweep>",
        models={"net": SweepModel(weights=str(folder / "net.safetensors"))},
        specs={
            NASTY: StorageSpec.from_dict(QUICK),
            "sign": StorageSpec.from_dict({"protect": [{"type": "sign"}], **QUICK}),
        },
        devices=["awgn/20", "ideal"],
        times=[0, "1 year"],
        seeds=2,
        baselines=["int8", "digital-best"],
    )
    with ThreadPoolExecutor(1) as pool:
        run_sweep(sweep, folder / "r.db", pool, progress=False).close()
    return folder / "r.db"


@pytest.fixture(scope="module")
def said(results: Path) -> str:
    """What the command says that makes the page, its pictures as files, and a document."""
    folder = results.parent
    words = ["report", str(results), "--figures", str(folder / "new" / "figures"), "--at", "1 year", "--at-least", "5"]
    found = CliRunner().invoke(app, [*words, "--json", str(folder / "r.json")])
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def written(results: Path, said: str) -> list[Path]:
    """The page, and its pictures."""
    return [results.with_suffix(".html"), *sorted((results.parent / "new" / "figures").iterdir())]


@pytest.fixture(scope="module")
def text(written: list[Path]) -> str:
    return written[0].read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Ids, links and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.svg_texts: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "svg":
            self.svg_texts.append([])
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "xlink:href", "src") and value:
                self.links.append(value)

    def handle_data(self, data: str) -> None:
        if self.svg_texts and self.lasttag in ("text", "tspan"):
            self.svg_texts[-1].append(data)


def test_the_page_needs_nothing_but_itself(text: str) -> None:
    page = _Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert not page.tags & {"script", "link", "iframe", "u"}
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link[0] == "#"} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_pictures_follow_light_and_dark(text: str) -> None:
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.S))
    assert not [light for light, _ in ROLES.values() if light in pictures]
    assert set(re.findall(r"var\(--([a-z0-9]+)\)", pictures)) <= set(ROLES)
    assert "prefers-color-scheme: dark" in text
    assert '<meta name="viewport"' in text


def test_the_first_picture_names_winner_and_margin(results: Path, text: str) -> None:
    with SweepResults(results) as found:
        rows = {row.scheme: row for row in found.comparisons()["net", "awgn/20"]}
        kinds = {r["scheme"]: r["kind"] for r in found.recipes() if r["device"] == "awgn/20"}
    verdict = judge(Comparison(list(rows.values())), kinds, at_least=5)
    assert verdict.winner is not None
    assert verdict.baseline is not None
    words = " ".join(_Page(text).svg_texts[0])
    assert verdict.winner.scheme in words
    assert f"{verdict.winner.cells_per_weight:.3g} cells per weight" in words
    assert f"{verdict.saved(verdict.baseline):.2g}× fewer than int8" in words


def test_figures_are_written_as_files(written: list[Path]) -> None:
    names = {path.name for path in written[1:]}
    stems = (
        "accuracy-against-cells",
        "over-time",
        "ledger",
        "by-layer",
        "levels-histograms",
        "analog-histograms",
        "analog-map",
    )
    assert {f"net-awgn-20-{stem}.{ending}" for stem in stems for ending in ("png", "svg")} <= names
    for path in written[1:]:
        if path.suffix == ".png":
            assert image.imread(path)[..., :3].std() > 0.02


def test_an_unfinished_sweep_says_so(results: Path, tmp_path: Path) -> None:
    with SweepResults(results) as found, SweepResults(tmp_path / "part.db", create=True) as part:
        found.db.backup(part.db)
        part.db.execute("UPDATE points SET state = 'open' WHERE seed = 1")
        part.db.execute("UPDATE recipes SET portrait = NULL")
    write_report(tmp_path / "part.db", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not complete yet: 20 results to come" in text
    assert "No winner named" in text
    with SweepResults(tmp_path / "empty.db", create=True), pytest.raises(FileError, match="no results yet"):
        write_report(tmp_path / "empty.db", tmp_path / "e.html")


def test_options_are_checked(results: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not both"):
        write_report(results, tmp_path / "r.html", at_least=1, max_drop=1)
    with pytest.raises(SpecError, match="nothing was read after 2 years; there are 0, 1 year"):
        write_report(results, tmp_path / "r.html", at="2 years")
    with pytest.raises(FileError, match="cannot be written"):
        write_report(results, tmp_path / "no" / "r.html")


def test_the_command_line(results: Path, said: str, tmp_path: Path) -> None:
    document = json.loads((results.parent / "r.json").read_text())
    assert document["schema"] == "memristore.report"
    assert [group["device"] for group in document["groups"]] == ["awgn/20", "ideal"]
    for group in document["groups"]:
        assert f"net on {group['device']}: {group['winner']} wins with" in said
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "none.db")])
    assert missing.exit_code == 2
    assert "no such file of results" in missing.stderr


# -- the verdict -------------------------------------------------------------------------------------------------------

ACCURACY = Metric(name="accuracy", unit="fraction")
LOSS = Metric(name="loss", higher_is_better=False)


def row(name: str, cells: float, *values: float, clean: float = 0.9, metric: Metric = ACCURACY) -> Evaluation:
    result = Result(at_seconds=1.0, values=values, higher_is_better=metric.higher_is_better)
    return Evaluation(
        scheme=name, metric=metric, cells_per_weight=cells, clean=clean, compressed=clean, results=(result,)
    )


KINDS = {
    "cheap": "recipe",
    "good": "recipe",
    "best": "recipe",
    "int8": "baseline",
    "fp32": "baseline",
    "rival": "rival",
}


def test_the_fewest_cells_that_are_good_enough_win() -> None:
    rows = [
        row("fp32", 16, 0.9),
        row("best", 3, 0.9),
        row("good", 2, 0.894),
        row("int8", 4, 0.9),
        row("cheap", 1, 0.88),
    ]
    verdict = judge(Comparison(rows), KINDS)
    assert [r.scheme for r in verdict.order] == ["good", "best", "int8", "fp32", "cheap"]
    assert verdict.good == 4
    assert verdict.baseline is not None
    assert verdict.baseline.scheme == "int8"
    assert [(r.scheme, factor) for r, factor in verdict.margins()] == [("best", 1.5), ("int8", 2.0), ("fp32", 8.0)]
    assert verdict.headline(ACCURACY) == "good wins with 2 cells per weight"
    assert "1.5 times fewer than best; 2 times fewer than int8; 8 times fewer than fp32" in verdict.sentence(ACCURACY)


def test_the_bound_may_be_moved_and_missed() -> None:
    rows = Comparison([row("good", 2, 0.894), row("cheap", 1, 0.88), row("int8", 4, 0.9)])
    assert judge(rows, KINDS, max_drop=0.03).order[0].scheme == "cheap"
    assert judge(rows, KINDS, at_least=0.9).order[0].scheme == "int8"
    lost = judge(rows, KINDS, at_least=0.95)
    assert (lost.winner, lost.runner_up, lost.baseline, lost.margins()) == (None, None, None, [])
    assert "No recipe keeps accuracy at 95.00" in lost.headline(ACCURACY)
    # A mean that is exactly at the bound is good enough, whatever its floating-point remainder.
    assert judge(Comparison([row("cheap", 1, 0.7, 0.9)]), KINDS, max_drop=0.1).winner is not None


def test_less_may_be_better_and_a_bound_unknown() -> None:
    rows = [row("good", 2, 0.5, clean=0.4, metric=LOSS), row("cheap", 1, 0.9, clean=0.4, metric=LOSS)]
    assert judge(Comparison(rows), KINDS).winner is None
    verdict = judge(Comparison(rows), KINDS, max_drop=0.2)
    assert [r.scheme for r in verdict.order] == ["good", "cheap"]
    assert verdict.good == 1
