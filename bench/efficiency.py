"""How much of the cells' capacity each way of storing uses, against Shannon's bound for the same distortion.

python bench/efficiency.py [--quick] [--json results.json]

Values of a source go through the whole path: stored as a network of one tensor, aged, read, decoded. Efficiency is
R(D) / (cells per value x capacity of a cell): the share of the capacity that the distortion reached would need at
least. All cells count: values, signs, flags, side information, check bits, padding, reference cells. 1.0 is out of
reach of any scheme. A family of settings (planes, or the distortion asked for) stands behind each row; the one whose
cells per value come closest to the number wanted is shown, none where all are further off than a third.

Where bits may come back wrong, the distortion is the measured one plus what is to be expected of that: the chance that
a block of entropy-coded values is hit, times the variance. Digital rows say what stands between them and 1.0, as
factors: source coding (R(D) over bits written), block errors (what is to be expected of them), levels (information of
the cells' levels over capacity), code (its rate over that information), rest (padding, shortened words, reference
cells). Analog rows: the share of all cells that hold values, then bits and what protects them, then reference cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import memristore as ms
from memristore import devices
from memristore.compress import RateDistortion
from memristore.limits import Gaussian, Laplacian, Source, capacity, efficiency, opta, sdr_db
from memristore.streams import AnalogStream, Payload
from memristore.transform import Context
from memristore.units import parse_time

#: Values that lose a common decoder when a bit of one comes back wrong.
ENTROPY_BLOCK = 1 << 16
TARGETS = (1e-12, 1e-4)
GOAL, FAR = 0.80, 4 / 3
SOURCES: dict[str, Source] = {"Gaussian": Gaussian(), "Laplacian": Laplacian()}
SIGN, RANGED = (ms.Sign(),), (ms.Sign(), ms.AdaptiveRange())
WIDE, NARROW = ms.ShannonKotelnikov(ratio="1:2"), ms.ShannonKotelnikov(ratio="2:1")


@dataclass(frozen=True)
class Point:
    """A device, a time and a source."""

    device: str
    at: str
    source: str
    n: int

    @property
    def capacity(self) -> float:
        return float(capacity(devices.get(self.device), parse_time(self.at)).bits)

    @property
    def spec(self) -> ms.StorageSpec:
        return ms.StorageSpec(device=self.device, retention=self.at, bits=ms.Densest())

    @property
    def values(self) -> torch.Tensor:
        return values(self.source, self.n)


@cache
def values(source: str, n: int) -> torch.Tensor:
    return torch.from_numpy(SOURCES[source].sample(n, seed=3).astype(np.float32))


@cache
def coded_bits(source: str, n: int, states: int, sdr: float) -> int:
    """Bits that the trellis coder writes for a source."""
    code = RateDistortion(sdr=sdr, states=states)
    payload = Payload([AnalogStream("w", values(source, n).numpy())])
    return sum(8 * s.data.size for s in code.encode(payload, Context({"w": (n,)})).bit_streams())


def measure(name: str, point: Point, spec: ms.StorageSpec, seed: int = 1) -> dict[str, Any]:
    """Store, read, and judge."""
    made = ms.store({"w": point.values}, spec, seed=seed, trace=False)
    wrong = (made.load(at=point.at)["w"] - point.values).double().square().mean()
    read = float(wrong / point.values.double().var())
    found, payload = made.bits.format, 8 * made.bits.payload_bytes
    # Analog values need few bits to come back; only coded ones are lost together.
    coded = any(isinstance(c, RateDistortion) for c in spec.compress)
    coded |= any(isinstance(p, ms.Hybrid) for p in spec.protect)
    words = payload / point.n * min(ENTROPY_BLOCK, point.n) / found.code.block_data_bits
    lost = min(found.block_error * max(words, 1.0), 1.0) if coded else 0.0
    cells, source = made.cells_per_weight, SOURCES[point.source]
    used, here = partial(efficiency, source, capacity_bits=point.capacity, cells_per_value=cells), sdr_db(read + lost)
    row = {
        "device": point.device, "at": point.at, "source": point.source, "scheme": name, "cells_per_value": cells,
        "sdr_db": here, "sdr_db_this_read": sdr_db(read), "efficiency": used(here),
        "opta_db": opta(source, point.capacity, cells), "bits": found.describe(),
    }  # fmt: skip
    kinds = made.ledger().by_kind()
    if "data" not in kinds:
        information = found.channel.information / found.cells_per_coded_bit
        written = payload / point.n
        factors = {
            "source coding": used(sdr_db(read)) * cells * point.capacity / written,
            "block errors": used(here) / used(sdr_db(read)),
            "levels": information / point.capacity,
            "code": found.net_bits_per_cell / information,
        }
        row["factors"] = factors | {"rest": written / (cells * found.net_bits_per_cell)}
    else:
        total, data, references = sum(kinds.values()), kinds.get("data", 0), kinds.get("reference", 0)
        row["shares"] = {
            "values": data / total, "bits": (total - data - references) / total, "references": references / total
        }  # fmt: skip
    return row


def repeated(spec: ms.StorageSpec) -> list[ms.StorageSpec]:
    return [replace(spec, code=ms.Repetition(planes=planes)) for planes in (1, 2, 3, 4)]


def residual(spec: ms.StorageSpec) -> list[ms.StorageSpec]:
    return [replace(spec, code=ms.Residual(planes=planes)) for planes in (2, 3, 4)]


def hybrids(spec: ms.StorageSpec) -> list[ms.StorageSpec]:
    """Levels as entropy-coded bits and remainders in cells, from half a cell to one per value."""
    found = [(NARROW, k) for k in (2, 4)] + [(spec.code, k) for k in (2, 3, 4, 6, 8, 16, 32, 64)]
    return [replace(spec, code=code, protect=(ms.Hybrid(levels=k), ms.Entropy())) for code, k in found]


def analog(point: Point) -> dict[str, list[ms.StorageSpec]]:
    """Families of analog recipes: name to settings of rising cells per value."""
    naive = replace(point.spec, mapper=ms.Linear(clip=None), decoder="inverse")
    curved = replace(point.spec, mapper=ms.Companded(at=point.at))
    return {
        "naive linear": [naive],
        "naive linear + repetition": repeated(naive)[1:],
        "sign + repetition": repeated(replace(point.spec, protect=SIGN)),
        "sign + range + repetition": repeated(replace(point.spec, protect=RANGED)),
        "sign + residual": residual(replace(point.spec, protect=SIGN)),
        "sign + range + residual": residual(replace(point.spec, protect=RANGED)),
        "companded + repetition": repeated(curved),
        "sign, companded + repetition": repeated(replace(curved, protect=SIGN)),
        "sign + range, companded + repetition": repeated(replace(curved, protect=RANGED)),
        "sign + range, companded + residual": residual(replace(curved, protect=RANGED)),
        "two in one": [replace(point.spec, code=NARROW, protect=p) for p in ((), SIGN, RANGED)],
        "one in two": [replace(point.spec, code=WIDE, protect=p) for p in ((), SIGN, RANGED)],
        "sign, best of 4 writes": [replace(point.spec, protect=SIGN, write=ms.BestOf(writes=4))],
        "hybrid": hybrids(curved),
    }


def digital(point: Point, wanted: float, block_error: float, states: int) -> ms.StorageSpec:
    """The distortion for which trellis-coded bits fill the cells wanted, by secants: bits are nearly straight in dB."""
    base = replace(point.spec, block_error=block_error)
    references = base.references.count if base.references else 0

    def cells(sdr: float) -> float:
        bits = coded_bits(point.source, point.n, states, sdr)
        return (base.bit_format(bits).cells(bits) + references) / point.n

    limit = opta(SOURCES[point.source], point.capacity, wanted)
    low, high = round(0.85 * limit, 2), round(0.92 * limit, 2)
    below, above = cells(low), cells(high)
    for _ in range(3):
        sdr = round(low + (wanted - below) * (high - low) / (above - below), 2)
        if sdr in (low, high):
            break
        low, below, high, above = high, above, sdr, cells(sdr)
        if abs(above / wanted - 1) < 0.005:
            break
    best = min(((abs(below - wanted), low), (abs(above - wanted), high)))[1]
    return replace(base, compress=(RateDistortion(sdr=best, states=states),))


def rows(point: Point, counts: tuple[float, ...], states: int) -> Iterator[dict[str, Any]]:
    """All rows of a point; `wanted` says for which number of cells."""
    for name, family in analog(point).items():
        found = [measure(name, point, spec) for spec in family]
        for wanted in counts:
            near = min(found, key=lambda row: abs(np.log(row["cells_per_value"] / wanted)))
            if 1 / FAR <= near["cells_per_value"] / wanted <= FAR:
                yield near | {"wanted": wanted}
    for target in TARGETS:
        for wanted in counts:
            spec = digital(point, wanted, target, states)
            yield measure(f"digital, block error {target:g}", point, spec) | {"wanted": wanted}


def show(point: Point, found: list[dict[str, Any]], console: Console) -> None:
    table = Table(title=f"{point.source}, {point.device}, {point.at}: {point.capacity:.3f} bits per cell")
    for heading in ("cells wanted", "scheme", "cells", "SDR dB", "limit dB", "efficiency", "what stands between"):
        table.add_column(heading, justify="left" if heading in ("scheme", "what stands between") else "right")
    best = {w: max(row["efficiency"] for row in found if row["wanted"] == w) for w in {r["wanted"] for r in found}}
    for row in sorted(found, key=lambda row: (row["wanted"], row["efficiency"])):
        parts = row.get("factors") or row["shares"]
        why = ", ".join(f"{k} {v:.3f}" for k, v in parts.items())
        top = row["efficiency"] == best[row["wanted"]]
        table.add_row(
            f"{row['wanted']:g}", row["scheme"], f"{row['cells_per_value']:.3f}", f"{row['sdr_db']:.2f}",
            f"{row['opta_db']:.2f}", f"{row['efficiency']:.3f}", why, style="bold" if top else "",
        )  # fmt: skip
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one time and source, fewer cells, trellis of 8 states")
    parser.add_argument("--json", help="write the rows here")
    parser.add_argument("--devices", nargs="*", default=["pcm-ibm-90nm", "pcm-partial-reset"])
    parser.add_argument("--values", type=int, default=1 << 18)
    args = parser.parse_args()
    times, sources = (("1 year",), ("Gaussian",)) if args.quick else (("1 day", "1 year"), tuple(SOURCES))
    counts, states = ((1.0, 2.0), 8) if args.quick else ((0.5, 1.0, 2.0, 4.0), 64)
    console, everything, short = Console(width=170), [], []
    for point in (Point(d, at, s, args.values) for d in args.devices for at in times for s in sources):
        start = time.perf_counter()
        found = list(rows(point, counts, states))
        show(point, found, console)
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        for wanted in counts:
            best = max((row for row in found if row["wanted"] == wanted), key=lambda row: row["efficiency"])
            if best["efficiency"] < GOAL:
                short.append(f"{point.source}, {point.device}, {point.at}, {wanted:g} cells: {best['efficiency']:.3f}")
        everything += found
    if args.json:
        Path(args.json).write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    for line in short:
        print(f"below {GOAL:g}: {line}", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
