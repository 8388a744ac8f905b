"""The command on compressors: which there are, and what one makes of a network before any cell is noisy."""

from __future__ import annotations

import json as json_format
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memristore.cli import app
from memristore.cli.options import Data, Json
from memristore.cli.output import Output
from memristore.errors import SpecError

if TYPE_CHECKING:
    from memristore.evaluate.rates import Rate
    from memristore.transform import Compressor


@app.command()
def compress(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Weights (.safetensors, .pt), or a task: cifar10, digits, mnist."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="A compressor, or several: low-rank:ratio=0.5,quantize:8")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting of the compressor; JSON or a word; repeat it."),
    ] = None,
    every: Annotated[bool, typer.Option("--list", help="List all compressors.")] = False,
    entropy: Annotated[bool, typer.Option("--entropy", help="Count bits after entropy coding.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="A line for each tensor too.")] = False,
    data: Data = None,
    json: Json = None,
) -> None:
    """Compress a network and show size, SDR and (for a task) accuracy; or list the compressors."""
    output = Output(json)
    if every:
        _list(output)
        return
    if model is None or method is None:
        raise SpecError("say which network and how: memristore compress MODEL --method M; or --list")
    chain = _chain(method, setting or [])
    from memristore.evaluate import tasks
    from memristore.evaluate.rates import compressed, rates
    from memristore.evaluate.weights import read_weights

    loaded = None if Path(model).exists() or not tasks.known(model) else tasks.get(model).load(data)
    source: Any = read_weights(model) if loaded is None else loaded.model
    prepared = compressed(source, chain, entropy=entropy)
    rows = rates(source, prepared)
    content: dict[str, Any] = {"model": model, "compress": [part.to_dict() for part in chain], "entropy": entropy}
    content["rows"] = [row.to_dict() for row in rows]
    _table(rows if tensors else rows[-1:], output)
    if loaded is not None:
        before = loaded.metric(loaded.model)
        loaded.model.load_state_dict(prepared.decode_clean())
        after = loaded.metric(loaded.model)
        content["accuracy"] = {"before": before, "after": after}
        output.line(f"accuracy on {model}: {100 * before:.2f} % before, {100 * after:.2f} % after")
    output.document("memristore.compress", 1, content)


def _chain(method: str, settings: list[str]) -> tuple[Compressor, ...]:
    from memristore.cli.words import parts
    from memristore.compress import compressors

    if not settings:
        return parts(method, compressors.__getitem__)
    given: dict[str, Any] = {"type": method}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals:
            raise SpecError(f"--set takes KEY=VALUE, not {word!r}")
        try:
            given[key] = json_format.loads(value)
        except ValueError:
            given[key] = value
    try:
        return (compressors.from_dict(given),)
    except TypeError as error:
        raise SpecError(f"{method}: {error}; give what is missing with --set") from error


def _list(output: Output) -> None:
    from rich.table import Table

    from memristore.compress import compressors

    table = Table("compressor", "what it does", "source")
    rows = []
    for name in compressors.names():
        kind = compressors[name]
        what = (kind.__doc__ or "").strip().split("\n")[0].split(". ")[0].rstrip(".")
        rows.append({"name": name, "what": what, "source": kind.source})
        table.add_row(name, what, kind.source)
    output.show(table)
    output.document("memristore.compressors", 1, {"compressors": rows})


def _table(rows: list[Rate], output: Output) -> None:
    from rich.table import Table

    kinds = sorted({kind for row in rows for kind in row.bits})
    table = Table(title="per weight of the original, before any channel", title_justify="left")
    for heading in ("tensor", "weights", "analog values", *(f"{kind} bits" for kind in kinds), "all bits", "SDR, dB"):
        table.add_column(heading, justify="left" if heading == "tensor" else "right")
    for row in rows:
        weights = max(1, row.weights)
        table.add_row(
            row.tensor,
            f"{row.weights:,}",
            f"{row.analog_values / weights:.4f}",
            *(f"{row.bits.get(kind, 0) / weights:.4f}" for kind in kinds),
            f"{row.bits_per_weight:.3f}",
            "exact" if row.sdr_db == math.inf else f"{row.sdr_db:.2f}",
        )
    output.show(table)
    output.line("all bits: an analog value counted as 32")
