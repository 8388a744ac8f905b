"""What training through the channel is worth: pruned networks stored and read back, with and without it.

python bench/robust.py --data DIR [--quick] [--only mnist|cifar10] [--seeds 3] [--scale F] [--json results.json]

A trained network is pruned with fine-tuning in between, then fine-tuned further twice from the same start, on the same
images in the same order, at the same rates, with the same teacher (the unpruned network): once without noise and once
with the storage channel in every forward pass. Both are stored with the same recipe on arrays of their own. Two drops
are shown: from the accuracy that the training without noise reaches before any cell (what training for noise costs
there is part of it), and from the network's own accuracy before any cell. Data that are missing are named and skipped.

    mnist    LeNet-5, 95 % zeros, pcm-ibm-90nm, 10 years; goal: within 0.3 points of the unpruned network without noise
    cifar10  ResNet-20, 90 % zeros, pcm-ibm-90nm, 1 year; goal: half the drop of the training without noise
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import memristore as ms
from memristore.errors import DataError
from memristore.evaluate import tasks
from memristore.evaluate.tasks import Accuracy, Images, TaskData
from memristore.evaluate.tasks.augment import batches_of
from memristore.train import prune_and_finetune, robust_finetune


@dataclass(frozen=True)
class Plan:
    """What is done on one task; counts of images are for each seed."""

    task: str
    sparsity: float
    at: str
    batch: int
    rate: float
    pruning: int
    tuning: int
    judged: int
    trials: int
    flip: bool = False

    @property
    def spec(self) -> ms.StorageSpec:
        protect, mapper = (ms.Sparsity(), ms.Sign()), ms.Companded(at=self.at)
        return ms.StorageSpec(device="pcm-ibm-90nm", protect=protect, mapper=mapper, retention=self.at)


PLANS = {
    "mnist": Plan("mnist", 0.95, "10 years", 128, 0.05, 300_000, 300_000, 10_000, 10),
    "cifar10": Plan("cifar10", 0.90, "1 year", 128, 0.02, 160_000, 80_000, 2_000, 5, flip=True),
}
QUICK = {
    "mnist": Plan("mnist", 0.95, "10 years", 128, 0.05, 48_000, 48_000, 2_000, 3),
    "cifar10": Plan("cifar10", 0.90, "1 year", 128, 0.02, 3_840, 2_560, 500, 3, flip=True),
}
PRUNING_STEPS = 4


def tuned(
    model: nn.Module, data: TaskData, plan: Plan, count: int, seed: int, rate: float, **options: Any
) -> nn.Module:
    """Fine-tune on `count` images with a one-cycle schedule."""
    steps = -(-count // plan.batch)
    return robust_finetune(
        model, plan.spec, lambda epoch: batches_of(data, count, batch=plan.batch, seed=seed, epoch=epoch), epochs=1,
        teacher=data.model,
        optimizer=lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9, nesterov=True, weight_decay=1e-4),
        scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, rate, total_steps=steps, pct_start=0.2),
        seed=seed, refresh=50, **options,
    ).model  # fmt: skip


def pruned(data: TaskData, plan: Plan, seed: int) -> nn.Module:
    def finetune(model: nn.Module, step: int) -> None:
        count = plan.pruning // PRUNING_STEPS
        done = tuned(model, data, plan, count, 100 * seed + step, plan.rate, noise=None)
        model.load_state_dict(done.state_dict())

    return prune_and_finetune(data.model, ms.Prune(sparsity=plan.sparsity), finetune, steps=PRUNING_STEPS)


def judged(model: nn.Module, data: TaskData, plan: Plan, seed: int) -> dict[str, float]:
    """Accuracy without noise and from arrays, per cent; all cells over all weights."""
    metric = Accuracy(Images(data.test.images[: plan.judged], data.test.labels[: plan.judged]))
    stored = ms.store(model, plan.spec, seed=seed)
    found = ms.evaluate(stored, model, metric, at=plan.at, trials=plan.trials, progress=False)
    values = 100 * np.array(found.results[0].values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    return {
        "clean": 100 * found.clean, "stored": float(values.mean()), "interval": float(half),
        "cells per weight": found.cells_per_weight,
    }  # fmt: skip


def run(plan: Plan, data_dir: Path, seeds: int, say: Any) -> list[dict[str, Any]]:
    data = tasks.get(plan.task).load(data_dir, progress=sys.stderr.isatty())
    metric = Accuracy(Images(data.test.images[: plan.judged], data.test.labels[: plan.judged]))
    unpruned = 100 * metric(data.model)
    say(f"{plan.task}: {data.description}; unpruned {unpruned:.2f} % on {plan.judged} images")
    rows = []
    start = pruned(data, plan, 0)
    for seed in range(seeds):
        for name, noise in (("without noise", None), ("through the channel", "channel")):
            began = time.perf_counter()
            clip = None if noise is None else 3.0
            model = tuned(start, data, plan, plan.tuning, seed, plan.rate, noise=noise, clip=clip)
            row = {"task": plan.task, "seed": seed, "training": name, "unpruned": unpruned}
            row |= {"seconds": time.perf_counter() - began, **judged(model, data, plan, seed)}
            rows.append(row)
            stored = f"{row['stored']:.2f} ± {row['interval']:.2f} % stored"
            say(f"  seed {seed}, {name}: {row['clean']:.2f} % clean, {stored}")
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    out = Table(
        "task",
        "seed",
        "training",
        "clean %",
        "stored %",
        "drop",
        "of without",
        "own drop",
        "of without",
        "cells/weight",
        "s",
    )
    for row in rows:
        without = next(r for r in rows if (r["task"], r["seed"], r["training"]) ==
                       (row["task"], row["seed"], "without noise"))  # fmt: skip
        row["drop"] = without["clean"] - row["stored"]
        row["own drop"], lost = row["clean"] - row["stored"], max(without["clean"] - without["stored"], 1e-9)
        row["ratio"] = row["drop"] / lost
        out.add_row(
            row["task"], str(row["seed"]), row["training"], f"{row['clean']:.2f}",
            f"{row['stored']:.2f} ± {row['interval']:.2f}", f"{row['drop']:.2f}", f"{row['ratio']:.2f}",
            f"{row['own drop']:.2f}", f"{row['own drop'] / lost:.2f}",
            f"{row['cells per weight']:.3f}", f"{row['seconds']:.0f}",
        )  # fmt: skip
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MEMRISTORE_DATA"), help="folder of the data sets")
    parser.add_argument("--only", choices=sorted(PLANS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="images trained on, times this")
    parser.add_argument("--judged", type=int, help="test images")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    console = Console(width=140)
    plans = {
        name: replace(
            plan, pruning=int(plan.pruning * given.scale), tuning=int(plan.tuning * given.scale),
            judged=given.judged or plan.judged,
        )
        for name, plan in (QUICK if given.quick else PLANS).items()
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for name in [given.only] if given.only else sorted(plans):
        try:
            rows += run(plans[name], given.data, given.seeds, partial(print, flush=True))
        except DataError as error:
            console.print(f"{name}: skipped, {error}")
    if rows:
        console.print(table(rows))
        if given.json:
            given.json.write_text(json.dumps({"plans": [asdict(p) for p in plans.values()], "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
