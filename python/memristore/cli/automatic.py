"""The command that chooses a recipe: auto."""

from __future__ import annotations

from typing import Annotated

import typer

from memristore.cli import app
from memristore.cli.options import Data, Json
from memristore.cli.output import Output
from memristore.errors import SpecError


@app.command()
def auto(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Weights (.safetensors, .pt), or a task: cifar10, digits, mnist."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Instead of a model: gaussian, laplacian, spike-and-slab:0.9:laplacian, ..."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Device, or a device file (.toml).")] = "pcm-ibm-90nm",
    at: Annotated[str, typer.Option("--at", help="Time until which the values are to last.")] = "10 years",
    cells: Annotated[float | None, typer.Option("--cells", help="Most cells per value; gives the most SDR.")] = None,
    sdr: Annotated[float | None, typer.Option("--sdr", help="SDR in dB to reach; gives the fewest cells.")] = None,
    write: Annotated[str | None, typer.Option(help="one-shot, program-and-verify:max_pulses=20")] = None,
    data: Data = None,
    json: Json = None,
) -> None:
    """Choose protections, code and mapper by predicted efficiency, and say why.

    Without --cells and --sdr: what uses its cells best. The values of a model are those of its tensors of two or more
    dimensions, each scaled to unit deviation. The JSON document holds the recipe: 'memristore store --spec' takes it.
    """
    from memristore.cli.cells import _write_kind
    from memristore.cli.limits import source_of
    from memristore.cli.words import part
    from memristore.prediction import auto as choose

    if (model is None) == (source is None):
        raise SpecError("auto: give a model, or --source and no model")
    output = Output(json)
    if model is not None:
        from memristore.evaluate.weights import find_weights, scaled_values

        values = scaled_values(find_weights(model, data), model)
    choice = choose(
        source_of(source) if source is not None else values,
        device,
        at,
        cells=cells,
        sdr=sdr,
        write=None if write is None else part(write, _write_kind),
    )
    output.show(choice.table())
    output.line("")
    output.line(choice.why)
    output.document("memristore.auto", 1, {"device": device, "values": model or source, **choice.to_dict()})
