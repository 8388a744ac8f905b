"""Is every kernel still as many times faster than numpy as it should be? Exits with 1, and says which one is not.

python bench/smoke.py               every instruction set that this machine has, under 20 seconds
python bench/smoke.py --isa avx2

Ratios are of processor times in one process, 32,768 cells, one thread. The decoders of BCH (t = 26, raw error rate
1e-3) and LDPC codes (rate 0.75, where it loses a block in a million) stand beside their definitions in tests/oracle,
block by block. Floors are about a third of what was measured (docs/kernels.md), those of the decoders a fifth, since
they stand beside Python; so noise does not reach them. A ratio below its floor is measured once more before it counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from codes import flips
from codes_ldpc import WORKING, needed, noise_for, seen
from rich.console import Console
from rich.table import Table
from timing import OWN, Task, describe, machine, measure

from kernels import Bench, Walk, tasks
from memristore import _core
from memristore.codes.bch import Bch
from memristore.codes.ldpc import Ldpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracle import bch, ldpc

ROWS = (
    *("normals", "program", "drift", "read", "fused", "program-and-verify", "level errors"),
    *("levels, hard", "levels, soft", "secded encode", "secded decode", "affine", "lookup", "join_sign"),
    *("bch decode", "ldpc decode"),
)
#: Least ratio to numpy. The scalar level has one lane and emulates multiply-add, beside a numpy with all vector units.
FLOORS = {
    isa: dict(zip(ROWS, floors, strict=True))
    for isa, floors in {
        "avx512": (4.3, 4.3, 3.2, 3.4, 3.6, 3.8, 24, 3.7, 3.5, 1.4, 1.2, 1.1, 1.9, 9, 9000, 750),
        "avx2": (2.1, 2.0, 1.8, 1.8, 2.0, 2.3, 13, 2.5, 2.7, 1.4, 1.2, 1.2, 2.7, 9, 3900, 600),
        "scalar": (0.14, 0.11, 0.06, 0.07, 0.08, 0.14, 5, 0.12, 0.13, 1.4, 1.2, 0.13, 0.35, 0.3, 2600, 230),
    }.items()
}
#: For an instruction set without floors of its own.
UNKNOWN = 0.05
CELLS, ROUNDS = 1 << 18, 9


def decoders() -> list[Task]:
    """Both decoders and their definitions, per data bit."""
    code, rng = Bch(t=26), np.random.default_rng(0)
    data = rng.integers(0, 256, (64, code.block_data_bits // 8), dtype=np.uint8)
    check = code.encode(data)
    data ^= flips(rng, data.shape, code.block_data_bits, 1e-3)
    check ^= flips(rng, check.shape, code.check_bits, 1e-3)
    word = bch.from_bytes(data[0]) << code.check_bits | bch.from_bytes(check[0])
    defined, length = bch.Bch(code.field_degree, 26), code.block_data_bits + code.check_bits
    soft = Ldpc(design_rate=0.75, length="short")
    sent = rng.integers(0, 256, (16, soft.block_data_bits // 8), dtype=np.uint8)
    llr = seen(sent, soft.encode(sent), noise_for(needed(soft, WORKING)), rng)
    base, most = ldpc.Base(soft.base.z, soft.base.rows), (soft.block_data_bits, soft.iterations, soft.attempts)
    calls: list[tuple[str, str, int, Callable[[], object]]] = [
        ("bch decode", OWN, data.size, lambda: code.decode(data.copy(), check.copy(), 1)),
        ("bch decode", "numpy", data[0].size, lambda: defined.decode(word, length)),
        ("ldpc decode", OWN, sent.size, lambda: soft.decode_soft(llr, 1)),
        ("ldpc decode", "numpy", sent[0].size, lambda: ldpc.decode_block(base, llr[0], *most)),
    ]
    return [Task((row, side, "L2", 1), 8.0 * size, call) for row, side, size, call in calls]


def least(isa: str, row: str) -> float:
    """Floor of a row."""
    return FLOORS[isa][row] if isa in FLOORS else UNKNOWN


def ratios(isa: str, rows: list[str], given: list[Task], rounds: int) -> dict[str, float]:
    """Numpy's time over ours by row, for some rows."""
    before = _core.isa()
    _core.set_isa(isa)
    try:
        some = [t for t in given if t.key[0] in rows]
        for task in some:
            task.reset()
        measure(some, rounds, label=isa)
    finally:
        _core.set_isa(before)
    times = {task.key[:2]: task.median for task in some}
    return {row: times[row, "numpy"] / times[row, OWN] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_core.isa_available(), nargs="*", default=_core.isa_available())
    options = parser.parse_args()
    kernels, walk = Bench(CELLS).kernels(), Walk(CELLS)
    given = [task for kernel in kernels for task in tasks(kernel, "L2", walk, quick=True)]
    given = [task for task in given if task.key[1] in (OWN, "numpy") and task.key[3] == 1] + decoders()
    rows = list(dict.fromkeys(task.key[0] for task in given))
    table, found, slow = Table("x numpy (floor)", *options.isa), {}, []
    for isa in options.isa:
        found[isa] = ratios(isa, rows, given, ROUNDS)
        below = [row for row in rows if found[isa][row] < least(isa, row)]
        if below:
            found[isa] |= ratios(isa, below, given, 3 * ROUNDS)
        slow += [(isa, row) for row in below if found[isa][row] < least(isa, row)]
    for row in rows:
        digits = 2 if least("avx512", row) < 100 else 0
        table.add_row(row, *(f"{found[isa][row]:,.{digits}f} ({least(isa, row):,g})" for isa in options.isa))
    console = Console()
    console.print(describe(machine()))
    console.print(table)
    for isa, row in slow:
        print(f"{isa}: {row} is {found[isa][row]:.2f} x numpy, below its floor {least(isa, row):g}", file=sys.stderr)
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
