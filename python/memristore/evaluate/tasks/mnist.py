"""`mnist`: the four idx files of MNIST in a folder of yours, plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch

from memristore.errors import DataError
from memristore.evaluate.tasks.data import Accuracy, Images, TaskData, checksum_of
from memristore.evaluate.tasks.recipe import Recipe
from memristore.evaluate.tasks.training import trained_lenet5

_FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
#: Mean and standard deviation of the training pixels scaled to [0, 1].
_MEAN: Final = 0.1307
_STD: Final = 0.3081


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an idx file of unsigned bytes.

    Parameters
    ----------
    path : path
        The file; gzipped if its name ends in ``.gz``.

    Returns
    -------
    ndarray of uint8
        Shape as the header says.

    Raises
    ------
    DataError
        If the file cannot be read, is not an idx file of unsigned bytes, or is shorter or longer than its header says.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from error
    # Header: two zero bytes, type (8 = unsigned byte), number of dimensions, then each as a big-endian 32-bit number.
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or not 1 <= raw[3] <= 4:
        raise DataError(f"{path}: not an idx file of unsigned bytes (it starts with {raw[:4].hex()}); fetch it again")
    start = 4 + 4 * raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], dtype=">u4")) if len(raw) >= start else ()
    size = int(np.prod(shape, dtype=np.int64)) if shape else -1
    if len(raw) - start != size:
        said = f"{shape} = {size} bytes" if shape else "more dimensions than it holds"
        raise DataError(f"{path}: {max(len(raw) - start, 0)} bytes of data, but the header says {said}; fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def find_files(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return the four files, in the order train images, train labels, test images, test labels.

    Parameters
    ----------
    data_dir : path
        Searched itself, then ``MNIST/raw`` (torchvision's layout), ``raw`` and ``mnist`` below it.

    Raises
    ------
    DataError
        If they are not all in one of these folders; the message names the missing ones.
    """
    wanted = ", ".join(f"{name}[.gz]" for name in _FILES)
    if data_dir is None:
        raise DataError(f"mnist: no data folder given; put {wanted} into one and name it (--data DIR, data_dir=...)")
    root = Path(data_dir)
    closest: tuple[int, Path, list[str]] | None = None
    for folder in (root, root / "MNIST" / "raw", root / "raw", root / "mnist"):
        found: list[Path] = []
        missing: list[str] = []
        for name in _FILES:
            spellings = (name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz")
            path = next((folder / s for s in spellings if (folder / s).is_file()), None)
            if path is None:
                missing.append(f"{name}[.gz]")
            else:
                found.append(path)
        if not missing:
            return found
        if closest is None or len(found) > closest[0]:
            closest = (len(found), folder, missing)
    absent = "" if root.is_dir() else " (there is no such folder)"
    some = f" in {closest[1]}: {', '.join(closest[2])}" if closest and closest[0] else f": {wanted}"
    raise DataError(
        f"mnist: {root}{absent} lacks files{some}. Put the four MNIST files there, or into MNIST/raw below it"
    )


def _labelled(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a pair of files and check that they belong together."""
    pixels, labels = read_idx(images_path), read_idx(labels_path)
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise DataError(f"{images_path}: MNIST images are 28x28, this file has shape {pixels.shape}")
    if labels.shape != pixels.shape[:1]:
        raise DataError(
            f"{labels_path}: labels of shape {labels.shape} for {len(pixels)} images; the files do not match"
        )
    if not labels.size or labels.max() > 9:
        raise DataError(f"{labels_path}: MNIST labels are 0 to 9, and there must be some")
    return pixels, labels


class Mnist:
    """LeNet-5 (61,706 parameters): 60,000 images to train on, 10,000 to test on.

    Data: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
    """

    name: ClassVar[str] = "mnist"
    recipe: ClassVar[Recipe] = Recipe(
        size=28,
        epochs=5,
        batch=256,
        rate=0.006,
        rotate=0.1,
        stretch=0.05,
        shift=1.0,
        prune_steps=5,
        prune_epochs=1,
        prune_rate=0.003,
    )

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> TaskData:
        """Return the trained network, its metric and the data; see `Task.load`. `data_dir` holds the idx files."""
        paths = find_files(data_dir)
        sets = [_labelled(paths[0], paths[1]), _labelled(paths[2], paths[3])]
        train_set, test_set = (
            Images(
                (torch.from_numpy(pixels.copy())[:, None].float() / 255 - _MEAN) / _STD,
                torch.from_numpy(labels.astype(np.int64)),
            )
            for pixels, labels in sets
        )
        checksum = checksum_of(*(array for pair in sets for array in pair))
        cache = None if cache_dir is None else os.fspath(cache_dir)
        return TaskData(
            name=self.name,
            description=f"LeNet-5 on MNIST, {len(test_set)} test images",
            model=trained_lenet5(self.name, train_set, self.recipe, seed, checksum, cache, progress),
            metric=Accuracy(test_set),
            train=train_set,
            test=test_set,
            recipe=self.recipe,
            seed=seed,
            checksum=checksum,
            cache_dir=cache,
        )
