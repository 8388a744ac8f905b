"""Does it pay to give cells to the tensors that need them? Accuracy at equal cells, CIFAR-10 on phase-change memory.

python bench/allocation.py                  2,000 test images, 12 arrays for each of four allocations
python bench/allocation.py --all            two allocations more
python bench/allocation.py --quick          500 test images, 4 arrays for each of three allocations
python bench/allocation.py --data DIR --planes 3 --retention "1 year" --json out.json

ResNet-20, trained, every weight repeated in `planes` cells on average, signs and batch-norm statistics as bits, read at
the end of the retention time. Sensitivities are measured on training images, accuracy on test images. Needs the data
and the weights of the task cifar10 in DIR (default: environment variable MEMRISTORE_CIFAR10, else ../shared/data); says
so and ends with 0 if they are absent. Ends with 1 if allocation by sensitivity is worse than another outside the 95 %
confidence intervals.

uniform           the same number of planes everywhere
per layer         every tensor counts alike, whatever its size and values
by squared error  every weight counts alike: least total squared error, which the magnitudes decide
by magnitude      weights count by the mean magnitude of their tensor
by fisher, by kl  weights count by the loss that their errors cause

With --trials 120: by kl 88.98 +- 0.17 %, by magnitude 88.41 +- 0.20 % (no noise 91.70); a dozen arrays tell both from
uniform (81 %), but not from each other.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

import memristore as ms
from memristore.allocate.sensitivity import fisher, kl, per_tensor
from memristore.evaluate.tasks import Accuracy, Cifar10, Images, TaskData

DATA = Path(os.environ.get("MEMRISTORE_CIFAR10", Path(__file__).resolve().parents[2] / "shared" / "data"))
OURS, PLAIN = ("by kl", "by fisher"), ("uniform", "per layer", "by squared error", "by magnitude")
QUICK = ("uniform", "by squared error", "by kl")
USUAL = ("uniform", "by squared error", "by magnitude", "by kl")
#: The age estimate of an array errs for all of its cells alike; enough reference cells make that small.
REFERENCES = 2048


def allocations(task: TaskData, planes: int, images: int) -> dict[str, ms.PerLayer | ms.Sensitive | None]:
    """Name to allocator; None is the same number of planes everywhere."""
    few = task.train.images[:images].split(50), task.train.labels[:images].split(50)
    batches = list(zip(*few, strict=True))
    parameters = dict(task.model.named_parameters())
    magnitude = tuple((name, float(p.detach().abs().mean())) for name, p in parameters.items())
    weights = {
        "by magnitude": magnitude,
        "by squared error": tuple((name, 1.0) for name in parameters),
        "by fisher": per_tensor(fisher(task.model, batches, draws=4)),
        "by kl": per_tensor(kl(task.model, batches, draws=4)),
    }
    found: dict[str, ms.PerLayer | ms.Sensitive | None] = {
        "uniform": None,
        "per layer": ms.PerLayer(mean=planes, maximum=15),
    }
    return found | {name: ms.Sensitive(mean=planes, sensitivity=pairs) for name, pairs in weights.items()}


def judge(task: TaskData, args: argparse.Namespace) -> list[ms.Evaluation]:
    console = Console(stderr=True)
    base = ms.StorageSpec(
        device=args.device,
        protect=(ms.Sign(),),
        code=ms.Repetition(planes=args.planes),
        retention=args.retention,
        compensation=ms.ReferenceCells(count=REFERENCES),
    )
    clean = task.metric(task.model)
    rows = []
    for name, allocation in allocations(task, args.planes, args.calibration).items():
        if not args.all and name not in (QUICK if args.quick else USUAL):
            continue
        start = time.perf_counter()
        prepared = ms.prepare(task.model, replace(base, allocation=allocation))
        row = ms.evaluate(
            prepared.program(seed=args.seed, trace=False),
            task.model,
            task.metric,
            at=args.retention,
            trials=args.trials,
            scheme=name,
            clean=clean,
            prepared=prepared,
        )
        rows.append(row)
        result = row.results[0]
        console.print(f"{name}: {100 * result.mean:.2f} %, {time.perf_counter() - start:.0f} s")
    return rows


def verdicts(rows: list[ms.Evaluation]) -> dict[str, str]:
    """For each pair: whether the 95 % confidence interval of ours lies above, below or across that of the other."""
    found = {row.scheme: row.results[0] for row in rows}
    said = {}
    for ours, plain in ((o, p) for o in OURS for p in PLAIN if o in found and p in found):
        room = (found[ours].ci95 or 1) + (found[plain].ci95 or 1)
        more = found[ours].mean - found[plain].mean
        said[f"{ours} over {plain}"] = "ahead" if more > room else "behind" if more < -room else "not told apart"
    return said


def show(rows: list[ms.Evaluation], task: TaskData, args: argparse.Namespace) -> None:
    title = f"{task.description}; {args.device}, {args.retention}, {args.planes:g} planes on average"
    table = Table(title=title, caption=f"accuracy, % ± 95 % confidence interval; no noise {100 * rows[0].clean:.2f}")
    for heading in ("allocation", "cells per weight", "accuracy", "worst array"):
        table.add_column(heading, justify="left" if heading == "allocation" else "right")
    for row in rows:
        result = row.results[0]
        spread = row.metric.text(result.mean, result.ci95)
        table.add_row(row.scheme, f"{row.cells_per_weight:.3f}", spread, row.metric.text(result.worst))
    Console(width=110).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="Accuracy by allocation at equal cells.")
    parser.add_argument("--quick", action="store_true", help="fewer images, arrays and allocations")
    parser.add_argument("--all", action="store_true", help="every allocation")
    parser.add_argument("--data", default=DATA, help="folder with CIFAR-10 and the weights")
    parser.add_argument("--device", default="pcm-ibm-90nm")
    parser.add_argument("--planes", type=int, default=2)
    parser.add_argument("--retention", default="10 years")
    parser.add_argument("--images", type=int, help="test images")
    parser.add_argument("--trials", type=int, help="arrays for each allocation")
    parser.add_argument("--calibration", type=int, help="training images that sensitivities are measured on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the results here")
    args = parser.parse_args()
    args.images = args.images or (500 if args.quick else 2000)
    args.trials = args.trials or (4 if args.quick else 12)
    args.calibration = args.calibration or (100 if args.quick else 500)
    try:
        task = Cifar10(train=args.calibration, test=args.images).load(args.data)
    except ms.DataError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    task = replace(task, metric=Accuracy(Images(task.test.images, task.test.labels), batch=100))
    rows = judge(task, args)
    show(rows, task, args)
    said = verdicts(rows)
    for pair, word in said.items():
        print(f"{pair}: {word}, by 95 % confidence intervals")
    if args.json:
        document = ms.Comparison(rows).to_dict() | {"verdicts": said}
        Path(args.json).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if "behind" in said.values() else 0


if __name__ == "__main__":
    sys.exit(main())
