"""A sweep of 200 results, killed ten times: the results must be those of an undisturbed run, bit for bit.

python bench/sweep_kill.py                               local processes, then Dask and MPI where they are installed
python bench/sweep_kill.py --only mpi --kills 20 --seed 7

Each run gets SIGKILL, with everything that it started, at a moment drawn at random: after a number of results drawn
from all numbers, and up to 50 ms. Then the same command goes on. Exit status 1 if a result is lost, differs, or was
run again after it had been kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from memristore import SweepResults
from system import sweep_runs

TIMES = ("0", "1 hour", "1 day", "1 year", "10 years")
SEEDS = 10


def command(kind: str, sweep: Path, results: Path) -> list[str] | None:
    """How to run a sweep in a process that can be killed; None where something is not installed."""
    words = ["-m", "memristore", "sweep", str(sweep), "--out", str(results)]
    if kind == "processes":
        return [sys.executable, *words, "--workers", "2"]
    if kind == "dask":
        found = importlib.util.find_spec("distributed") is not None
        return [sys.executable, sweep_runs.__file__, str(sweep), str(results), "dask"] if found else None
    launcher = sweep_runs.mpiexec() if importlib.util.find_spec("mpi4py") is not None else None
    return None if launcher is None else [*launcher, *words, "--executor", "mpi"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["processes", "dask", "mpi"])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep = sweep_runs.write_sweep(folder, seeds=SEEDS, times=TIMES)
        digest, total = sweep_runs.reference(sweep, folder)
        print(f"undisturbed, one thread: {total} results, digest {digest[:16]}", flush=True)
        for kind in [given.only] if given.only else ["processes", "dask", "mpi"]:
            results = folder / f"{kind}.db"
            words = command(kind, sweep, results)
            if words is None:
                print(f"{kind}: not installed, skipped (pip install 'memristore[cluster]')", flush=True)
                continue
            start = time.monotonic()
            found = sweep_runs.run_killed(words, results, total, given.kills, given.seed)
            with SweepResults(results) as kept:
                same = kept.digest() == digest and len(kept) == total
                again = sum(row["attempts"] > 1 for row in kept.rows())
            print(
                f"{kind}: killed after {', '.join(map(str, found[:-1]))} results; {found[-1]} in the end, "
                f"{'the same bits' if same else 'OTHER BITS'}; {again} were claimed again because a kill came before "
                f"they were kept; {time.monotonic() - start:.0f} s",
                flush=True,
            )
            good = good and same
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
