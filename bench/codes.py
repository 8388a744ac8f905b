"""How fast are the bit codes, beside bchlib where it is installed, and do they lose as many blocks as they say?

python bench/codes.py                     the best instruction set of this machine
python bench/codes.py --isa avx2 --json - numbers as JSON on standard output

Speeds are Mbit of data per second and processor, blocks of 4096 data bits with random errors at the raw error rate that
the code is made for; decoding includes copying what was read, since it corrects in place. Lost blocks are counted on
random data and compared with the predicted probability by the Wilson score interval, 99.9 %.
"""

from __future__ import annotations

import argparse
import json
import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import OWN, Results, Task, describe, machine, measure

from memristore import _core
from memristore.codes.bch import Bch
from memristore.codes.code import BitChannel

#: t, raw error rate, and the decoding speed to reach on AVX-512, Mbit/s (0: none).
BCH_POINTS = ((11, 1e-4, 600.0), (26, 1e-3, 300.0), (48, 3e-3, 300.0), (116, 1e-2, 0.0))
ENCODE_GOAL = 500.0
#: t, data bits and raw error rates where lost blocks are frequent enough to be counted.
BCH_CURVE = (4, 4096, (3e-4, 5e-4, 8e-4, 1.2e-3, 2e-3))
#: Normal quantile of a two-sided 99.9 % interval.
Z = 3.2905
PEER = "bchlib"
#: bchlib is compiled for codes of up to this t.
PEER_MAX_T = 64


