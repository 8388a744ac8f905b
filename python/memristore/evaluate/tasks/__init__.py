"""Tasks: a data set, a network trained on it, and its accuracy.

>>> from memristore.evaluate import tasks
>>> digits = tasks.get("digits").load()
>>> digits.metric(digits.model) > 0.97
True
"""

from __future__ import annotations

import os
from typing import Protocol

from memristore.errors import SpecError
from memristore.evaluate.tasks.cifar10 import Cifar10
from memristore.evaluate.tasks.data import Accuracy, Images, TaskData
from memristore.evaluate.tasks.digits import Digits
from memristore.evaluate.tasks.mnist import Mnist
from memristore.evaluate.tasks.training import pruned_model

__all__ = ["Accuracy", "Cifar10", "Images", "Task", "TaskData", "get", "names", "pruned_model"]


class Task(Protocol):
    """Something to judge a stored network by."""

    @property
    def name(self) -> str:
        """Registry key and CLI word."""
        ...

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> TaskData:
        """Return the trained network, its metric and the data.

        Parameters
        ----------
        data_dir : path, optional
            Where the data are, if they do not come with a library.
        cache_dir : path, optional
            Where trained networks are kept; default: environment variable ``MEMRISTORE_CACHE``, else the user's
            cache folder.
        seed : int
            Seed of the training. The same seed gives the same network on the same kind of machine.
        progress : bool
            Show a bar on standard error if that is a terminal.

        Raises
        ------
        DataError
            If data are missing or damaged.
        """
        ...


_TASKS: dict[str, Task] = {task.name: task for task in (Cifar10(), Digits(), Mnist())}


def names() -> list[str]:
    """Names of the tasks."""
    return sorted(_TASKS)


def get(name: str) -> Task:
    """Return a task by name.

    Raises
    ------
    SpecError
        If there is none of that name.
    """
    if name not in _TASKS:
        raise SpecError(f"no task is called {name!r}; there are {', '.join(names())}")
    return _TASKS[name]
