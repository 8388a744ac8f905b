"""`digits`: the 1,797 handwritten 8x8 digits that come with scikit-learn. Needs no download."""

from __future__ import annotations

import os
from typing import ClassVar, Final

import numpy as np
import torch

from memristore.evaluate.tasks.data import Accuracy, Images, TaskData, checksum_of
from memristore.evaluate.tasks.recipe import Recipe
from memristore.evaluate.tasks.training import trained_lenet5

#: Mean and standard deviation of the pixels scaled to [0, 1].
_MEAN: Final = 0.3053
_STD: Final = 0.3761


def _is_test(labels: np.ndarray) -> np.ndarray:
    """Mark every third image of each class: stratified, and the same in every release of every library."""
    test = np.zeros(labels.size, dtype=bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[2::3]] = True
    return test


class Digits:
    """LeNet-5 for 8x8 pixels (21,386 parameters): 1,201 images to train on, 596 to test on.

    Data: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998, as in scikit-learn.
    """

    name: ClassVar[str] = "digits"
    recipe: ClassVar[Recipe] = Recipe(
        size=8,
        epochs=120,
        batch=64,
        rate=0.005,
        rotate=0.15,
        stretch=0.1,
        shift=0.5,
        prune_steps=4,
        prune_epochs=60,
        prune_rate=0.01,
    )

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> TaskData:
        """Return the trained network, its metric and the data; see `Task.load`. `data_dir` is not needed."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        pixels = np.asarray(pixels, dtype=np.uint8).reshape(-1, 8, 8)
        labels = np.asarray(labels, dtype=np.int64)
        images = (torch.from_numpy(pixels)[:, None].float() / 16 - _MEAN) / _STD
        test = torch.from_numpy(_is_test(labels))
        target = torch.from_numpy(labels)
        train_set, test_set = Images(images[~test], target[~test]), Images(images[test], target[test])
        checksum = checksum_of(pixels, labels)
        cache = None if cache_dir is None else os.fspath(cache_dir)
        return TaskData(
            name=self.name,
            description=f"LeNet-5 (8x8) on digits, {len(test_set)} test images",
            model=trained_lenet5(self.name, train_set, self.recipe, seed, checksum, cache, progress),
            metric=Accuracy(test_set),
            train=train_set,
            test=test_set,
            recipe=self.recipe,
            seed=seed,
            checksum=checksum,
            cache_dir=cache,
        )
