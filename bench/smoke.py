"""Is every kernel still as many times faster than numpy as it should be? Exits with 1, and says which one is not.

python bench/smoke.py               every instruction set that this machine has, under 20 seconds
python bench/smoke.py --isa avx2

Ratios are of processor times in one process, 32,768 cells, one thread. Floors are about a third of what was measured
(docs/kernels.md), so that noise does not reach them; a ratio below its floor is measured once more before it counts.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table
from timing import OWN, Task, describe, machine, measure

from kernels import Bench, Walk, tasks
from memristore import _core

ROWS = (
    *("normals", "program", "drift", "read", "fused", "program-and-verify", "level errors"),
    *("store_bits", "secded encode", "secded decode", "affine", "lookup", "join_sign"),
)
#: Least ratio to numpy. The scalar level has one lane and emulates multiply-add, beside a numpy with all vector units.
FLOORS = {
    isa: dict(zip(ROWS, floors, strict=True))
    for isa, floors in {
        "avx512": (4.3, 4.3, 3.2, 3.4, 3.6, 3.8, 24, 4.0, 1.4, 1.2, 1.1, 1.9, 9),
        "avx2": (2.1, 2.0, 1.8, 1.8, 2.0, 2.3, 13, 2.2, 1.4, 1.2, 1.2, 2.7, 9),
        "scalar": (0.14, 0.11, 0.06, 0.07, 0.08, 0.14, 5, 0.09, 1.4, 1.2, 0.13, 0.35, 0.3),
    }.items()
}
#: For an instruction set without floors of its own.
UNKNOWN = 0.05
CELLS, ROUNDS = 1 << 18, 9


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
    given = [task for task in given if task.key[1] in (OWN, "numpy") and task.key[3] == 1]
    rows = [kernel.name for kernel in kernels]
    table, found, slow = Table("x numpy (floor)", *options.isa), {}, []
    for isa in options.isa:
        found[isa] = ratios(isa, rows, given, ROUNDS)
        below = [row for row in rows if found[isa][row] < least(isa, row)]
        if below:
            found[isa] |= ratios(isa, below, given, 3 * ROUNDS)
        slow += [(isa, row) for row in below if found[isa][row] < least(isa, row)]
    for row in rows:
        table.add_row(row, *(f"{found[isa][row]:.2f} ({least(isa, row):g})" for isa in options.isa))
    console = Console()
    console.print(describe(machine()))
    console.print(table)
    for isa, row in slow:
        print(f"{isa}: {row} is {found[isa][row]:.2f} x numpy, below its floor {least(isa, row):g}", file=sys.stderr)
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
