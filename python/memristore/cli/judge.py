"""Commands that judge: demo, evaluate, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memristore.cli import app
from memristore.cli.options import Data, Json, Seed, Stored
from memristore.cli.output import Output, ensure_picture
from memristore.errors import SpecError

if TYPE_CHECKING:
    from memristore.evaluate import Attribution, Evaluation

_TRIALS = typer.Option("--trials", min=1, help="Independently programmed arrays.")
_TASK = typer.Option("--task", help="digits or mnist.")
_ANY_TASK = typer.Option("--task", help="digits, mnist, cifar10[:resnet32], imagenet[:NETWORK].")


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
    """Train a LeNet-5, store it on a device in ten ways, age it, read it back, and compare."""
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
    task: Annotated[str, _ANY_TASK] = "digits",
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
    reads: Annotated[int, typer.Option("--reads", min=1, help="Reads of each array at each time.")] = 1,
    precision: Annotated[
        float | None,
        typer.Option("--precision", help="Wanted half width of the 95 % interval, percentage points: more arrays."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--attribute", metavar="tensor|layer", help="Say which of them costs the accuracy.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw accuracy against time, or what each tensor costs."),
    ] = None,
    json: Json = None,
) -> None:
    """Judge a stored network by a task's test images, over times and independently programmed arrays."""
    from memristore.evaluate import tasks
    from memristore.evaluate.weights import load_file_into
    from memristore.stored import StoredModel

    output = Output(json)
    ensure_picture(plot)
    stored = StoredModel.open(file)
    loaded = tasks.get(task).load(data)
    if model is not None:
        load_file_into(loaded.model, model, task)
    given = (stored, loaded.model, loaded.metric)
    found: Any
    if by is None:
        found = _evaluated(given, at, trials, reads, precision, file.stem)
    else:
        found = _attributed(given, at, trials, by, file.stem)
    output.line(loaded.description)
    output.show(found.table())
    if plot is not None:
        found.plot(plot)
        output.line(f"wrote {plot}")
    document = {"file": str(file), "task": task, "description": loaded.description}
    schema = "memristore.evaluation" if by is None else "memristore.attribution"
    output.document(schema, 1, document | found.to_dict())


def _evaluated(
    given: tuple[Any, Any, Any], at: list[str] | None, trials: int, reads: int, precision: float | None, scheme: str
) -> Evaluation:
    from memristore.evaluate import evaluate as run

    points = None if precision is None else precision / 100
    times = at or ["0", "1 day", "1 year", "10 years"]
    return run(*given, at=times, trials=trials, reads=reads, precision=points, scheme=scheme)


def _attributed(given: tuple[Any, Any, Any], at: list[str] | None, trials: int, by: str, scheme: str) -> Attribution:
    from memristore.evaluate.attribution import attribute

    if at is not None and len(at) > 1:
        raise SpecError("evaluate: --attribute takes one --at")
    return attribute(*given, at=at[0] if at else "1 year", trials=trials, by=by, scheme=scheme)


@app.command()
def compare(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Weights (.safetensors, .pt), or a task: digits, mnist, cifar10, imagenet:NETWORK."
        ),
    ],
    device: Annotated[str, typer.Option(help="Device, or a device file (.toml).")] = "pcm-ibm-90nm",
    retention: Annotated[str, typer.Option(help="Time until which everything is to last.")] = "10 years",
    spec: Annotated[
        list[Path] | None,
        typer.Option(
            "--spec", metavar="FILE", help="Analog recipe as JSON, as often as wanted; default: four of ours."
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Digital formats, between commas.")
    ] = "fp32,fp16,bf16,int8,int4,int8 zero-space",
    trials: Annotated[int, _TRIALS] = 5,
    seed: Seed = 0,
    data: Data = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw accuracy or SDR against cells per weight.")
    ] = None,
    json: Json = None,
) -> None:
    """Put analog recipes beside every digital baseline, after the retention time and after ten times as long.

    Judged by the task's test images, or for a file of weights by their signal-to-distortion ratio.
    """
    from memristore.cli.words import spec_dict
    from memristore.evaluate import tasks
    from memristore.evaluate.compare import compare as run
    from memristore.evaluate.schemes import Scheme, digital_schemes
    from memristore.evaluate.weights import find_weights
    from memristore.spec import StorageSpec

    output = Output(json)
    ensure_picture(plot)
    analog = None
    if spec:
        recipes = {path.stem: StorageSpec.from_dict(spec_dict(path)) for path in spec}
        analog = [Scheme(name=name, spec=recipe) for name, recipe in recipes.items()]
    task = tasks.get(model).load(data) if tasks.known(model) and not Path(model).exists() else None
    found = run(
        find_weights(model, data) if task is None else task.model,
        device=device,
        retention=retention,
        analog=analog,
        digital=digital_schemes(device, retention, tuple(f.strip() for f in formats.split(",") if f.strip())),
        metric=None if task is None else task.metric,
        trials=trials,
        seed=seed,
        title=f"{model if task is None else task.description}, {device}, {retention}",
        report=output.line,
    )
    output.line("")
    output.show(found.table())
    if plot is not None:
        found.plot(plot)
        output.line(f"wrote {plot}")
    output.document("memristore.evaluation", 1, found.to_dict())
