"""Commands for many results: sweep runs them, report shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memristore.cli import app
from memristore.cli.options import Json
from memristore.cli.output import Output, complain, ensure_folder
from memristore.errors import FileError, SpecError, SweepError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from memristore.sweep import SweepResults

_EXECUTORS = ("processes", "dask", "mpi", "ray")
_EXPORTS = (".csv", ".parquet", ".json")


@contextmanager
def _executor(kind: str, address: str | None) -> Iterator[Executor | None]:
    """Executor by its word; None stands for processes of this machine."""
    if kind not in _EXECUTORS:
        raise SpecError(f"no executor is called {kind!r}; there are {', '.join(_EXECUTORS)}")
    if kind == "processes":
        yield None
        return
    try:
        if kind == "dask":
            from distributed import Client

            with Client(address) as client:
                yield client.get_executor()
        elif kind == "mpi":
            from mpi4py.futures import MPIPoolExecutor

            with MPIPoolExecutor() as pool:
                yield pool
        else:
            import ray

            from memristore.sweep import RayExecutor

            with ray.init(address=address, log_to_driver=False):
                yield RayExecutor()
    except ImportError as error:
        needed = {"dask": "distributed", "mpi": "mpi4py", "ray": "ray"}[kind]
        raise SpecError(f"the executor {kind!r} needs the package {needed}: pip install {needed} ({error})") from error


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep (.toml); docs/sweeps.md shows one.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File of results; goes on if it exists.")],
    executor: Annotated[
        str,
        typer.Option(help="processes, dask, ray, or mpi (under: mpiexec -n N python -m mpi4py.futures -m memristore)"),
    ] = "processes",
    address: Annotated[
        str | None, typer.Option(help="Scheduler of Dask or Ray; default: a cluster of this machine.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of this machine.")] = None,
    ahead: Annotated[
        int | None, typer.Option(min=1, help="Arrays handed out at a time; default: 2 per worker.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads in each worker.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed points again.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write results as .csv, .parquet or .json.")
    ] = None,
) -> None:
    """Run networks x recipes x devices x times x seeds. Stopped or killed, the same command goes on."""
    from memristore.sweep import Sweep, SweepResults, run_sweep

    output = Output(None)
    ensure_folder(out)
    if export is not None:
        ensure_folder(export)
        if export.suffix not in _EXPORTS:
            raise FileError(f"{export}: results are exported as {', '.join(_EXPORTS)}")
    planned = Sweep.from_file(file)
    output.line(f"{planned.name}: {len(planned)} results wanted")
    try:
        with _executor(executor, address) as pool:
            found = run_sweep(planned, out, pool, workers=workers, ahead=ahead, threads=threads, retry=retry)
    except SweepError:
        # Some arrays failed; the others are worth exporting.
        if export is not None and out.exists():
            with SweepResults(out) as found:
                _export(found, export, output)
        raise
    except KeyboardInterrupt:
        with SweepResults(out) as found:
            complain(f"stopped; {len(found)} results are in {out}, and the same command goes on")
        raise typer.Exit(130) from None
    with found:
        output.line(f"{out}: {len(found)} results, digest {found.digest()[:16]}")
        if export is not None:
            _export(found, export, output)
    output.line(f"see them with: memristore report {out}")


def _export(found: SweepResults, path: Path, output: Output) -> None:
    found.export(path)
    output.line(f"wrote {path}: {len(found)} results")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results, as 'memristore sweep' writes them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page; default: RESULTS with .html.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write every picture as PNG and SVG as well.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Read time that decides; default: the last.")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", min=0, help="What may be lost: percentage points (default 1), or metric units."),
    ] = None,
    at_least: Annotated[
        float | None, typer.Option("--at-least", help="A bound on the metric itself instead: percent, or its units.")
    ] = None,
    json: Json = None,
) -> None:
    """Make one HTML page, complete in itself, from a file of results; say who wins, and by how much."""
    from memristore.report import write_report
    from memristore.report.gathered import gather
    from memristore.sweep import SweepResults

    output = Output(json)
    page = results.with_suffix(".html") if out is None else out
    ensure_folder(page)
    if at_least is not None and not math.isfinite(at_least):
        raise SpecError(f"--at-least must be a finite number, not {at_least}")
    with SweepResults(results) as found:
        scales = {comparison.metric.scale for comparison in found.comparisons().values()}
        if len(scales) > 1 and (max_drop, at_least) != (None, None):
            raise SpecError(f"{results}: networks are judged by different metrics, so one bound cannot fit them all")
        drop = None if max_drop is None else max_drop / max(scales)
        least = None if at_least is None else at_least / max(scales)
        groups = gather(found, at=at, max_drop=drop, at_least=least)
        written = write_report(found, page, figures_to=figures, at=at, max_drop=drop, at_least=least)
    for group in groups:
        metric = group.comparison.metric
        output.line(f"{group.model} on {group.device}: {group.verdict.headline(metric)}")
        if sentence := group.verdict.sentence(metric):
            output.line(f"  {sentence}")
    for path in written:
        output.line(f"wrote {path}")
    output.document("memristore.report", 1, {"page": str(page), "groups": [group.to_dict() for group in groups]})
