"""Images with labels, the accuracy on them, and what a task hands out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from memristore.evaluate.tasks.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Parameters
    ----------
    images : Tensor, shape (n, channels, height, width), float32
        Normalised pixels.
    labels : Tensor, shape (n,), int64
        Classes.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """The metric of the tasks: ``accuracy(model)`` is the share of images classified correctly, in [0, 1].

    Parameters
    ----------
    test : Images
        What to classify.
    batch : int
        Images at a time.
    """

    test: Images
    batch: int = 250

    #: Tables and plots print a fraction as percent.
    unit = "fraction"
    name = "accuracy"

    def __call__(self, model: nn.Module) -> float:
        """Classify all images in evaluation mode (the mode is put back) without gradients."""
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                right = sum(
                    int((model(images).argmax(1) == labels).sum())
                    for images, labels in zip(
                        self.test.images.split(self.batch), self.test.labels.split(self.batch), strict=True
                    )
                )
        finally:
            model.train(was_training)
        return right / len(self.test)


@dataclass(frozen=True, eq=False)
class TaskData:
    """A trained network and how to judge it.

    Parameters
    ----------
    name : str
        Task.
    description : str
        Data set, network and sizes in one line.
    model : Module
        Trained network in evaluation mode.
    metric : Accuracy
        Accuracy on the test images, in [0, 1].
    train, test : Images
        Data.
    recipe : Recipe
        How the network was trained.
    seed : int
        Seed of the training.
    checksum : str
        SHA-256 of the data.
    cache_dir : str, optional
        Where trained networks are kept; None means the default.
    """

    name: str
    description: str
    model: nn.Module
    metric: Accuracy
    train: Images
    test: Images
    recipe: Recipe
    seed: int
    checksum: str
    cache_dir: str | None = None

    @property
    def test_samples(self) -> int:
        """Number of test images."""
        return len(self.test)


def checksum_of(*arrays: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes of arrays, as hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
