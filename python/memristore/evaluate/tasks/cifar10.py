"""`cifar10`: CIFAR-10 and trained weights of a residual network, both from files of yours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch

from memristore.errors import DataError, FileError, SpecError
from memristore.evaluate.tasks.cifar_files import SIZES, Labelled, read_part
from memristore.evaluate.tasks.data import Accuracy, Images, TaskData, checksum_of
from memristore.evaluate.tasks.recipe import Recipe
from memristore.evaluate.tasks.resnet import CifarResNet
from memristore.evaluate.weights import read_weights

#: Mean and standard deviation of pixels scaled to [0, 1] that the published weights were trained with.
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)
_ENDINGS: Final = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """ResNet-20 (269,722 parameters) or deeper, already trained: 50,000 images for calibration, 10,000 to test on.

    Nothing is trained or fetched: weights come from a file, by the names ``conv1``, ``bn1``,
    ``layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}``, ``linear``.

    Parameters
    ----------
    depth : int
        6n + 2.
    weights : path, optional
        File of weights (``.safetensors``, ``.pt``, ``.pth``); by default ``cifar10_resnet{depth}`` with one of these
        endings in the data folder, in ``models`` below it, or in ``models`` beside it.
    train, test : int, optional
        Images read, from the first; all by default (820 MB of memory).

    Raises
    ------
    SpecError
        If a number is not valid.

    Notes
    -----
    Data: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009. Weights that fit are those of
    github.com/akamaster/pytorch_resnet_cifar10.
    """

    name: ClassVar[str] = "cifar10"
    #: Only for fine-tuning: the network itself is not trained here.
    recipe: ClassVar[Recipe] = Recipe(size=32, epochs=0, batch=128, rate=0.001)

    depth: int = 20
    weights: str | os.PathLike[str] | None = None
    train: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        for part, count in (("train", self.train), ("test", self.test)):
            if count is not None and (isinstance(count, bool) or not 1 <= count <= SIZES[part]):
                raise SpecError(f"cifar10: {part} must be a number of images in [1, {SIZES[part]}], not {count!r}")

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> TaskData:
        """Return the trained network, its metric and the data; see `Task.load`. `data_dir` holds data and weights."""
        train = read_part(data_dir, "train", self.train)
        test = read_part(data_dir, "test", self.test)
        test_set = _normalised(test)
        return TaskData(
            name=self.name,
            description=f"ResNet-{self.depth} on CIFAR-10, {len(test_set)} test images",
            model=self.network(data_dir),
            metric=Accuracy(test_set),
            train=_normalised(train),
            test=test_set,
            recipe=self.recipe,
            seed=seed,
            checksum=checksum_of(*train, *test),
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
        )

    def network(self, data_dir: str | os.PathLike[str] | None = None) -> CifarResNet:
        """Return the network alone, in evaluation mode.

        Raises
        ------
        DataError
            If there is no file of weights, or if it does not fit; the message says what to put where.
        """
        path = self._weights_file(data_dir)
        # Initial weights are drawn and thrown away; nobody's random numbers may move by that.
        with torch.random.fork_rng(devices=[]):
            model = CifarResNet(self.depth)
        try:
            state = read_weights(path)
            # Weights saved from a DataParallel wrapper carry its name.
            model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
        except (FileError, RuntimeError) as error:
            raise DataError(f"cifar10: {path} does not hold the weights of a ResNet-{self.depth}: {error}") from error
        return model.eval()

    def _weights_file(self, data_dir: str | os.PathLike[str] | None) -> Path:
        if self.weights is not None:
            return Path(self.weights)
        root = Path("." if data_dir is None else data_dir)
        stem = f"cifar10_resnet{self.depth}"
        for folder in (root, root / "models", root.parent / "models"):
            for ending in _ENDINGS:
                if (folder / f"{stem}{ending}").is_file():
                    return folder / f"{stem}{ending}"
        raise DataError(
            f"cifar10: no trained weights in {root}; put {stem}.safetensors (or .pt, .pth) there or into 'models' "
            f"below or beside it, for example those of github.com/akamaster/pytorch_resnet_cifar10, or name a file: "
            f"Cifar10(weights=...)"
        )


def _normalised(part: Labelled) -> Images:
    pixels, labels = part
    scale = 255 * torch.tensor(_STD)
    offset = torch.tensor(_MEAN) / torch.tensor(_STD)
    # Scaled where the pixels lie, one copy in all: the training images take 600 MB.
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().contiguous()
    images.div_(scale[:, None, None]).sub_(offset[:, None, None])
    return Images(images, torch.from_numpy(labels.astype(np.int64)))
