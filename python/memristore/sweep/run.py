"""Running a sweep on any executor of `concurrent.futures`."""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from memristore.errors import SpecError, SweepError
from memristore.sweep import claims
from memristore.sweep.claims import Claim, Heartbeat
from memristore.sweep.executors import local_executor, stop_workers
from memristore.sweep.plan import Sweep
from memristore.sweep.results import SweepResults
from memristore.sweep.schema import named, transaction
from memristore.sweep.work import load_network, run_array

#: Seconds between looks at what other runners do.
_LOOK: Final = 0.5
#: Longest list of failures that is spelled out.
_SHOWN: Final = 5


def run_sweep(
    sweep: Sweep | str | os.PathLike[str],
    results: str | os.PathLike[str],
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    ahead: int | None = None,
    threads: int = 1,
    lease: float = 60.0,
    retry: bool = False,
    progress: bool = True,
) -> SweepResults:
    """Run a sweep, or go on with it, until every point has its result.

    Results are kept as they come. Killed at any moment, the same call goes on where it stopped: what is in the file is
    never run again. Several runners, on one machine or many that share a disk, may work on one file. A result depends
    on network, recipe, device, seed and time alone, so neither executor nor order nor interruptions change a bit of it.

    Parameters
    ----------
    sweep : Sweep or path
        A sweep, or its TOML file.
    results : path
        SQLite file; made if it does not exist. It may hold several sweeps; points that they share are run once. Must
        lie on a disk of this machine, or one whose locks work (SQLite's write-ahead log does not work over NFS).
    executor : Executor, optional
        Any executor of `concurrent.futures`, for example ``client.get_executor()`` of Dask,
        ``mpi4py.futures.MPIPoolExecutor()`` or `RayExecutor`. It is not shut down. Default: processes of this machine.
    workers : int, optional
        Processes, where `executor` is not given; default: as many as this process may use processors.
    ahead : int, optional
        Arrays handed out at a time, at least as many as there are workers; default: twice the workers, where known.
    threads : int
        Threads in each worker. Kernels give the same bits for any number; the network's own arithmetic may not, so keep
        it the same for results that are to agree to the last bit.
    lease : float
        Seconds after which other runners may take over what a silent one has claimed. One that was killed on the same
        machine is noticed at once.
    retry : bool
        Try failed points again.
    progress : bool
        Show a bar with the time left on standard error if that is a terminal.

    Returns
    -------
    SweepResults

    Raises
    ------
    SweepError
        If points failed or workers died; all other results are in the file.
    SpecError, FileError, DataError
        If the sweep, its file of results or its data are not usable.
    KeyboardInterrupt
        On Ctrl-C, after what was running has been kept. A second Ctrl-C does not wait for that.
    """
    sweep = sweep if isinstance(sweep, Sweep) else Sweep.from_file(sweep)
    _check(executor, workers, ahead, threads, lease)
    for name, model in sweep.models.items():
        try:
            load_network(model.to_dict())
        except SpecError as error:
            raise SpecError(f"models.{name}: {error}") from error
    found = SweepResults(results, create=True)
    try:
        key = found.add(sweep)
        if retry:
            _reopen(found, key)
        _Run(found, key, threads, lease).go(executor, workers, ahead, progress, sweep.name)
        _complain(found, key)
    except BaseException:
        found.close()
        raise
    return found


