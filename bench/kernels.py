"""Every kernel's speed beside numpy, torch and the memory it moves: ns per cell, ratios, targets.

python bench/kernels.py                   about two minutes
python bench/kernels.py --quick --json -  half a minute, few peers; the numbers as JSON
python bench/kernels.py --isa avx2        another instruction set

"L2" is 32,768 cells on one thread and four chunks of 65,536 on two, the same arrays again and again. "DRAM" is 16.8
million cells, walked in pieces that were not touched since all the others were (numpy and torch: larger pieces, since
their users hand them whole arrays); whether they then come from memory or from a large last-level cache, the copy in
the same run tells. Outputs are reused; numpy and torch make new ones, as their expressions do. Medians on one thread
are processor time: see timing.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from rich.console import Console
from rich.table import Table
from timing import OWN, Results, Target, Task, describe, machine, measure

from memristore import _core, devices

KEY, AT = 0x243F6A8885A308D3, 365.25 * 86400.0
READ, USER = _core.PURPOSES["read"], _core.PURPOSES["user"]
L2 = {1: 1 << 15, 2: 1 << 18}
DRAM, WHOLE = 1 << 24, 25_600_000
#: Cells of a piece of the large arrays.
PIECE = {OWN: 1 << 18, "numpy": 1 << 20, "torch": 1 << 20}
GRAY = np.array([0, 1, 3, 2], np.uint8)


@dataclass(frozen=True)
class Kernel:
    """One row of the report.

    Parameters
    ----------
    name, unit : str
        What is timed, and what "per" means.
    ours, numpy, torch : callable or None
        (slice of items, threads), (slice), (slice).
    moved : float
        Bytes read and written per unit.
    per_item : float
        Units per item of the arrays.
    shrink : float
        Cells' worth of data or of work in an item.
    """

    name: str
    unit: str
    ours: Callable[[slice, int], object] | None
    numpy: Callable[[slice], object]
    torch: Callable[[slice], object]
    moved: float = 8.0
    per_item: float = 1.0
    shrink: float = 1.0


class Bench:
    """All arrays, and the kernels on slices of them."""

    def __init__(self, cells: int) -> None:
        rng = np.random.default_rng(1)
        self.x = rng.random(cells, dtype=np.float32)
        self.out, self.programmed, self.aged = (np.zeros_like(self.x) for _ in range(3))
        self.pulses, self.failed = np.zeros(cells, np.uint16), np.zeros(cells, np.uint8)
        self.symbols, self.seen = rng.integers(0, 256, 4 * cells, dtype=np.uint8), np.zeros(4 * cells, np.uint8)
        self.words = rng.integers(0, 2**64, cells // 2, dtype=np.uint64)
        self.check, self.status = np.zeros(cells // 2, np.uint8), np.zeros(cells // 2, np.uint8)
        self.core, self.time = devices.get(peers.DEVICE).core(), devices.get(peers.DEVICE).read_time(AT)
        self.pulse = _core.Pulse(**peers.PULSE, log2_delay=0.0, max_pulses=peers.MAX_PULSES)
        self.here, self.there = peers.NumpyPeer(AT), peers.TorchPeer(AT)
        # Torch does not compute with unsigned 64-bit integers.
        arrays = {name: a for name, a in vars(self).items() if isinstance(a, np.ndarray)}
        self.t = {name: torch.from_numpy(a.view(np.int64) if a.itemsize == 8 else a) for name, a in arrays.items()}
        _core.program(self.core, KEY, 0, 0, self.x, self.programmed)
        _core.drift(self.core, self.time, KEY, 0, self.programmed, self.aged)
        _core.secded_encode(self.words, self.check)

    def cells(self) -> list[Kernel]:
        """The life of a cell, stage by stage and at once."""
        c, d, rt, n, h, t = self, self.core, self.time, self.here, self.there, self.t

        def read(s: slice, k: int) -> None:
            _core.read(d, rt, KEY, READ, 0, s.start, c.programmed[s], c.aged[s], c.out[s], k)

        def fused(s: slice, k: int, device: _core.Device = d) -> None:
            _core.program_age_read(device, rt, KEY, 0, READ, 0, s.start, c.x[s], c.out[s], k)

        return [
            Kernel(
                "normals", "value", lambda s, k: _core.normals(KEY, USER, 0, s.start, c.out[s], k),
                lambda s: n.normals(s.stop - s.start), lambda s: h.normals(s.stop - s.start), moved=4.0,
            ),
            Kernel(
                "program", "cell", lambda s, k: _core.program(d, KEY, 0, s.start, c.x[s], c.out[s], k),
                lambda s: n.program(c.x[s]), lambda s: h.program(t["x"][s]),
            ),
            Kernel(
                "drift", "cell", lambda s, k: _core.drift(d, rt, KEY, s.start, c.programmed[s], c.out[s], k),
                lambda s: n.drift(c.programmed[s]), lambda s: h.drift(t["programmed"][s]),
            ),
            Kernel(
                "read", "cell", read, lambda s: n.read(c.programmed[s], c.aged[s]),
                lambda s: h.read(t["programmed"][s], t["aged"][s]), moved=12.0,
            ),
            Kernel("fused", "cell", fused, lambda s: n.fused(c.x[s]), lambda s: h.fused(t["x"][s])),
        ]  # fmt: skip

    def verify(self) -> Kernel:
        """Program-and-verify, per verify step."""
        c, n, h, t = self, self.here, self.there, self.t

        def ours(s: slice, k: int) -> None:
            outputs = c.out[s], c.pulses[s], c.failed[s]
            _core.program_and_verify(c.core, c.pulse, KEY, 0, s.start, c.x[s], *outputs, k)

        ours(slice(0, L2[2]), 1)
        steps = 1.0 + float(c.pulses[: L2[2]].mean())
        peer, other = lambda s: n.program_and_verify(c.x[s]), lambda s: h.program_and_verify(t["x"][s])
        return Kernel("program-and-verify", "step", ours, peer, other, moved=11.0 / steps, per_item=steps)

    def bits(self) -> list[Kernel]:
        """Level errors, words on cells of four levels, and the code over 64-bit words (all of them clean)."""
        c, n, h, t = self, self.here, self.there, self.t
        tail = np.float32(0.5 * math.erfc(0.5 / peers.LEVEL_STD / math.sqrt(2.0)))
        up, down = np.array([tail, tail, tail, 0], np.float32), np.array([0, tail, tail, tail], np.float32)
        v, none, octets = n.levels, np.zeros(0, np.uint8), peers.WORD_BITS // 4
        tables = v.targets, v.level_of, 1, v.start, v.inv_step, none, v.bins, 1, v.label, v.llr.reshape(-1)

        def levels(s: slice, k: int) -> None:
            _core.level_errors(KEY, 0, s.start, 2, GRAY, up, down, c.symbols[s], c.seen[s], k)

        def rows(s: slice, width: int) -> slice:
            return slice(width * s.start, width * s.stop)

        def store(s: slice, k: int, soft: bool) -> None:
            where = KEY, 0, READ, 0, s.start * peers.WORD_BITS, 0, 1
            words = c.symbols[rows(s, octets)], peers.WORD_BITS
            out = c.seen[rows(s, 8 * octets)].view(np.int8) if soft else c.seen[rows(s, octets)]
            _core.store_levels(c.core, None, c.time, *where, *words, *tables, soft, out, k)

        def stored(name: str, soft: bool) -> Kernel:
            return Kernel(
                name, "cell", partial(store, soft=soft), lambda s: n.store_levels(c.symbols[rows(s, octets)], soft),
                lambda s: h.store_levels(t["symbols"][rows(s, octets)], soft), moved=2.25 if soft else 0.5,
                per_item=peers.WORD_BITS, shrink=peers.WORD_BITS,
            )  # fmt: skip

        return [
            Kernel(
                "level errors", "byte", levels, lambda s: n.level_errors(c.symbols[s]),
                lambda s: h.level_errors(t["symbols"][s]), moved=2.0, shrink=0.25,
            ),
            stored("levels, hard", soft=False),
            stored("levels, soft", soft=True),
            Kernel(
                "secded encode", "word", lambda s, k: _core.secded_encode(c.words[s], c.status[s], k),
                lambda s: n.secded_encode(c.words[s]), lambda s: h.secded_encode(t["words"][s]), moved=9.0, shrink=2,
            ),
            Kernel(
                "secded decode", "word", lambda s, k: _core.secded_decode(c.words[s], c.check[s], c.status[s], k),
                lambda s: n.secded_decode(c.words[s], c.check[s]),
                lambda s: h.secded_decode(t["words"][s], t["check"][s]), moved=10.0, shrink=2,
            ),
        ]  # fmt: skip

    def maps(self) -> list[Kernel]:
        """Values to targets and back."""
        c, n, h, t = self, self.here, self.there, self.t

        def signs(s: slice) -> slice:
            return slice(s.start // 8, s.stop // 8)

        return [
            Kernel(
                "affine", "value", lambda s, k: _core.affine(c.x[s], 1.7, -0.3, 0.0, 1.0, c.out[s], k),
                lambda s: n.affine(c.x[s]), lambda s: h.affine(t["x"][s]),
            ),
            Kernel(
                "lookup", "value", lambda s, k: _core.lookup(c.x[s], peers.KNOTS, 0.0, 32.0, False, c.out[s], k),
                lambda s: n.lookup(c.x[s]), lambda s: h.lookup(t["x"][s]),
            ),
            Kernel(
                "join_sign", "value", lambda s, k: _core.join_sign(c.x[s], c.symbols[signs(s)], c.out[s], k),
                lambda s: n.join_sign(c.x[s], c.symbols[signs(s)]),
                lambda s: h.join_sign(t["x"][s], t["symbols"][signs(s)]), moved=8.125,
            ),
        ]  # fmt: skip

    def kernels(self) -> list[Kernel]:
        """All rows."""
        return [*self.cells(), self.verify(), *self.bits(), *self.maps()]

    def floors(self) -> list[Kernel]:
        """What memory takes if nothing is computed."""
        c, t = self, self.t
        fill, copy = lambda s: t["out"][s].fill_(1.0), lambda s: t["out"][s].copy_(t["x"][s])
        return [
            Kernel("write", "float", None, lambda s: c.out[s].fill(1.0), fill, moved=4.0),
            Kernel("copy", "float", None, lambda s: np.copyto(c.out[s], c.x[s]), copy),
        ]


class Walk:
    """Pieces of the large arrays, one behind the other and round again: none comes back before all others were used."""

    def __init__(self, cells: int) -> None:
        self.cells, self.at = cells, 0

    def next(self, kernel: Kernel, cells: int) -> slice:
        """The kernel's items in the next `cells` cells."""
        start = self.at if self.at + cells <= self.cells else 0
        self.at = start + cells
        return slice(int(start / kernel.shrink), int(self.at / kernel.shrink))


