"""The command that searches for the cheapest recipe: fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from memristore.cli import app
from memristore.cli.options import Data, Json, Seed
from memristore.cli.output import Output, ensure_folder, ensure_picture
from memristore.errors import FileError, SpecError

if TYPE_CHECKING:
    from memristore.evaluate.fit_finetune import Finetune
    from memristore.evaluate.fit_result import FitResult
    from memristore.evaluate.tasks import Accuracy, TaskData

#: Share of the images for fine-tuning that the first of several rounds gets.
_FIRST_ROUND: Final = 0.75
#: Training images for the predicted loss, how many at a time, and test images for the search.
_IMAGES: Final = 750
_BATCH: Final = 250
#: The same for images that are more than so many pixels wide, whose activations take the memory.
_WIDE: Final = 100
_WIDE_IMAGES: Final = 100
_WIDE_BATCH: Final = 50
#: Fewer test images than this are too few to count right answers on: a point of accuracy is lost in the noise.
_MANY: Final = 1000


Network = Annotated[
    str | None, typer.Option("--network", "--model", help="Network of the task, for example resnet32, mobilenet_v2.")
]
Whose = Annotated[
    str | None,
    typer.Option(
        "--task", help="For a file of weights: task that they are judged (and trained) by, whose network they fit."
    ),
]
Images = Annotated[
    int | None,
    typer.Option("--finetune", min=1, metavar="IMAGES", help="Fine-tune as well, on so many training images."),
]
Holdout = Annotated[
    float | None, typer.Option("--holdout", help="Share of the test images that only the result is judged by.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the recipe, for 'store --spec'.")]
WeightsOut = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="Write the weights that go into the recipe.")
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the metric against cells per weight.")]


@app.command()
def fit(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A task (cifar10, digits, imagenet, mnist), or weights (.safetensors, .pt)."
        ),
    ],
    whose: Whose = None,
    network: Network = None,
    device: Annotated[str, typer.Option(help="Device, or a device file (.toml).")] = "pcm-ibm-90nm",
    retention: Annotated[str, typer.Option(help="Time until which the network is to last.")] = "10 years",
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", min=0, help="Accuracy that may be lost, percentage points.")
    ] = None,
    budget: Annotated[float | None, typer.Option("--budget", help="Cells per weight, instead of --max-drop.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Independently programmed arrays.")] = 5,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images for most of the search.")] = 2000,
    holdout: Holdout = None,
    baselines: Annotated[bool, typer.Option(help="Judge all digital number formats as well.")] = True,
    finetune: Images = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of fine-tuning.")] = 1,
    goal: Annotated[
        float | None, typer.Option("--goal", help="Cells per weight that the first round of fine-tuning aims at.")
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    out: Out = None,
    weights: WeightsOut = None,
    plot: Plot = None,
    json: Json = None,
) -> None:
    """Find the recipe with the fewest cells that keeps a network good enough, without retraining or with --finetune.

    Judged by the task's test images; a file of weights without a --task, of which nothing else is known, by its
    signal-to-distortion ratio under a --budget.
    """
    from memristore.evaluate.fit import fit as run
    from memristore.evaluate.weights import find_weights

    output = Output(json)
    for path in filter(None, (out, weights)):
        ensure_folder(path)
    ensure_picture(plot)
    if (max_drop is None) == (budget is None):
        raise SpecError("give --max-drop (percentage points) or --budget (cells per weight), one of them")
    task, own = _task(model, whose, network, data, needed=budget is None)
    task, held = (task, None) if holdout is None else _split(model, task, holdout)
    found = run(
        find_weights(model, data) if task is None else task.model,
        device,
        None if task is None else task.metric,
        retention,
        max_drop=None if max_drop is None else max_drop / 100,
        budget=budget,
        holdout=held,
        trials=trials,
        baselines=baselines,
        finetune=_finetune(model, own, finetune, rounds, goal, seed),
        seed=seed,
        title=f"{_described(model, task, held)}, {device}, {retention}",
        report=output.line,
        **({} if task is None else _task_data(task, images)),
    )
    _show(found, output, out, weights, plot)


def _task(
    model: str, whose: str | None, network: str | None, data: Path | None, *, needed: bool
) -> tuple[TaskData | None, TaskData | None]:
    """The task, with a file's weights where those are given, and with its own network, to learn from."""
    from memristore.evaluate import tasks
    from memristore.evaluate.weights import is_file, load_file_into

    file = is_file(model)
    if whose is not None:
        if not file:
            raise SpecError(f"{model}: is a task itself; --task goes with a file of weights")
        own = tasks.get(whose, network).load(data)
        given = load_file_into(copy.deepcopy(own.model), model, whose)
        return replace(own, model=given, description=f"{model}, {own.description}"), own
    if not file:
        own = tasks.get(model, network).load(data)
        return own, own
    if network is not None:
        raise SpecError(f"{model}: --network {network} says which network of a task; give --task as well")
    if needed:
        raise SpecError(f"{model}: nothing tells how accurate bare weights are; give --task, or --budget")
    return None, None


