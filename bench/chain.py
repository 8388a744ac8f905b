"""Store and read back a network's worth of weights, stage by stage: seconds, cells, distortion, peak memory.

python bench/chain.py                      25.6 million float32 weights, sign + adaptive range, one cell per weight
python bench/chain.py --weights 1e6 --tensors 50 --json chain.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from importlib import metadata

import torch

import memristore as ms
from memristore import _core


def peak_mib() -> float:
    """Largest resident size of this process so far, MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1024 if sys.platform != "darwin" else 1024 * 1024)


def network(weights: int, tensors: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [weights // tensors + (i < weights % tensors) for i in range(tensors)]
    return {f"layer{i}.weight": torch.randn(n, generator=generator) * 0.02 for i, n in enumerate(sizes)}


def measure(weights: int, tensors: int, threads: int, at: str) -> dict[str, object]:
    state = network(weights, tensors)
    spec = ms.StorageSpec(device="pcm-ibm-90nm", protect=(ms.Sign(), ms.AdaptiveRange()))
    # Device tables (quadratures) are made once per process; they are timed apart.
    start = time.perf_counter()
    ms.store({"w": torch.randn(1000)}, spec, seed=0).load(at=at)
    tables = time.perf_counter() - start
    before = peak_mib()
    clock = [time.perf_counter()]
    prepared = ms.prepare(state, spec, threads=threads)
    clock.append(time.perf_counter())
    stored = prepared.program(seed=0, threads=threads)
    clock.append(time.perf_counter())
    del prepared
    read = stored.load(at=at, threads=threads)
    clock.append(time.perf_counter())
    error = sum(float((read[k] - v).double().square().sum()) for k, v in state.items())
    signal = sum(float(v.double().square().sum()) for v in state.values())
    return {
        "schema": "memristore.bench.chain",
        "version": 1,
        "library": metadata.version("memristore"),
        "isa": _core.isa(),
        "threads": threads or _core.max_threads(),
        "load_average": os.getloadavg()[0],
        "weights": weights,
        "tensors": tensors,
        "at": at,
        "seconds": {
            "device tables (once per process)": tables,
            "prepare (compress, protect)": clock[1] - clock[0],
            "program (map, write, encode bits)": clock[2] - clock[1],
            "load (age, read, decode)": clock[3] - clock[2],
            "store + load": clock[3] - clock[0],
        },
        "model_mib": weights * 4 / 2**20,
        "peak_mib_before": before,
        "peak_mib": peak_mib(),
        "cells_per_weight": stored.cells_per_weight,
        "sdr_db": 10 * float(torch.log10(torch.tensor(signal / error))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=float, default=25.6e6)
    parser.add_argument("--tensors", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    parser.add_argument("--at", default="1 year")
    parser.add_argument("--json", metavar="FILE", help="write the result here; - for standard output")
    options = parser.parse_args()
    result = measure(int(options.weights), options.tensors, options.threads, options.at)
    if options.json == "-":
        print(json.dumps(result, indent=2))
        return
    print(
        f"{result['weights']:,} weights in {result['tensors']} tensor(s), {result['threads']} threads, {result['isa']}"
    )
    for stage, seconds in result["seconds"].items():  # type: ignore[attr-defined]
        print(f"  {stage:36s} {seconds:8.3f} s")
    print(
        f"  peak memory {result['peak_mib']:.0f} MiB "
        f"({result['peak_mib_before']:.0f} MiB before; model {result['model_mib']:.0f} MiB)"
    )
    print(
        f"  {result['cells_per_weight']:.3f} cells per weight, "
        f"signal to distortion {result['sdr_db']:.2f} dB after {result['at']}"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
