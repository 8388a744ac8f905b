"""Times pieces of work in turns, in one process, so that a noisy machine disturbs all of them alike.

A sample is a few calls in a row, about a millisecond. On one thread it is the calling thread's processor time, which is
the wall time of an idle machine: the time that other programs took does not count. On more threads it is wall time, and
clean if all of them really ran (the caller for 96.5 % of the time, the process for 85 % of it on every thread). Medians
are over clean samples; where fewer than three are clean there is none, and the minimum stands for it.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from memristore import _core

OWN = "memristore"
CLEAN_CALLER, CLEAN_PROCESS = 0.965, 0.85
ENOUGH_CLEAN = 3
SHORTER = 3
#: Work that takes longer than this is not warmed up before each sample.
SLOW = 0.01

#: (row, side, place, threads), for example ("program", "numpy", "L2", 1)
Key = tuple[str, str, str, int]


@dataclass
class Task:
    """One piece of work.

    Parameters
    ----------
    key : Key
        What it is, who does it, where its data lie, and on how many threads.
    items : float
        Units of work in a call.
    run : callable
        A call.
    before : callable
        Called before each sample, not timed.
    """

    key: Key
    items: float
    run: Callable[[], object]
    before: Callable[[], object] = lambda: None
    calls: int = 0
    duration: float = 0.0
    samples: list[float] = field(default_factory=list)
    clean: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether there is a median."""
        return self.key[3] == 1 or len(self.clean) >= ENOUGH_CLEAN

    @property
    def median(self) -> float:
        """Median, ns per item; the minimum where there is none."""
        if self.key[3] == 1:
            return statistics.median(self.busy)
        return statistics.median(self.clean) if self.settled else self.minimum

    @property
    def minimum(self) -> float:
        """Minimum, ns per item."""
        return min(self.busy if self.key[3] == 1 else self.samples)

    def reset(self) -> None:
        """Forget all samples, and how long they are."""
        self.calls, self.duration = 0, 0.0
        for kept in (self.samples, self.clean, self.busy):
            kept.clear()

    def sample(self, least: float) -> None:
        """Take one sample of about `least` seconds, after a quarter of that to warm up."""
        self.before()
        run = self.run
        for _ in range(1 + self.calls // 4 if self.duration < SLOW else 0):
            run()
        if self.calls == 0:
            start = time.perf_counter()
            run()
            self.duration = max(time.perf_counter() - start, 1e-7)
            self.calls = max(1, min(1000, round(least / self.duration)))
        start, caller, process = time.perf_counter(), time.thread_time(), time.process_time()
        for _ in range(self.calls):
            run()
        wall = time.perf_counter() - start
        caller, process = time.thread_time() - caller, time.process_time() - process
        self.duration = min(self.duration, wall / self.calls)
        each = wall / self.calls / self.items * 1e9
        self.samples.append(each)
        self.busy.append(caller / self.calls / self.items * 1e9)
        if caller >= CLEAN_CALLER * wall and process >= CLEAN_PROCESS * self.key[3] * wall:
            self.clean.append(each)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, for a file."""
        row, side, place, threads = self.key
        return {
            "row": row,
            "side": side,
            "place": place,
            "threads": threads,
            "items": self.items,
            "median_ns": self.median,
            "minimum_ns": self.minimum,
            "wall_median_ns": statistics.median(self.samples),
            "settled": self.settled,
            "samples": len(self.samples),
            "clean": len(self.clean),
        }


def measure(tasks: Sequence[Task], rounds: int, least: float = 1e-3, label: str = "") -> None:
    """Take `rounds` samples of every task, in turn; more and shorter ones where clean ones are rare."""
    # No refreshing in the background: that would be another thread of this process.
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        bar = progress.add_task(label, total=rounds)
        for _ in range(rounds):
            progress.refresh()
            for task in tasks:
                split = SHORTER if task.key[1] == OWN and task.key[3] > 1 else 1
                for _ in range(split):
                    task.sample(least / split)
            progress.advance(bar)


class Results(dict[Key, Task]):
    """Tasks by key, read by median or by minimum."""

    by = "median"

    def ns(self, row: str, side: str = OWN, place: str = "L2", threads: int = 1) -> float:
        """Nanoseconds per unit; not a number where it was not measured."""
        task = self.get((row, side, place, threads))
        return float(getattr(task, self.by)) if task else math.nan

    def ratio(self, row: str, side: str, place: str = "L2", threads: int = 1) -> float:
        """How many times longer `side` takes, on as many threads; numpy has one."""
        return self.ns(row, side, place, 1 if side == "numpy" else threads) / self.ns(row, OWN, place, threads)


@dataclass(frozen=True)
class Target:
    """A number to reach: at most `limit` (and better `aim`), or at least `limit` where `least`."""

    name: str
    limit: float
    found: Callable[[Any], float]
    aim: float = math.nan
    least: bool = False

    def verdict(self, results: Results) -> dict[str, Any]:
        """Value by median and by minimum, and what that means."""
        values = {}
        for by in ("median", "minimum"):
            results.by = by
            values[by] = self.found(results)
        results.by = "median"
        met = {by: v >= self.limit if self.least else v <= self.limit for by, v in values.items()}
        word = "met" if met["median"] else "by minimum only" if met["minimum"] else "missed"
        word = "aim met" if not self.least and values["median"] <= self.aim else word
        about = {"target": self.name, "limit": self.limit, "aim": self.aim, "least": self.least}
        return {**about, **values, "verdict": word}


def _cpu() -> tuple[str, float | None]:
    """Model name, and the clock that the system reports, MHz."""
    name, clock = platform.processor() or platform.machine(), None
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return name, None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "cpu MHz":
            clock = float(value)
    return name, clock


def _caches() -> dict[str, str]:
    """Sizes of the first core's caches as the system gives them: {"L2": "2048K", ...}."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = (folder / "type").read_text("utf-8").strip()
        if kind != "Instruction":
            found["L" + (folder / "level").read_text("utf-8").strip()] = (folder / "size").read_text("utf-8").strip()
    return found


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine(packages: Iterable[str] = ("memristore", "numpy", "torch")) -> dict[str, Any]:
    """What the numbers were measured on, and how busy it was."""
    name, clock = _cpu()
    return {
        "cpu": name,
        "clock_mhz": clock,
        "cores": os.cpu_count(),
        "caches": _caches(),
        "isa": _core.isa(),
        "isa_available": _core.isa_available(),
        "threads": _core.max_threads(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": _versions(packages),
    }


def describe(given: dict[str, Any]) -> str:
    """`machine` in two lines."""
    caches, versions, load = given["caches"], given["versions"], given["load_average"]
    clock = f", {given['clock_mhz']:.0f} MHz as reported" if given["clock_mhz"] else ""
    return (
        f"{given['cpu']}, {given['cores']} cores{clock}, {', '.join(f'{k} {v}' for k, v in caches.items())}; "
        f"{given['isa']}\nload average {load[0]:.2f} at the start; python {given['python']}, "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
    )