def tasks(kernel: Kernel, place: str, walk: Walk, quick: bool) -> list[Task]:
    """Every side on every number of threads; when quick, peers only in L2 and on one thread."""
    found = []
    for threads, side in itertools.product((1, 2), (OWN, "numpy", "torch")):
        run: Any = {OWN: kernel.ours, "numpy": kernel.numpy, "torch": kernel.torch}[side]
        skipped = quick and kernel.ours is not None and (place, threads) != ("L2", 1)
        if run is None or (side == "numpy" and threads > 1) or (side != OWN and skipped):
            continue
        n = int((PIECE[side] * threads if place == "DRAM" else L2[threads]) / kernel.shrink)
        where = partial(slice, 0, min(n, L2[1]) if threads == 1 else n)
        if place == "DRAM":
            where = partial(walk.next, kernel, PIECE[side] * threads)
        call = partial(lambda f, w, *k: f(w(), *k), run, where, *((threads,) if side == OWN else ()))
        items = (n if place == "DRAM" or threads > 1 else min(n, L2[1])) * kernel.per_item
        found.append(Task((kernel.name, side, place, threads), items, call, partial(torch.set_num_threads, threads)))
    return found


def whole(bench: Bench, rounds: int) -> list[Task]:
    """25.6 million cells, a ResNet-50's weights, in one call."""
    x, out = np.resize(bench.x, WHOLE), np.zeros(WHOLE, np.float32)

    def ours(threads: int) -> None:
        _core.program_age_read(bench.core, bench.time, KEY, 0, READ, 0, 0, x, out, threads)

    own = [Task(("fused", OWN, "25.6M", k), WHOLE, partial(ours, k)) for k in (1, 2)]
    peer = Task(("fused", "numpy", "25.6M", 1), WHOLE, lambda: bench.here.fused(x))
    measure([*own * 3, peer], rounds, label="25.6 million cells")
    return [*own, peer]


