"""Commands that judge: demo, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memristore.cli import app
from memristore.cli.options import Data, Json, Seed, Stored
from memristore.cli.output import Output
from memristore.errors import TensorError

_TRIALS = typer.Option("--trials", min=1, help="Independently programmed arrays.")
_TASK = typer.Option("--task", help="digits or mnist")


@app.command()
def demo(
    task: Annotated[str, _TASK] = "digits",
    data: Data = None,
    device: Annotated[str, typer.Option(help="Device.")] = "pcm-ibm-90nm",
    trials: Annotated[int, _TRIALS] = 10,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the picture and the JSON.")] = Path("."),
    json: Json = None,
) -> None:
    """Train a LeNet-5, store it on a device in nine ways, age it, read it back, and compare."""
    from memristore.evaluate.demo import FP32, SCHEMA, VERSION, demo_folder, run_demo, write_demo

    output = Output(json)
    demo_folder(out)  # a folder that cannot be made should be known before minutes of work
    found = run_demo(task, data, device, trials, seed, report=output.line)
    output.line("")
    output.show(found.comparison.table(baseline=FP32))
    output.line("")
    for sentence in found.conclusions():
        output.line(f"- {sentence}")
    output.line("")
    picture, document = write_demo(found, out, json)
    output.line(f"wrote {picture}" + (f" and {document}" if document else ""))
    if json == "-":
        output.document(SCHEMA, VERSION, found.to_dict())


@app.command()
def evaluate(
    file: Stored,
    task: Annotated[str, _TASK] = "digits",
    data: Data = None,
    model: Annotated[
        str | None,
        typer.Option(help="Weights that were stored (.safetensors, .pt), if not those of the task's own network."),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", help="Read time, as often as wanted; default: 0, '1 day', '1 year', '10 years'."),
    ] = None,
    trials: Annotated[int, _TRIALS] = 10,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw accuracy against time."),
    ] = None,
    json: Json = None,
) -> None:
    """Judge a stored network by a task's test images, over times and independently programmed arrays."""
    from memristore.evaluate import evaluate as run
    from memristore.evaluate import tasks
    from memristore.evaluate.weights import read_weights
    from memristore.stored import StoredModel

    output = Output(json)
    stored = StoredModel.open(file)
    loaded = tasks.get(task).load(data)
    network = loaded.model
    if model is not None:
        try:
            network.load_state_dict(read_weights(model))
        except RuntimeError as error:
            raise TensorError(f"{model}: these weights do not fit the network of {task}: {error}") from error
    times = at or ["0", "1 day", "1 year", "10 years"]
    found = run(stored, network, loaded.metric, at=times, trials=trials, scheme=file.stem)
    output.line(loaded.description)
    output.show(found.table())
    if plot is not None:
        found.plot(plot)
        output.line(f"wrote {plot}")
    document = {"file": str(file), "task": task, "description": loaded.description}
    output.document("memristore.evaluation", 1, document | found.to_dict())
