"""`imagenet`: images of ILSVRC-2012 (or any images with labels) and a trained network, both from files of yours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from memristore.config import check_number
from memristore.errors import DataError
from memristore.evaluate.tasks import image_files
from memristore.evaluate.tasks.data import Accuracy, Images, TaskData, checksum_of
from memristore.evaluate.tasks.networks import Network, build
from memristore.evaluate.tasks.preprocess import Preprocess
from memristore.evaluate.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """A trained network and images to judge it by; nothing is trained or fetched.

    Parameters
    ----------
    network : str or Module
        ``resnet18`` ... ``resnet152`` and ``mobilenet_v2`` are defined here; ``torchvision:NAME``, ``timm:NAME`` or
        another name asks those libraries; see `memristore.evaluate.tasks.networks.build`. Or a module of yours.
    weights : path, optional
        File of weights; by default ``imagenet_NAME`` or ``NAME`` with ``.safetensors``, ``.safetensors.xz``, ``.pt`` or
        ``.pth`` in the data folder, in ``models`` below it, or in ``models`` beside it.
    preprocess : Preprocess, optional
        By default what a JSON file beside the weights says, else what the library says, else 256 pixels, crop 224.
    train, test : int, optional
        Images read, from the first. By default 1,000 to calibrate on (if there are any), and all to test on; an image
        of 224x224 takes 150 kB of memory.
    batch : int
        Images that the network sees at a time.

    Raises
    ------
    SpecError
        If a number is not valid.

    Notes
    -----
    Data: O. Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 2015, arXiv:1409.0575.
    Classes are numbered in the order of their sorted WordNet ids.
    """

    name: ClassVar[str] = "imagenet"
    #: Only for fine-tuning: the network itself is not trained here.
    recipe: ClassVar[Recipe] = Recipe(size=224, epochs=0, batch=32, rate=0.0001)

    network: str | nn.Module = "resnet18"
    weights: str | os.PathLike[str] | None = None
    preprocess: Preprocess | None = None
    train: int | None = 1000
    test: int | None = None
    batch: int = 50

    def __post_init__(self) -> None:
        for part, count, least in (("train", self.train, 0), ("test", self.test, 1), ("batch", self.batch, 1)):
            if count is not None:
                check_number("imagenet", part, count, least, 10**9, integer=True)

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> TaskData:
        """Return the trained network, its metric and the data; see `Task.load`. `data_dir` holds data and weights."""
        found = image_files.find(data_dir, "test")
        if found is None:
            raise image_files.missing(data_dir or ".")
        network = self.built(data_dir)
        test = self._images(found.first(self.test), network, progress)
        others = image_files.find(data_dir, "train") if self.train != 0 else None
        train = (
            Images(test.images[:0], test.labels[:0], test.offset, test.scale)
            if others is None
            else self._images(others.first(self.train), network, progress)
        )
        return TaskData(
            name=self.name,
            description=f"{network.name} on ImageNet, {len(test)} test images ({found.place.name})",
            model=network.module,
            metric=Accuracy(test, self.batch),
            train=train,
            test=test,
            recipe=self.recipe,
            seed=seed,
            checksum=checksum_of(*(t.numpy() for part in (train, test) for t in (part.images, part.labels))),
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
        )

    def built(self, data_dir: str | os.PathLike[str] | None = None) -> Network:
        """Return the network with its weights, without any image; errors as of `load`."""
        return build(self.network, self.weights, data_dir, self.preprocess)

    def _images(self, listing: image_files.Listing, network: Network, progress: bool) -> Images:
        disable = None if progress else True
        with tqdm(total=len(listing.files), desc="images", unit="image", leave=False, disable=disable) as bar:
            pixels = image_files.read(listing, network.preprocess, bar.update)
        labels = torch.tensor(np.array(listing.labels, np.int64)) + network.label_offset
        if not len(labels):
            raise DataError(f"{listing.place}: holds no images")
        return Images(torch.from_numpy(pixels), labels, *network.preprocess.normalise)
