"""A network of ImageNet's scale: what storage adds to the time and the memory of evaluating it.

python bench/imagenet.py                        ResNet-50 (25.6 million weights), 1,000 images of 224x224
python bench/imagenet.py --images 200 --depth 18
python bench/imagenet.py --json imagenet.json

Weights and images are random: time and memory do not depend on them. Storage (store, age, read, load, beginning to
end) and inference take turns in one process, so that a machine that is busy slows both; seconds by the clock and of
the processor are shown, and their ratios. Memory is the largest resident size during `evaluate`, beyond what the
process took for inference with the same network on the same images, in units of the network's own size.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from chain import forget_peak, resident_mib
from torch import nn

import memristore as ms
from memristore import _core
from memristore.evaluate.memory import give_back
from memristore.evaluate.tasks import Accuracy, Images
from memristore.evaluate.tasks.imagenet_resnet import DEPTHS, ImageNetResNet
from memristore.planes import LARGE

#: Rounds of storage and inference in turn.
ROUNDS = 4
#: Images that storage is compared with; fewer may be run, and are scaled up.
PER = 1000
#: What is asked for: storage within this share of the time of inference, this much memory beyond it.
SHARE, MEMORY = 0.03, 2.2


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def random_images(count: int, batch: int) -> Accuracy:
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 1000, (count,), generator=draw)
    return Accuracy(Images(pixels, labels, (124.0, 116.0, 104.0), (0.017, 0.0175, 0.0174)), batch)


def times(model: nn.Module, spec: ms.StorageSpec, metric: Accuracy, at: str, threads: int) -> dict[str, Any]:
    """Storage of the whole network against inference over all images, in rounds."""

    def storage() -> None:
        ms.store(model, spec, seed=0, threads=threads).load_into(model, at=at, threads=threads)

    storage()  # device tables are made once per process
    parts = list(metric.test.images.split(-(-len(metric.test) // ROUNDS)))
    judges = [
        Accuracy(Images(p, torch.zeros(len(p)), metric.test.offset, metric.test.scale), metric.batch) for p in parts
    ]
    judges[0](model)
    stored, inferred = [], []
    for judge in judges:
        stored.append(timed(storage))
        inferred.append(timed(lambda judge=judge: judge(model)))
    out: dict[str, Any] = {}
    scale = PER / len(metric.test)
    for i, kind in enumerate(("wall", "processor")):
        storing, running = statistics.median(s[i] for s in stored), scale * sum(s[i] for s in inferred)
        out[kind] = {"storage_s": storing, "inference_s": running, "share": storing / running}
    return out


def memory(model: nn.Module, spec: ms.StorageSpec, metric: Accuracy, at: list[str], threads: int) -> dict[str, Any]:
    """Peaks beyond inference, in sizes of the network, of `evaluate` with a recipe and with an array."""
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**20
    ms.evaluate(spec, nn.Linear(40, 40), lambda m: 0.0, at=at, trials=2, progress=False)
    metric(model)
    # Freed memory that the process still holds must count neither for inference nor against it.
    inference = 0.0
    for _ in range(3):
        give_back(LARGE + 1)
        forget_peak()
        metric(model)
        inference = max(inference, resident_mib(True))
    found: dict[str, float] = {}
    gc.collect()
    for name, given in (("recipe, one time", at[:1]), ("recipe, two times", at[:2])):
        give_back(LARGE + 1)
        forget_peak()
        ms.evaluate(spec, model, metric, at=given, trials=2, progress=False, threads=threads)
        found[name] = (resident_mib(True) - inference) / size
    stored = ms.store(model, spec, seed=0, trace=False, threads=threads)
    give_back(LARGE + 1)
    forget_peak()
    ms.evaluate(stored, model, metric, at=at[:1], trials=2, progress=False, threads=threads)
    found["array given, one time"] = (resident_mib(True) - inference) / size
    return {"model_mib": size, "inference_mib": inference, "beyond_inference": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, choices=list(DEPTHS), default=50, help="layers of the residual network")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2, help="of torch and of the kernels")
    parser.add_argument("--only", choices=("time", "memory"))
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = ImageNetResNet(args.depth).eval()
    weights = sum(t.numel() for t in model.state_dict().values())
    spec = ms.StorageSpec(device="pcm-ibm-90nm", retention="1 year", protect=(ms.Sign(), ms.AdaptiveRange()))
    load = os.getloadavg()[0]
    print(f"ResNet-{args.depth}, {weights:,} weights; {args.images} images; {args.threads} threads, {_core.isa()}")
    print(f"load average {load:.2f}, torch {torch.__version__}", flush=True)
    result: dict[str, Any] = {"depth": args.depth, "images": args.images, "threads": args.threads, "load": load}
    if args.only != "time":
        result["memory"] = memory(model, spec, random_images(4, 4), ["1 year", "1 day"], args.threads)
        print(f"memory: network {result['memory']['model_mib']:.0f} MiB")
        for name, peak in result["memory"]["beyond_inference"].items():
            print(f"  evaluate, {name}: {peak:.2f} x the network beyond inference (asked: {MEMORY})", flush=True)
    if args.only != "memory":
        result["time"] = times(model, spec, random_images(args.images, args.batch), "1 year", args.threads)
        for kind, row in result["time"].items():
            print(
                f"{kind} time: store + age + read + load {row['storage_s']:.2f} s, {PER} images "
                f"{row['inference_s']:.1f} s: {100 * row['share']:.2f} % (asked: {100 * SHARE:.0f} %)"
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
