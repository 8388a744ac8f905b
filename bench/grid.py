"""What training on a grid is worth for a pruned network at the cells that the search gives it.

python bench/grid.py --data DIR [--task mnist] [--quick] [--seeds 0 1 2] [--scale F] [--cells 1 0.85] [--start FILE]
                     [--json results.json]

ResNet-20, CIFAR-10, 90 % zeros, pcm-ibm-90nm, 1 year; or LeNet-5, MNIST, 95 % zeros, 10 years. The network is pruned
with fine-tuning in between. For each
seed it is then fine-tuned twice from the same start, on the same images at the same rates with the same teacher (the
unpruned network): once as usual, once with its weights on a grid and a price on their bits. The usual network is
stored by the family of recipes that `fit` finds best without training (batch norm calibrated, trellis-coded
quantisation spread by sensitivity^0.5), with the fewest cells that lose at most half a point; the other one with no
more cells; or both with a share of those cells. Drops are from the accuracy that the usual training reaches before any
cell. Bits come back as written, so that one array tells all. Batch norm is calibrated on 250 images for the usual
network, on 5,120 for the other. Goals: at most half the drop at the same cells; LeNet-5 at most 0.3 points below the
unpruned network.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import nn

import memristore as ms
from memristore.allocate import sensitivity
from memristore.errors import DataError
from memristore.evaluate import tasks
from memristore.evaluate.fit_calibrate import Calibration
from memristore.evaluate.fit_families import gains_of, quantised, tensors_of
from memristore.evaluate.fit_finetune import Finetune, Tuning, one_cycle
from memristore.evaluate.fit_search import Point, Search
from memristore.evaluate.tasks import Accuracy, Images, TaskData
from memristore.evaluate.tasks.augment import batches_of
from memristore.train import prune_and_finetune, robust_finetune

BOUND, START, PRUNING_STEPS, TRIES = 0.005, 14.0, 4, 4


@dataclass(frozen=True)
class Plan:
    """Images for pruning, for each fine-tuning, and to judge by."""

    pruning: int = 240_000
    tuning: int = 120_000
    judged: int = 10_000
    task: str = "cifar10"
    sparsity: float = 0.9
    retention: str = "1 year"
    rate: float = 0.02
    batch: int = 128

    @property
    def base(self) -> ms.StorageSpec:
        return ms.StorageSpec(device="pcm-ibm-90nm", retention=self.retention)


PLANS = {
    "cifar10": Plan(),
    "mnist": Plan(task="mnist", sparsity=0.95, retention="10 years"),
}


def tuned(model: nn.Module, data: TaskData, plan: Plan, count: int, seed: int) -> nn.Module:
    """Fine-tune as usual with a one-cycle schedule; zeros stay."""
    steps = -(-count // plan.batch)
    # The layout in which convolutions train faster on a CPU.
    laid, teacher = (copy.deepcopy(each).to(memory_format=torch.channels_last) for each in (model, data.model))
    return robust_finetune(
        laid, plan.base, lambda epoch: batches_of(data, count, batch=plan.batch, seed=seed, epoch=epoch),
        noise=None, teacher=teacher, kl=0.7, progress=sys.stderr.isatty(),
        optimizer=lambda p: torch.optim.SGD(p, lr=plan.rate, momentum=0.9, nesterov=True),
        scheduler=lambda o: one_cycle(o, steps),
    ).model.to(memory_format=torch.contiguous_format)  # fmt: skip


def pruned(data: TaskData, plan: Plan) -> nn.Module:
    """Return the common start."""

    def finetune(model: nn.Module, step: int) -> None:
        done = tuned(model, data, plan, plan.pruning // PRUNING_STEPS, 100 + step)
        model.load_state_dict(done.state_dict())

    return prune_and_finetune(data.model, ms.Prune(sparsity=plan.sparsity), finetune, steps=PRUNING_STEPS)


def search_of(model: nn.Module, data: TaskData, plan: Plan) -> tuple[Search, dict[str, float]]:
    """Return what `fit` would search with."""
    inputs = list(data.train.images[:500].split(250))
    found = dict(sensitivity.per_tensor(sensitivity.kl(model, inputs, draws=2, seed=0, progress=False)))
    metric = Accuracy(Images(data.test.images[: plan.judged], data.test.labels[: plan.judged]))
    return Search(
        model, metric, None, divergence=None, calibration=Calibration(model, inputs[:1]),
        at=plan.base.retention_seconds, trials=1, seed=0, progress=False, report=lambda line: None, threads=0,
    ), found  # fmt: skip


def grid(start: nn.Module, search: Search, known: dict[str, float], data: TaskData, plan: Plan, seed: int,
         usual: Point, cells: float) -> Point:  # fmt: skip
    """Train on a grid so that the network takes no more than so many cells; other goals are tried until it does."""
    settings = Finetune(
        loader=lambda _: batches_of(data, plan.tuning, seed=seed), rounds=1, rate=plan.rate, teacher=data.model
    )
    goal = 0.985 * cells
    for _ in range(TRIES):
        tuning = Tuning(search, plan.base, tensors_of(start, plan.base), known, settings, start=start)
        (found,) = tuning.run(usual, lambda point: 0.0, goal)
        if found.cells <= cells:
            return found
        goal *= 0.97 * cells / found.cells
    raise SystemExit(f"training does not get down to {cells:.3f} cells per weight in {TRIES} tries")


def begun(data: TaskData, plan: Plan, file: Path | None) -> nn.Module:
    """Return the common start: from a file where there is one, else pruned, and kept in it."""
    if file is None or not file.exists():
        start = pruned(data, plan)
        if file is not None:
            save_file(start.state_dict(), file)
        return start
    start = copy.deepcopy(data.model)
    start.load_state_dict(load_file(file))
    return start


def run(plan: Plan, given: argparse.Namespace) -> list[dict[str, Any]]:
    data = tasks.get(plan.task).load(given.data, progress=sys.stderr.isatty())
    start = begun(data, plan, given.start)
    whole = data.metric(data.model)
    rows: list[dict[str, Any]] = []
    for seed in given.seeds:
        began = time.perf_counter()
        model = tuned(start, data, plan, plan.tuning, seed)
        seconds = time.perf_counter() - began
        search, known = search_of(model, data, plan)
        tensors = tensors_of(model, plan.base)
        family = quantised(plan.base, tensors, gains_of(tensors, known, 0.5), "", calibrated=True)
        usual = search.least(family, START, BOUND, full=True)
        if usual is None:
            raise SystemExit("no recipe meets the bound")
        for share in given.cells:
            plain = usual if share == 1 else search.filling(family, share * usual.cells, usual.knob)
            if plain is None:
                print(f"seed {seed}: as usual there is no recipe of {share * usual.cells:.3f} cells", flush=True)
                continue
            began = time.perf_counter()
            trained = grid(start, search, known, data, plan, seed, usual, plain.cells)
            spent = {"as usual": seconds, "on a grid": time.perf_counter() - began}
            for name, point in (("as usual", plain), ("on a grid", trained)):
                row = replace(point, family=replace(point.family, name=f"{name}, {share:g}, seed {seed}"))
                judged = search.judge(row, full=True)
                rows.append({
                    "seed": seed, "share": share, "training": name, "clean": 100 * judged.clean,
                    "unpruned": 100 * whole, "stored": 100 * judged.results[0].mean,
                    "drop": 100 * search.drop(judged), "cells per weight": point.cells, "seconds": spent[name],
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    return rows


def of_usual(drop: float, usual: float) -> str:
    """Quotient of two drops, where there is one."""
    return f"{drop / usual:.2f}" if usual > 0 else "-"


def table(rows: list[dict[str, Any]]) -> Table:
    out = Table(
        "seed",
        "cells",
        "training",
        "cells/weight",
        "unpruned %",
        "clean %",
        "stored %",
        "drop, points",
        "of usual",
        "s",
    )
    for row in rows:
        usual = next(r for r in rows if (r["seed"], r["share"]) == (row["seed"], row["share"]))
        percent = [f"{row[name]:.2f}" for name in ("unpruned", "clean", "stored", "drop")]
        out.add_row(
            str(row["seed"]), f"{row['share']:g}", row["training"], f"{row['cells per weight']:.3f}", *percent,
            of_usual(row["drop"], usual["drop"]), f"{row['seconds']:.0f}",
        )  # fmt: skip
    for share in sorted({row["share"] for row in rows}):
        drops = {name: np.mean([r["drop"] for r in rows if (r["share"], r["training"]) == (share, name)])
                 for name in ("as usual", "on a grid")}  # fmt: skip
        out.add_row("all", f"{share:g}", "mean drop", "", "", "", "", " / ".join(f"{d:.2f}" for d in drops.values()),
                    of_usual(drops["on a grid"], drops["as usual"]), "")  # fmt: skip
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MEMRISTORE_DATA"), help="folder of the data sets")
    parser.add_argument("--task", choices=sorted(PLANS), default="cifar10")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="images trained on, times this")
    parser.add_argument("--cells", type=float, nargs="+", default=[1.0], help="shares of the usual one's cells")
    parser.add_argument("--start", type=Path, help="file (.safetensors) of the pruned network; written if absent")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    plan = PLANS[given.task]
    plan = replace(plan, pruning=3_840, tuning=2_560, judged=500) if given.quick else plan
    plan = replace(plan, pruning=int(plan.pruning * given.scale), tuning=int(plan.tuning * given.scale))
    console = Console(width=120)
    try:
        rows = run(plan, given)
    except DataError as error:
        console.print(f"skipped: {error}")
        return 0
    console.print(table(rows))
    if given.json:
        given.json.write_text(json.dumps({"rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
