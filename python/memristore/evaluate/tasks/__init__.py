"""Tasks: a data set, a network trained on it, and its accuracy.

>>> from memristore.evaluate import tasks
>>> digits = tasks.get("digits").load()
>>> digits.metric(digits.model) > 0.97
True
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Protocol

from memristore.errors import SpecError
from memristore.evaluate.tasks.cifar10 import Cifar10
from memristore.evaluate.tasks.data import Accuracy, Expected, Fidelity, Images, TaskData
from memristore.evaluate.tasks.digits import Digits
from memristore.evaluate.tasks.imagenet import ImageNet
from memristore.evaluate.tasks.mnist import Mnist
from memristore.evaluate.tasks.preprocess import Preprocess
from memristore.evaluate.tasks.training import pruned_model

__all__ = [
    "Accuracy",
    "Cifar10",
    "Expected",
    "Fidelity",
    "ImageNet",
    "Images",
    "Preprocess",
    "Task",
    "TaskData",
    "get",
    "known",
    "names",
    "pruned_model",
]


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


_TASKS: dict[str, Task] = {task.name: task for task in (Cifar10(), Digits(), ImageNet(), Mnist())}


def names() -> list[str]:
    """Names of the tasks."""
    return sorted(_TASKS)


def known(word: str) -> bool:
    """Whether a word names a task, with or without a network: ``imagenet``, ``imagenet:mobilenet_v2``."""
    return word.partition(":")[0] in _TASKS


def get(name: str, network: str | None = None) -> Task:
    """Return a task by name.

    Parameters
    ----------
    name : str
        ``digits``, ``mnist``, ``cifar10``, ``imagenet``; a network may follow after a colon.
    network : str, optional
        Which network of the task: ``resnet20``, ``resnet32``, ... for ``cifar10``; ``resnet18``, ``mobilenet_v2``,
        ``torchvision:NAME``, ``timm:NAME``, ... for ``imagenet``.

    Raises
    ------
    SpecError
        If there is none of that name, or the task has no such network.
    """
    name, colon, inner = name.partition(":")
    if name not in _TASKS:
        raise SpecError(f"no task is called {name!r}; there are {', '.join(names())}")
    network = network or inner if colon else network
    task = _TASKS[name]
    if not network:
        return task
    if isinstance(task, ImageNet):
        return replace(task, network=network)
    depth = network.removeprefix("resnet")
    if isinstance(task, Cifar10) and depth.isdecimal():
        return replace(task, depth=int(depth))
    raise SpecError(f"{name}: has no network {network!r}; cifar10 has resnet20, resnet32, ..., imagenet many by name")
