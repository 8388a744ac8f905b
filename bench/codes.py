"""How fast are the bit codes, and do they lose as many blocks as they say? Beside bchlib and ldpc where installed.

python bench/codes.py                     the best instruction set of this machine: about three minutes
python bench/codes.py --quick             few codes, few samples
python bench/codes.py --isa avx2 --json - numbers as JSON on standard output
python bench/codes.py --cells             also the densest sized formats on two devices, and their share of capacity

Speeds are Mbit of data per second and processor. BCH: blocks of 4096 data bits with random errors at the raw error rate
that the code is made for; decoding includes copying what was read, since it corrects in place. LDPC: every code where
it loses a block in a million, and on noise, where it takes all of ten iterations. Lost blocks are counted on random
data and compared with the predicted probability by the Wilson score interval, 99.9 %: the prediction of BCH codes is
the binomial formula, that of LDPC codes a law in the information, fitted to other simulations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import codes_ldpc
import numpy as np
from rich.console import Console
from rich.table import Table
from timing import OWN, Results, Task, describe, machine, measure

from memristore import _core, devices, sized_for
from memristore.codes.bch import Bch
from memristore.codes.code import BitChannel
from memristore.codes.densest import Densest
from memristore.codes.ldpc import Ldpc
from memristore.limits import capacity
from memristore.units import parse_time

#: t, raw error rate, and the decoding speed to reach on AVX-512, Mbit/s (0: none).
BCH_POINTS = ((11, 1e-4, 600.0), (26, 1e-3, 300.0), (48, 3e-3, 300.0), (116, 1e-2, 0.0))
ENCODE_GOAL = 500.0
#: t, data bits and raw error rates where lost blocks are frequent enough to be counted.
BCH_CURVE = (4, 4096, (3e-4, 5e-4, 8e-4, 1.2e-3, 2e-3))
#: Whose net bits per cell are asked for.
CELLS, AGES, BLOCK_ERRORS = ("pcm-ibm-90nm", "pcm-partial-reset"), ("1 year",), (1e-4, 1e-12)
FAMILIES = (Bch(), Ldpc(), Densest())
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
        predicted = code.block_error(BitChannel(p, 1.0))
        found = {"code": f"bch t={t}", "raw_error": p, "blocks": least // 1000 * 1000, "lost": lost}
        rows.append(found | {"predicted": predicted})
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


def densest() -> list[dict[str, Any]]:
    """Net bits per cell that each family reaches on cells of a given age, and the share of their capacity."""
    rows = []
    for name, age, block_error in itertools.product(CELLS, AGES, BLOCK_ERRORS):
        most = capacity(devices.get(name), parse_time(age)).bits
        for family in FAMILIES:
            found = sized_for(family, name, age, block_error=block_error)
            about = {"device": name, "at": age, "block_error": block_error, "family": family.name}
            n = found.code.block_data_bits + found.code.check_bits
            about |= {"levels": found.levels.count, "copies": found.copies, "code": found.code.to_dict(), "n": n}
            about |= {"rate": found.code.rate, "met": found.met, "predicted": found.block_error}
            about |= {"raw_error": found.channel.raw_error, "information": found.channel.information}
            bits = found.net_bits_per_cell
            rows.append(about | {"capacity": most, "net_bits_per_cell": bits, "share": bits / most})
    return rows


def mbit(results: Results, row: str, side: str, place: str) -> float:
    """Mbit of data per second."""
    return 1000.0 / results.ns(row, side, place)


def bch_table(results: Results, places: list[str]) -> Table:
    """Speeds of the BCH codes."""
    goals = {f"bch t={t} at {p:g}": goal for t, p, goal in BCH_POINTS}
    table = Table("code", "encode", "decode", "decode clean", "goal", f"{PEER} encode", f"{PEER} decode", "x decode")
    for place in places:
        own = [f"{mbit(results, row, OWN, place):.0f}" for row in ("encode", "decode", "decode clean")]
        peer = [mbit(results, row, PEER, place) for row in ("encode", "decode")]
        shown = ["" if math.isnan(value) else f"{value:.1f}" for value in peer]
        ratio = mbit(results, "decode", OWN, place) / peer[1]
        goal = f"{ENCODE_GOAL:.0f} / {goals.get(place, 0.0):.0f}"
        table.add_row(place, *own, goal, *shown, "" if math.isnan(ratio) else f"{ratio:.1f}")
    table.title = "Mbit of data per second on one processor, 4096 data bits per block"
    return table


def ldpc_table(results: Results, known: list[dict[str, Any]]) -> Table:
    """Speeds of the LDPC codes, and how far from capacity they lose one block in a thousand."""
    peer = codes_ldpc.PEER
    heads = ("code", "n", "gap, dB", "raw error", "encode", "decode", "decode noise", f"{peer}, noise", "x noise")
    table = Table(*heads, title="Mbit of data per second on one processor; gap to capacity at block error 1e-3")
    for about in known:
        place = about["code"]
        own = [mbit(results, row, OWN, place) for row in ("encode", "decode", "decode noise")]
        theirs = mbit(results, "decode noise", peer, place)
        shown = ["", ""] if math.isnan(theirs) else [f"{theirs:.2f}", f"{own[2] / theirs:.0f}"]
        head = place, f"{about['n']:,}", f"{about['gap_db']['0.001']:.2f}", f"{about['raw_error']:.3g}"
        table.add_row(*head, *(f"{value:.0f}" for value in own), *shown)
    return table


def curve_table(curve: list[dict[str, Any]]) -> Table:
    """Lost blocks."""
    table = Table("code", "raw error", "blocks", "lost", "measured", "99.9 % interval", "predicted", "measured /")
    for row in curve:
        inside = row["low"] <= row["predicted"] <= row["high"]
        numbers = f"{row['raw_error']:.3g}", f"{row['blocks']:,}", f"{row['lost']:,}", f"{row['measured']:.3g}"
        interval = f"{row['low']:.3g} to {row['high']:.3g}"
        table.add_row(
            row["code"],
            *numbers,
            interval,
            f"{row['predicted']:.3g}",
            f"{row['measured'] / row['predicted']:.2f}" + ("" if inside else " OUTSIDE"),
        )
    return table


def cells_table(rows: list[dict[str, Any]]) -> Table:
    """Net bits per cell."""
    heads = ("device", "at", "block error", "family", "levels", "raw error", "bits", "rate", "net bits", "capacity", "")
    table = Table(*heads, title="Net bits per cell and share of capacity")
    for row in rows:
        head = row["device"], row["at"], f"{row['block_error']:g}" + ("" if row["met"] else " missed"), row["family"]
        code = str(row["levels"]), f"{row['raw_error']:.3g}", f"{row['n']:,}", f"{row['rate']:.4f}"
        table.add_row(
            *head, *code, *(f"{row[k]:.3f}" for k in ("net_bits_per_cell", "capacity")), f"{row['share']:.1%}"
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_core.isa_available(), default=_core.isa())
    parser.add_argument("--quick", action="store_true", help="fewer codes, samples and blocks")
    parser.add_argument("--cells", action="store_true", help="net bits per cell too")
    parser.add_argument("--json", metavar="FILE", help="write the result here; - for standard output")
    options = parser.parse_args()
    _core.set_isa(options.isa)
    about = machine(("memristore", "numpy", PEER, codes_ldpc.PEER))
    tasks, lost = bch(options.quick)
    more, known, lost_too = codes_ldpc.ldpc(options.quick)
    curve = [row | wilson(row["lost"], row["blocks"]) for row in (*lost, *lost_too)]
    places = list(dict.fromkeys(task.key[2] for task in tasks))
    measure([*tasks, *more], 5 if options.quick else 15, label="codes")
    results = Results((task.key, task) for task in (*tasks, *more))
    sized = densest() if options.cells else []
    if options.json:
        rows = [task.to_dict() | {"mbit_per_second": 1000.0 / task.median} for task in results.values()]
        document = {"schema": "memristore.bench.codes", "version": 2, "machine": about, "results": rows}
        text = json.dumps(document | {"curve": curve, "ldpc": known, "cells": sized}, indent=2)
        if options.json == "-":
            print(text)
            return
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    console = Console(width=max(Console().width, 120))
    console.print(describe(about))
    console.print(bch_table(results, places), ldpc_table(results, known), curve_table(curve))
    if sized:
        console.print(cells_table(sized))


if __name__ == "__main__":
    main()