def _described(model: str, task: TaskData | None, held: Accuracy | None) -> str:
    """What is fitted, in words."""
    if task is None:
        return model
    return task.description if held is None else f"{task.description}, {len(held.test)} held out"


def _show(found: FitResult, output: Output, out: Path | None, weights: Path | None, plot: Path | None) -> None:
    """Print the result and write what was asked for."""
    from memristore.evaluate.weights import write_weights

    output.line("")
    output.show(found.table())
    output.line("")
    for sentence in found.sentences():
        output.line(f"- {sentence}")
    if plot is not None:
        found.plot(plot)
        output.line(f"wrote {plot}")
    if out is not None:
        _write(found.spec.to_dict(), out)
        output.line(f"wrote {out}")
    if weights is not None:
        network = found.network
        write_weights(network if isinstance(network, Mapping) else network.state_dict(), weights)
        output.line(f"wrote {weights}")
    output.document("memristore.fit", 1, found.to_dict())


def _split(model: str, task: TaskData | None, share: float) -> tuple[TaskData, Accuracy]:
    """The task with the rest of its test images, and the accuracy on those held out."""
    if task is None:
        raise SpecError(f"{model}: bare weights are judged without images, so that none can be held out; give --task")
    held, rest = task.test.split(share)
    return replace(task, test=rest, metric=replace(task.metric, test=rest)), replace(task.metric, test=held)


def _task_data(task: TaskData, images: int) -> dict[str, Any]:
    """Inputs for the predicted loss, none of which is judged by, and the metric for the search on some test images."""
    from memristore.evaluate.tasks import Expected

    few = replace(task.metric, test=task.test.first(images))
    wide = task.test.images.shape[-1] > _WIDE
    some, batch = (_WIDE_IMAGES, _WIDE_BATCH) if wide else (_IMAGES, _BATCH)
    batches = [inputs for inputs, _ in task.train.first(some).batches(batch)]
    quick = Expected(few, task.model) if len(few.test) < _MANY else few if len(few.test) < len(task.test) else None
    return {"batches": batches or None, "quick": quick}


def _finetune(
    model: str, task: TaskData | None, images: int | None, rounds: int, goal: float | None, seed: int
) -> Finetune | None:
    """Shifted and mirrored training images, most of them in the first round; the task's own network teaches."""
    from memristore.evaluate.fit_finetune import Finetune
    from memristore.evaluate.tasks.augment import Batches, batches_of

    if images is None:
        if rounds > 1 or goal is not None:
            raise SpecError("--rounds and --goal go with --finetune: give the number of training images")
        return None
    if task is None:
        raise SpecError(f"{model}: bare weights cannot be fine-tuned; give --task")
    first = images if rounds == 1 else math.ceil(_FIRST_ROUND * images)
    rest = math.ceil((images - first) / max(rounds - 1, 1))

    def batches(number: int) -> Batches:
        return batches_of(task, max(rest if number else first, 1), seed=seed, epoch=number)

    return Finetune(loader=batches, rounds=rounds, goal=goal, teacher=task.model)


def _write(recipe: dict[str, Any], path: Path) -> None:
    """Write a recipe as 'memristore store --spec' reads it."""
    import json

    try:
        path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error})") from error
