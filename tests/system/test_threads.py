"""Threads of ours, of Python and of others: no bits, no deadlock, no oversubscription."""

from __future__ import annotations

import multiprocessing
import sys
import threading

import numpy as np
import pytest

from memristore import _core

N = 1 << 20


def normals(event: int, threads: int = 0) -> np.ndarray:
    out = np.empty(N, np.float32)
    _core.normals(3, _core.PURPOSES["user"], event, 0, out, threads)
    return out


def child(queue: multiprocessing.Queue) -> None:
    queue.put((normals(1).tobytes(), _core.max_threads()))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_works_on_one_thread():
    wanted = normals(1, 2)  # the parent's pool of threads exists before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    got, threads = queue.get(timeout=60)
    process.join(timeout=60)
    assert process.exitcode == 0
    assert got == wanted.tobytes()
    assert threads == 1


def test_calls_from_many_python_threads_agree():
    wanted = [normals(event, 1) for event in range(6)]
    found: dict[int, bool] = {}

    def work(event: int) -> None:
        found[event] = all(np.array_equal(normals(event), wanted[event]) for _ in range(5))

    workers = [threading.Thread(target=work, args=(event,)) for event in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert found == dict.fromkeys(range(6), True)
