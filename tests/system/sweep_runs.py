"""A small sweep, and ways to run it in a process that can be killed. Run as a script, it is that process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from memristore import run_sweep

#: Bits on two levels in a fixed code: no search for a format, so that a fresh process starts at once.
QUICK = {"bits": {"type": "bch", "t": 4}, "levels": {"count": 2}}
FILE = """
name = "small"
times = {times}
seeds = {seeds}
devices = ["awgn/20", "ideal"]
baselines = []

[models.net]
weights = "net.safetensors"

[specs.plain]
bits = {{ type = "bch", t = 4 }}
levels = {{ count = 2 }}

[specs.sign]
protect = ["sign"]
bits = {{ type = "bch", t = 4 }}
levels = {{ count = 2 }}
"""


def write_sweep(folder: Path, seeds: int = 4, size: int = 24, times: Sequence[str] = ("0", "1 day", "1 year")) -> Path:
    """Weights and a sweep beside them: four results per seed and time."""
    draw = torch.Generator().manual_seed(0)
    weights = {f"{name}.weight": torch.randn(size, size, generator=draw) for name in ("first", "second")}
    save_file(weights, folder / "net.safetensors")
    path = folder / "small.toml"
    path.write_text(FILE.format(seeds=seeds, times=list(times)), encoding="utf-8")
    return path


def reference(sweep: Path, folder: Path) -> tuple[str, int]:
    """Digest and number of the results of an undisturbed run, in threads of this process."""
    with ThreadPoolExecutor(1) as pool, run_sweep(sweep, folder / "reference.db", pool, progress=False) as found:
        return found.digest(), len(found)


def finished(results: Path) -> dict[Any, float]:
    """When each result came, by its place in the sweep; nothing while there is no file yet."""
    if not results.exists():
        return {}
    with closing(sqlite3.connect(results, timeout=30)) as db:
        try:
            rows = db.execute("SELECT recipe, seed, at_seconds, finished FROM points WHERE state = 'done'").fetchall()
        except sqlite3.OperationalError:
            return {}
    return {row[:3]: row[3] for row in rows}


def descendants(process: int) -> list[int]:
    """A process and all that it started, from /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, queue = [], [process]
    while queue:
        found.append(queue.pop())
        queue.extend(parents.get(found[-1], []))
    return found


def kill_tree(runner: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a runner and everything that it started: nobody gets to clean up."""
    held: set[int] = set()
    # Held first, so that none starts another one unseen.
    while new := set(descendants(runner.pid)) - held:
        _signal(new, signal.SIGSTOP)
        held |= new
    _signal(held, signal.SIGKILL)


def _signal(processes: set[int], number: int) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def run_killed(
    command: Sequence[str],
    results: Path,
    total: int,
    kills: int,
    seed: int,
    *,
    tree: bool = True,
    patience: float = 300,
) -> list[int]:
    """Run a sweep, kill it at random moments, and let the last run end; returns how many results each kill found.

    Moments are drawn by progress (so many results, all numbers equally likely) and then by time (up to 50 ms later),
    so that they fall before, between and within results whatever the speed of the machine. Raises if a result that was
    there before a kill is lost or came again.
    """
    draw = random.Random(seed)
    marks = sorted(draw.randrange(total) for _ in range(kills))
    found, before = [], dict[Any, float]()
    for mark in [*marks, None]:
        runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end, known = time.monotonic() + patience, 0
        while runner.poll() is None and (mark is None or known < mark):
            if len(finished(results)) > known:
                end, known = time.monotonic() + patience, len(finished(results))
            if time.monotonic() > end:
                kill_tree(runner)
                raise TimeoutError(f"no progress within {patience:g} s: {known} of {total} results")
            time.sleep(0.02)
        if mark is not None:
            time.sleep(draw.uniform(0, 0.05))
            kill_tree(runner)
        _, errors = runner.communicate()
        said = errors.decode()
        if runner.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            raise RuntimeError(f"{command} ended with {runner.returncode}: {said}")
        now = finished(results)
        if changed := {place for place, when in before.items() if now.get(place) != when}:
            raise RuntimeError(f"{len(changed)} results were lost or run again")
        before = now
        found.append(len(now))
    return found


def mpiexec() -> list[str] | None:
    """Launcher of two ranks with the interpreter of this process, as ``mpiexec ... python -m mpi4py.futures``."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    # Open MPI counts cores, does not like root, and waits at full speed; MPICH knows none of these options.
    words = ["--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]
    words = words if "Open MPI" in version or "OpenRTE" in version else []
    return [found, *words, "-n", "2", sys.executable, "-m", "mpi4py.futures"]


def main(sweep: str, results: str, kind: str) -> None:
    """Run a sweep in threads of this process, or on a Dask cluster of two processes."""
    if kind == "dask":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            run_sweep(sweep, results, client.get_executor(), progress=False).close()
        return
    with ThreadPoolExecutor(1) as pool:
        run_sweep(sweep, results, pool, ahead=2, progress=False).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