def _check(executor: object, workers: object, ahead: object, threads: object, lease: object) -> None:
    for name, value in (("workers", workers), ("ahead", ahead), ("threads", threads)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise SpecError(f"run_sweep: {name} must be an integer of at least 1, not {value!r}")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise SpecError(f"run_sweep: executor must be a concurrent.futures.Executor, not {executor!r}")
    if executor is not None and workers is not None:
        raise SpecError("run_sweep: an executor has its own workers; leave out workers, or give ahead")
    if isinstance(lease, bool) or not isinstance(lease, (int, float)) or not lease >= 1:
        raise SpecError(f"run_sweep: lease must be at least 1 second, not {lease!r}")


def _reopen(found: SweepResults, key: str) -> None:
    with named(found.path), transaction(found.db) as db:
        db.execute(
            "UPDATE points SET state = 'open', error = NULL WHERE state = 'failed' AND EXISTS (SELECT 1 FROM members m"
            " WHERE m.sweep = ? AND m.recipe = points.recipe AND m.seed = points.seed"
            " AND m.at_seconds = points.at_seconds)",
            (key,),
        )


def _complain(found: SweepResults, key: str) -> None:
    failed = claims.failures(found.db, key)
    if not failed:
        return
    lines = [
        f"{row['scheme']!r} of {row['model']!r} on {row['device']!r}, seed {row['seed']}: "
        + str(row["error"]).splitlines()[0]
        for row in failed[:_SHOWN]
    ]
    more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    raise SweepError(
        f"{found.path}: {len(failed)} arrays failed, all other results are kept: {'; '.join(lines)}{more}; mend the "
        "cause and run again with retry (--retry), or take them out of the sweep"
    )


class _Run:
    """One runner at work on one sweep."""

    def __init__(self, found: SweepResults, key: str, threads: int, lease: float) -> None:
        self.found = found
        self.key = key
        self.threads = threads
        self.lease = float(lease)
        self.owner = claims.new_owner()
        self.running: dict[Future[Any], Claim] = {}

    def go(self, executor: Executor | None, workers: int | None, ahead: int | None, progress: bool, name: str) -> None:
        """Hand out arrays and keep what comes back, until nothing is left."""
        counts = self.found.counts(self.key)
        total, done = sum(counts.values()), counts.get("done", 0)
        if done + counts.get("failed", 0) == total:
            return
        own = executor is None
        with ExitStack() as stack:
            pool = stack.enter_context(local_executor(workers, self.threads)) if executor is None else executor
            room = ahead or 2 * int(getattr(pool, "_max_workers", None) or os.cpu_count() or 2)
            stack.enter_context(Heartbeat(Path(self.found.path), self.owner, self.lease))
            bar = stack.enter_context(
                tqdm(total=total, initial=done, desc=name, unit="result", disable=None if progress else True)
            )
            try:
                self._loop(pool, room, bar)
            except KeyboardInterrupt:
                self._wind_down(pool, bar, own)
                raise
            finally:
                for future in self.running:
                    future.cancel()
                with named(self.found.path), transaction(self.found.db) as db:
                    claims.release(db, self.owner)

    def _loop(self, pool: Executor, room: int, bar: Any) -> None:
        while True:
            while len(self.running) < room:
                with named(self.found.path):
                    claim = claims.claim(self.found.db, self.owner, self.key, self.lease)
                if claim is None:
                    break
                self.running[pool.submit(run_array, claim.work(self.threads))] = claim
            if self.running:
                done, _ = wait(self.running, timeout=10 * _LOOK, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future, bar)
                continue
            counts = self.found.counts(self.key)
            bar.n = counts.get("done", 0)
            bar.refresh()
            if not counts.get("open", 0) and not counts.get("claimed", 0):
                return
            # What is left belongs to other runners; if they vanish, it falls to us.
            time.sleep(_LOOK)

    def _take(self, future: Future[Any], bar: Any) -> None:
        """Keep a result. What `run_array` raised is in it; what comes here is the executor's, and ends this run."""
        claim = self.running.pop(future)
        try:
            found = future.result()
        except (Exception, CancelledError) as error:
            raise SweepError(
                f"{self.found.path}: the executor lost its work ({type(error).__name__}: {error}); where workers died, "
                "they may have run out of memory: use fewer. Results so far are kept, and the same call goes on"
            ) from error
        bar.update(self.found.keep(claim, found))

    def _wind_down(self, pool: Executor, bar: Any, own: bool) -> None:
        """After Ctrl-C: call off what has not begun, and keep what is running; at once if asked again."""
        for future in list(self.running):
            if future.cancel():
                self.running.pop(future)
        bar.set_description_str(f"stopping, {len(self.running)} arrays to go")
        try:
            while self.running:
                done, _ = wait(self.running, timeout=10 * _LOOK, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future, bar)
        except (KeyboardInterrupt, SweepError):
            if own:
                stop_workers(pool)
