"""The command on limits: what any code could reach at best on a device's cells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memristore.cli import app
from memristore.cli.options import Json
from memristore.cli.output import Output, ensure_picture
from memristore.errors import SpecError

if TYPE_CHECKING:
    from memristore.limits import Source


@app.command()
def limits(
    device: Annotated[str, typer.Option("--device", help="Device, or a device file (.toml).")] = "pcm-ibm-90nm",
    at: Annotated[list[str] | None, typer.Option("--at", help="Time since programming; repeat it for several.")] = None,
    cells: Annotated[
        list[float] | None, typer.Option("--cells", help="Cells per value; repeat it for several.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="What the values are: gaussian, laplacian, generalised-gaussian:0.6, spike-and-slab:0.9:laplacian, "
            "or a file of weights (.safetensors, .pt); repeat it for several.",
        ),
    ] = None,
    sdr: Annotated[float, typer.Option("--sdr", help="SDR in dB for which the fewest cells are given.")] = 20.0,
    write: Annotated[str | None, typer.Option(help="one-shot, program-and-verify:max_pulses=20")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a picture (.png, .pdf, .svg).")
    ] = None,
    json: Json = None,
) -> None:
    """Give a device's capacity over time, and the best signal-to-distortion ratio of values in its cells."""
    from memristore import devices
    from memristore.cli.cells import _write_kind
    from memristore.cli.words import part
    from memristore.limits import report

    output = Output(json)
    ensure_picture(plot)
    sources = {word: source_of(word) for word in source or ["gaussian", "laplacian"]}
    rows = report.rows(
        devices.get(device),
        at or report.TIMES,
        cells or report.CELLS,
        list(sources.values()),
        sdr=sdr,
        write=None if write is None else part(write, _write_kind),
    )
    # Rows run over times, then sources, then cells.
    words = [word for word in sources for _ in cells or report.CELLS]
    for k, row in enumerate(rows):
        row["source"] = {"word": words[k % len(words)], **row["source"]}
    _tables(rows, sdr, output)
    if plot is not None:
        from memristore.evaluate import limit_plots
        from memristore.evaluate.plots import save

        save(limit_plots.against_time(rows), plot)
        output.line(f"wrote {plot}")
    # JSON has no infinity: null stands for values kept exactly, and for an SDR that cells without capacity never give.
    finite = [{k: None if v in (math.inf, -math.inf) else v for k, v in row.items()} for row in rows]
    output.document("memristore.limits", 1, {"device": device, "sdr_db": sdr, "rows": finite})


def source_of(word: str) -> Source:
    """Source of a word, or the weights of a file."""
    from memristore.cli.words import part
    from memristore.limits import SOURCES, Empirical

    if Path(word).suffix in (".safetensors", ".pt", ".pth", ".bin"):
        from memristore.evaluate.weights import read_weights, scaled_values

        return Empirical.of(scaled_values(read_weights(word), word))

    def kind(name: str) -> type[Source]:
        if name not in SOURCES:
            raise SpecError(
                f"no source is called {name!r}; there are {', '.join(sorted(SOURCES))}, or a file of weights"
            )
        return SOURCES[name]

    return part(word, kind)


def _tables(rows: list[dict[str, Any]], sdr: float, output: Output) -> None:
    """Print one table for each source, a line for each time."""
    from rich.table import Table

    from memristore.units import format_time

    for word in dict.fromkeys(row["source"]["word"] for row in rows):
        mine = [row for row in rows if row["source"]["word"] == word]
        cells = list(dict.fromkeys(row["cells_per_value"] for row in mine))
        table = Table(title=f"{word} values on {mine[0]['device']}: best SDR in dB", title_justify="left")
        for heading in ("read after", "bits per cell", *(f"{c:g} cell{'' if c == 1 else 's'}/value" for c in cells)):
            table.add_column(heading, justify="left" if heading == "read after" else "right")
        table.add_column(f"cells/value for {sdr:g} dB", justify="right")
        for at in dict.fromkeys(row["at_seconds"] for row in mine):
            line = [row for row in mine if row["at_seconds"] == at]
            best = ["exact" if math.isinf(row["sdr_db"]) else f"{row['sdr_db']:.1f}" for row in line]
            fewest = line[0]["cells_for_sdr"]
            table.add_row(
                "at once" if at == 0 else format_time(at),
                f"{line[0]['capacity_bits']:.2f}",
                *best,
                "never" if math.isinf(fewest) else f"{fewest:.2f}",
            )
        output.show(table)
