"""Store and read back a network's worth of weights, stage by stage: seconds, cells, distortion, memory.

python bench/chain.py                      25.6 million float32 weights, sign + adaptive range, one cell per weight
python bench/chain.py --tensors 161        the same in 161 tensors of one size
python bench/chain.py --tensors resnet50   the same in 161 tensors of the sizes that ResNet-50 has
python bench/chain.py --weights 1e6 --tensors 50 --json chain.json

Memory is what the process has resident beyond what it had when only the library, the device tables and the model were
there, plus the model: so the model counts once. `store` has its cells beside the model, and `load` its result beside
the cells (and the model, unless --drop-model).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import memristore as ms
from memristore import _core

_STATUS = Path("/proc/self/status")


def resident_mib(peak: bool) -> float:
    """Resident size of this process, MiB: now, or the largest since `forget_peak` (outside Linux: since the start)."""
    if _STATUS.exists():
        wanted = "VmHWM:" if peak else "VmRSS:"
        (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(wanted)]
        return float(line.split()[1]) / 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1024 if sys.platform != "darwin" else 1024 * 1024)


def forget_peak() -> None:
    """Let the peak start from what is resident now."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def resnet50() -> list[int]:
    """Sizes of the 161 parameters of ResNet-50: convolutions, batch-norm scales and shifts, classifier."""
    sizes = [64 * 3 * 49, 64, 64]
    wide = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        narrow = 64 << stage
        for block in range(blocks):
            convolutions = [(narrow, wide), (narrow, narrow * 9), (4 * narrow, narrow)]
            if block == 0:
                convolutions.append((4 * narrow, wide))
            sizes += [n for out, fan in convolutions for n in (out * fan, out, out)]
            wide = 4 * narrow
    return [*sizes, 2048 * 1000, 1000]


def network(sizes: list[int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"layer{i}.weight": torch.randn(n, generator=generator) * 0.02 for i, n in enumerate(sizes)}


class Stage:
    """Seconds, processor seconds and peak memory of one stage, over all rounds."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float]] = []

    def run(self, base: float, work: Callable[[], Any]) -> Any:
        forget_peak()
        start = time.perf_counter(), time.process_time()
        out = work()
        stop = time.perf_counter(), time.process_time()
        self.samples.append((stop[0] - start[0], stop[1] - start[1], resident_mib(True) - base))
        return out

    def result(self) -> dict[str, float]:
        seconds, processor, peak = zip(*self.samples, strict=True)
        # Later rounds find freed memory still resident, which is not theirs: the largest peak is the one that counts.
        return {
            "seconds": statistics.median(seconds),
            "processor_seconds": statistics.median(processor),
            "peak_mib": max(peak),
        }


def measure(sizes: list[int], threads: int, at: str, repeats: int, drop: bool) -> dict[str, Any]:
    spec = ms.StorageSpec(device="pcm-ibm-90nm", protect=(ms.Sign(), ms.AdaptiveRange()))
    stages = {name: Stage() for name in ("device tables, once per process", "prepare", "program", "store", "load")}
    # Device tables (quadratures) are made once per process; they are timed apart.
    stages["device tables, once per process"].run(
        0.0, lambda: ms.store({"w": torch.randn(1000)}, spec, seed=0).load(at=at)
    )
    model = sum(sizes) * 4 / 2**20
    for _ in range(repeats):
        state = network(sizes)
        base = resident_mib(False) - model
        prepared = stages["prepare"].run(base, lambda state=state: ms.prepare(state, spec, threads=threads))
        stages["program"].run(base, lambda prepared=prepared: prepared.program(seed=0, threads=threads))
        del prepared
        stored = stages["store"].run(base, lambda state=state: ms.store(state, spec, seed=0, threads=threads))
        if drop:
            del state
        read = stages["load"].run(base, lambda stored=stored: stored.load(at=at, threads=threads))
        if drop:
            state = network(sizes)
        error = sum(float((read[k] - v).double().square().sum()) for k, v in state.items())
        signal = sum(float(v.double().square().sum()) for v in state.values())
        cells = stored.cells_per_weight
        del read, stored, state
    return {
        "schema": "memristore.bench.chain",
        "version": 2,
        "library": metadata.version("memristore"),
        "isa": _core.isa(),
        "threads": threads or _core.max_threads(),
        "load_average": os.getloadavg()[0],
        "weights": sum(sizes),
        "tensors": len(sizes),
        "at": at,
        "repeats": repeats,
        "model_dropped_before_load": drop,
        "stages": {name: stage.result() for name, stage in stages.items()},
        "store_and_load_seconds": statistics.median(
            a[0] + b[0] for a, b in zip(stages["store"].samples, stages["load"].samples, strict=True)
        ),
        "model_mib": model,
        "cells_per_weight": cells,
        "sdr_db": 10 * float(torch.log10(torch.tensor(signal / error))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=float, default=25.6e6)
    parser.add_argument("--tensors", default="1", help="how many, of one size; or resnet50")
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    parser.add_argument("--repeats", type=int, default=3, help="medians are shown")
    parser.add_argument("--at", default="1 year")
    parser.add_argument("--drop-model", action="store_true", help="free the model before it is read back")
    parser.add_argument("--json", metavar="FILE", help="write the result here; - for standard output")
    options = parser.parse_args()
    if options.tensors == "resnet50":
        sizes = resnet50()
    else:
        weights, tensors = int(options.weights), int(options.tensors)
        sizes = [weights // tensors + (i < weights % tensors) for i in range(tensors)]
    result = measure(sizes, options.threads, options.at, options.repeats, options.drop_model)
    if options.json == "-":
        print(json.dumps(result, indent=2))
        return
    print(
        f"{result['weights']:,} weights in {result['tensors']} tensor(s), {result['threads']} threads, "
        f"{result['isa']}, load average {result['load_average']:.2f}"
    )
    for name, stage in result["stages"].items():
        peak = "" if name.startswith("device") else f"{stage['peak_mib'] / result['model_mib']:8.2f} x the model"
        print(f"  {name:32s} {stage['seconds']:8.3f} s {stage['processor_seconds']:8.3f} s of processor {peak}")
    print(f"  {'store + load':32s} {result['store_and_load_seconds']:8.3f} s; model {result['model_mib']:.0f} MiB")
    print(
        f"  {result['cells_per_weight']:.3f} cells per weight, "
        f"signal to distortion {result['sdr_db']:.2f} dB after {result['at']}"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
