"""Executors: processes of this machine, and an adapter for Ray, which has none of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

from memristore.errors import SpecError


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_executor(workers: int | None = None, threads: int = 1) -> ProcessPoolExecutor:
    """Return processes of this machine that end when this one does, however it ends.

    Parameters
    ----------
    workers : int, optional
        Number of processes; default: as many as there are processors for, `threads` each.
    threads : int
        Threads in each.
    """
    count = max(1, processors() // max(1, threads)) if workers is None else workers
    # Forked children would inherit locks of OpenMP and torch in whatever state they are.
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Leave Ctrl-C to the runner, and do not outlive it: a killed runner can tell nobody to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner = multiprocessing.parent_process()

    def watch() -> None:
        if runner is not None:
            runner.join()
            os._exit(1)

    threading.Thread(target=watch, name="memristore-parent", daemon=True).start()


def stop_workers(pool: Executor) -> None:
    """End the processes of a local executor without waiting for their work."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()


class RayExecutor(Executor):
    """Tasks on a Ray cluster, as an executor.

    Ray has futures of `concurrent.futures` for its objects, but no executor of its own. Tasks are stateless: Ray
    decides where each runs.

    Parameters
    ----------
    **options
        For ``ray.remote``, for example ``num_cpus=2``.

    Raises
    ------
    SpecError
        If Ray is not installed, or not connected: call ``ray.init(...)`` first.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray
        except ImportError as error:
            raise SpecError(f"RayExecutor needs Ray: pip install ray ({error})") from error
        if not ray.is_initialized():
            raise SpecError("RayExecutor: call ray.init(...) first, with the address of your cluster")
        self._ray = ray
        self._options = {"num_cpus": 1} | options
        self._max_workers = int(ray.cluster_resources().get("CPU", 1) // max(self._options["num_cpus"], 1)) or 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function on the cluster."""
        return self._ray.remote(**self._options)(fn).remote(*args, **kwargs).future()  # type: ignore[no-any-return]