def flips(rng: np.random.Generator, shape: tuple[int, int], bits: int, p: float) -> np.ndarray:
    """Rows of bytes whose first `bits` bits are one with probability p."""
    out = np.zeros(shape, np.uint8)
    for row in out:
        places = rng.choice(bits, rng.binomial(bits, p), replace=False)
        np.bitwise_or.at(row, places // 8, (1 << places % 8).astype(np.uint8))
    return out


def bch_tasks(t: int, raw_error: float, blocks: int) -> list[Task]:
    """Encoding, decoding of what was read and of clean blocks, ours and bchlib's."""
    code, rng = Bch(t=t), np.random.default_rng(t)
    data = rng.integers(0, 256, (blocks, code.data_bits // 8), dtype=np.uint8)
    check = code.encode(data)
    read = data ^ flips(rng, data.shape, code.data_bits, raw_error)
    read_check = check ^ flips(rng, check.shape, code.check_bits, raw_error)
    room, room_check = np.empty_like(data), np.empty_like(check)

    def decode(source: np.ndarray, source_check: np.ndarray) -> None:
        np.copyto(room, source)
        np.copyto(room_check, source_check)
        code.decode(room, room_check, 1)

    calls = {
        "encode": partial(code.encode, data, 1),
        "decode": partial(decode, read, read_check),
        "decode clean": partial(decode, data, check),
    }
    place = f"bch t={t} at {raw_error:g}"
    found = [Task((row, OWN, place, 1), data.size * 8.0, call) for row, call in calls.items()]
    return found + bchlib_tasks(t, place, data, read ^ data, read_check ^ check)


def bchlib_tasks(t: int, place: str, data: np.ndarray, wrong: np.ndarray, wrong_check: np.ndarray) -> list[Task]:
    """The same data and errors with bchlib, whose check bits are others."""
    if t > PEER_MAX_T or find_spec(PEER) is None:
        return []
    import bchlib

    coder = bchlib.BCH(t, m=13)
    blocks = [row.tobytes() for row in data]
    checks = [bytes(coder.encode(block)) for block in blocks]
    read = [(row ^ bad).tobytes() for row, bad in zip(data, wrong, strict=True)]
    # bchlib counts bits from the highest of a byte.
    turned = np.packbits(np.unpackbits(wrong_check, axis=1, bitorder="little"), axis=1)
    read_checks = [(np.frombuffer(check, np.uint8) ^ bad).tobytes() for check, bad in zip(checks, turned, strict=True)]

    def encode() -> None:
        for block in blocks:
            coder.encode(block)

    def decode() -> None:
        for block, check in zip(read, read_checks, strict=True):
            one, other = bytearray(block), bytearray(check)
            if coder.decode(one, other) > 0:
                coder.correct(one, other)

    bits = data.size * 8.0
    return [Task(("encode", PEER, place, 1), bits, encode), Task(("decode", PEER, place, 1), bits, decode)]


def bch_curve(least: int) -> list[dict[str, Any]]:
    """Lost blocks by raw error rate, measured and predicted."""
    t, data_bits, rates = BCH_CURVE
    code, rows = Bch(t=t, data_bits=data_bits), []
    for p in rates:
        rng, lost = np.random.default_rng(int(p * 1e7)), 0
        for _ in range(least // 1000):
            clean = rng.integers(0, 256, (1000, data_bits // 8), dtype=np.uint8)
            check = code.encode(clean)
            data = clean ^ flips(rng, clean.shape, data_bits, p)
            status = code.decode(data, check ^ flips(rng, check.shape, code.check_bits, p))
            lost += int(((status < 0) | (data != clean).any(1)).sum())
        n = least // 1000 * 1000
        rows.append({"code": f"bch t={t}", "raw_error": p, "blocks": n, "lost": lost} | wilson(lost, n))
        rows[-1]["predicted"] = code.block_error(BitChannel(p, 1.0))
    return rows


def wilson(lost: int, n: int) -> dict[str, float]:
    """Score interval of a share."""
    middle = (lost + Z * Z / 2) / (n + Z * Z)
    half = Z / (n + Z * Z) * math.sqrt(lost * (n - lost) / n + Z * Z / 4)
    return {"measured": lost / n, "low": middle - half, "high": middle + half}


def bch(quick: bool) -> tuple[list[Task], list[dict[str, Any]]]:
    """Speeds and curve of the BCH codes."""
    tasks = [task for t, p, _ in BCH_POINTS for task in bch_tasks(t, p, 100 if quick else 400)]
    return tasks, bch_curve(2_000 if quick else 20_000)


def mbit(results: Results, row: str, side: str, place: str) -> float:
    """Mbit of data per second."""
    return 1000.0 / results.ns(row, side, place)


def report(console: Console, results: Results, places: list[str], curve: list[dict[str, Any]]) -> None:
    goals = {f"bch t={t} at {p:g}": goal for t, p, goal in BCH_POINTS}
    speeds = Table("code", "encode", "decode", "decode clean", "goal", f"{PEER} encode", f"{PEER} decode", "x decode")
    for place in places:
        own = [f"{mbit(results, row, OWN, place):.0f}" for row in ("encode", "decode", "decode clean")]
        peer = [mbit(results, row, PEER, place) for row in ("encode", "decode")]
        shown = ["" if math.isnan(value) else f"{value:.1f}" for value in peer]
        ratio = mbit(results, "decode", OWN, place) / peer[1]
        goal = f"{ENCODE_GOAL:.0f} / {goals.get(place, 0.0):.0f}"
        speeds.add_row(place, *own, goal, *shown, "" if math.isnan(ratio) else f"{ratio:.0f}")
    speeds.title = "Mbit of data per second on one processor, 4096 data bits per block"
    losses = Table("code", "raw error", "blocks", "lost", "measured", "99.9 % interval", "predicted", "")
    for row in curve:
        inside = row["low"] <= row["predicted"] <= row["high"]
        numbers = f"{row['raw_error']:g}", f"{row['blocks']:,}", f"{row['lost']:,}", f"{row['measured']:.3g}"
        interval = f"{row['low']:.3g} to {row['high']:.3g}"
        losses.add_row(row["code"], *numbers, interval, f"{row['predicted']:.3g}", "agrees" if inside else "DIFFERS")
    console.print(speeds, losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_core.isa_available(), default=_core.isa())
    parser.add_argument("--quick", action="store_true", help="fewer samples and blocks")
    parser.add_argument("--json", metavar="FILE", help="write the result here; - for standard output")
    options = parser.parse_args()
    _core.set_isa(options.isa)
    about = machine(("memristore", "numpy", PEER))
    tasks, curve = bch(options.quick)
    measure(tasks, 5 if options.quick else 15, label="codes")
    results = Results((task.key, task) for task in tasks)
    places = list(dict.fromkeys(task.key[2] for task in tasks))
    if options.json:
        rows = [task.to_dict() | {"mbit_per_second": 1000.0 / task.median} for task in tasks]
        document = {"schema": "memristore.bench.codes", "version": 1, "machine": about, "results": rows, "curve": curve}
        text = json.dumps(document, indent=2)
        if options.json == "-":
            print(text)
            return
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    console = Console(width=max(Console().width, 120))
    console.print(describe(about))
    report(console, results, places, curve)


if __name__ == "__main__":
    main()