class Speeds(Results):
    """Results, beside the memory's own."""

    def floor(self, kernel: Kernel, place: str, threads: int) -> float:
        """Time to move the kernel's bytes: to write them if it only writes, else to copy as many."""
        row, size = ("write", 4.0) if kernel.name == "normals" else ("copy", 8.0)
        times = [self.ns(row, side, place, threads) for side in ("numpy", "torch")]
        return float(np.nanmin(times)) * kernel.moved / size


#: ns on AVX-512, one thread, L2: limit and aim; twice these on AVX2.
TIMES = {
    "normals": (0.80, 0.65),
    "program": (0.95, 0.75),
    "drift": (1.7, 1.3),
    "read": (1.6, 1.25),
    "fused": (3.8, 3.0),
    "program-and-verify": (3.3, 2.4),
    "level errors": (0.9, 0.65),
}
#: Ratios on AVX-512, one thread, L2; half of these on AVX2.
RATIOS = {
    "numpy": dict(zip(TIMES, (15, 14, 14, 14, 15, 18, 80), strict=True)),
    "torch": {"normals": 8, "fused": 10},
}


def targets(normals: Kernel, isa: str) -> list[Target]:
    """Targets of an instruction set; the scalar build has none."""
    scale = {"avx512": 1.0, "avx2": 2.0}.get(isa, math.nan)
    if math.isnan(scale):
        return []
    found = [
        Target(f"{row}, ns", scale * limit, lambda r, k=row: r.ns(k), scale * aim)
        for row, (limit, aim) in TIMES.items()
    ]
    for side, ratios in RATIOS.items():
        for row, least in ratios.items():
            found.append(Target(f"{row}, x {side}", least / scale, lambda r, k=row, p=side: r.ratio(k, p), least=True))
    for row in TIMES:
        one, two = ((row, OWN, "L2", threads) for threads in (1, 2))
        speedup = partial(lambda a, b, r: r[a].minimum / r[b].minimum, one, two)
        found.append(Target(f"{row}, two threads x one", 1.8, speedup, least=True))
    large, ms = ("fused", OWN, "25.6M", 1), WHOLE / 1e6
    return [
        *found,
        Target("normals, DRAM, x write", 1.6, lambda r: r.ns("normals", place="DRAM") / r.floor(normals, "DRAM", 1)),
        Target("fused, DRAM x L2", 1.2, lambda r: r.ns("fused", place="DRAM") / r.ns("fused")),
        Target("fused, 25.6 M cells, processor ms", 100 * scale, lambda r: r.ns(*large) * ms, 80 * scale),
        Target("fused, 25.6 M cells, x numpy", 20 / scale, lambda r: r.ratio("fused", "numpy", "25.6M"), least=True),
    ]


def report(console: Console, kernels: list[Kernel], floors: list[Kernel], results: Speeds, rows: list[Any]) -> None:
    """Three tables: times, ratios, targets."""
    spots = [("L2", 1), ("L2", 2), ("DRAM", 1), ("DRAM", 2)]
    titles = [f"{place} {threads}T" for place, threads in spots]
    times = Table("", "per", *titles, title="ns, median (minimum); ~ no median")
    for kernel in [*kernels, *floors]:
        for side in [OWN] if kernel.ours else ["numpy", "torch"]:
            shown = [results.get((kernel.name, side, *spot)) for spot in spots]
            cells = [f"{'' if t.settled else '~'}{t.median:.3f} ({t.minimum:.3f})" if t else "" for t in shown]
            times.add_row(kernel.name if kernel.ours else f"{kernel.name} ({side})", kernel.unit, *cells)
    columns = [(side, *spot) for side in ("numpy", "torch") for spot in spots if side == "torch" or spot[1] == 1]
    heads = [f"x {side}\n{place} {threads}T" for side, place, threads in columns]
    ratios = Table("", *heads, *(f"/ copy\n{title}" for title in titles), title="medians of the same run")
    for kernel in kernels:
        cells = [f"{results.ratio(kernel.name, side, *spot):.1f}".replace("nan", "") for side, *spot in columns]
        cells += [f"{results.ns(kernel.name, OWN, *spot) / results.floor(kernel, *spot):.1f}" for spot in spots]
        ratios.add_row(kernel.name, *cells)
    goals = Table("target", "limit", "aim", "median", "minimum", "", title="targets")
    for row in rows:
        limit = ("at least " if row["least"] else "at most ") + f"{row['limit']:g}"
        aim = "" if math.isnan(row["aim"]) else f"{row['aim']:g}"
        goals.add_row(row["target"], limit, aim, f"{row['median']:.2f}", f"{row['minimum']:.2f}", row["verdict"])
    console.print(times, ratios, *([goals] if rows else []))
    console.print("x: how many times longer. / copy: time over that of moving the same bytes (normals: writing them).")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_core.isa_available(), default=_core.isa())
    parser.add_argument("--cells", type=float, default=DRAM, help="cells of the arrays beyond L2")
    parser.add_argument("--quick", action="store_true", help="few samples")
    parser.add_argument("--json", metavar="FILE", help="write the result here; - for standard output")
    options = parser.parse_args()
    if options.cells < 2 * max(PIECE.values()):
        parser.error(f"--cells: at least {2 * max(PIECE.values()):,}, the largest piece on two threads")
    _core.set_isa(options.isa)
    about, start = machine(), time.perf_counter()
    bench, walk = Bench(int(options.cells)), Walk(int(options.cells))
    kernels, floors = bench.kernels(), bench.floors()
    results = Speeds()
    for place, rounds in (("L2", 7 if options.quick else 25), ("DRAM", 5 if options.quick else 9)):
        found = [task for k in [*kernels, *floors] for task in tasks(k, place, walk, options.quick)]
        measure(found, rounds, label=place)
        results.update((task.key, task) for task in found)
    goals = targets(kernels[0], options.isa)
    if goals:
        results.update((task.key, task) for task in whole(bench, 1 if options.quick else 3))
    rows = [target.verdict(results) for target in goals]
    several = [task for task in results.values() if task.key[1] == OWN and task.key[3] > 1]
    clean = sum(len(task.clean) for task in several) / sum(len(task.samples) for task in several)
    ended = {"seconds": time.perf_counter() - start, "load_average_end": os.getloadavg()[0], "clean_two_threads": clean}
    if options.json:
        tests = [{**row, "aim": None if math.isnan(row["aim"]) else row["aim"]} for row in rows]
        document = {"schema": "memristore.bench.kernels", "version": 1, "machine": about, **ended}
        document |= {"results": [task.to_dict() for task in results.values()], "targets": tests}
        text = json.dumps(document, indent=2)
        if options.json == "-":
            print(text)
            return
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    console = Console(width=max(Console().width, 120))
    console.print(describe(about))
    report(console, kernels, floors, results, rows)
    console.print(f"{clean:.0%} of samples on two threads clean; load average {ended['load_average_end']:.2f} after")
    console.print("store + load of 25.6 M weights: bench/chain.py; aihwkit: bench/peers.py")


if __name__ == "__main__":
    main()
