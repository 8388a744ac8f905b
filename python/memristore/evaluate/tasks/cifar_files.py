"""Files of CIFAR-10: the original binary or Python batches, or the same images on lossless sheets."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memristore.errors import DataError

U8 = npt.NDArray[np.uint8]
#: Pixels of shape (n, 32, 32, 3) and labels of shape (n,).
Labelled = tuple[U8, U8]

_BATCH: Final = 10_000
_SHEET: Final = 1_000
_RECORD: Final = 1 + 3 * 32 * 32
#: Total images of a part.
SIZES: Final = {"train": 50_000, "test": 10_000}
#: What a batch pickled by numpy may name; nothing else in such a file is ever called.
_HARMLESS: Final = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}
WANTED: Final = (
    "cifar-10-batches-bin (data_batch_1.bin ... data_batch_5.bin, test_batch.bin), cifar-10-batches-py "
    "(data_batch_1 ... data_batch_5, test_batch), or sheets (train_00.webp ... test_09.webp with train_labels.bin and "
    "test_labels.bin)"
)


def read_part(data_dir: str | os.PathLike[str] | None, part: str, count: int | None = None) -> Labelled:
    """Read the first `count` images of a part, in the order of the original batches.

    Parameters
    ----------
    data_dir : path
        Searched itself, then ``cifar-10-batches-bin``, ``cifar-10-batches-py`` and ``cifar10`` below it.
    part : {"train", "test"}
        Which images.
    count : int, optional
        All by default.

    Returns
    -------
    pixels : ndarray, shape (count, 32, 32, 3), uint8
        RGB.
    labels : ndarray, shape (count,), uint8
        Classes 0 to 9.

    Raises
    ------
    DataError
        If files are missing, damaged, or of another kind; the message says what to put where.
    """
    if data_dir is None:
        raise DataError(f"cifar10: no data folder given; put {WANTED} into one and name it (--data DIR, data_dir=...)")
    root = Path(data_dir)
    wanted = SIZES[part] if count is None else count
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py", root / "cifar10"):
        for first, reader in _READERS.items():
            if (folder / first[part == "test"]).is_file():
                return reader(folder, part, wanted)
    absent = "" if root.is_dir() else " (there is no such folder)"
    raise DataError(
        f"cifar10: no {part} images in {root}{absent}. Fetch CIFAR-10 (binary or Python version, "
        f"https://www.cs.toronto.edu/~kriz/cifar.html), unpack it there, so that it holds {WANTED}"
    )


def _batches(folder: Path, part: str, wanted: int, ending: str, read: Callable[[Path], Labelled]) -> Labelled:
    names = [f"data_batch_{i}{ending}" for i in range(1, 6)] if part == "train" else [f"test_batch{ending}"]
    found = [read(_present(folder / name)) for name in names[: -(-wanted // _BATCH)]]
    pixels = np.concatenate([p for p, _ in found])
    labels = np.concatenate([c for _, c in found])
    return _checked(folder, pixels[:wanted], labels[:wanted])


def _binary(path: Path) -> Labelled:
    raw = np.frombuffer(_bytes(path), np.uint8)
    if raw.size != _BATCH * _RECORD:
        raise DataError(f"{path}: {raw.size} bytes; a batch has {_BATCH * _RECORD}. Fetch the file again")
    rows = raw.reshape(_BATCH, _RECORD)
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR-10 batch needs")
        return super().find_class(module, name)


def _pickled(path: Path) -> Labelled:
    try:
        batch = _Unpickler(io.BytesIO(_bytes(path)), encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"], np.uint8)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: not a batch of CIFAR-10 ({error}); fetch the file again") from error
    return pixels.transpose(0, 2, 3, 1), labels


def _sheets(folder: Path, part: str, wanted: int) -> Labelled:
    """25 rows of 40 tiles on each sheet, row by row."""
    from PIL import Image

    found: list[U8] = []
    for k in range(-(-wanted // _SHEET)):
        path = _present(folder / f"{part}_{k:02d}.webp")
        try:
            with Image.open(path) as image:
                sheet = np.asarray(image.convert("RGB"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as an image ({error}); fetch the file again") from error
        if sheet.shape != (800, 1280, 3):
            raise DataError(f"{path}: a sheet has 1280x800 pixels, this image {sheet.shape[1]}x{sheet.shape[0]}")
        found.append(sheet.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(_SHEET, 32, 32, 3))
    labels = np.frombuffer(_bytes(_present(folder / f"{part}_labels.bin")), np.uint8)
    return _checked(folder, np.concatenate(found)[:wanted], labels[:wanted])


#: By the first file of each part.
_READERS: Final[dict[tuple[str, str], Callable[[Path, str, int], Labelled]]] = {
    ("data_batch_1.bin", "test_batch.bin"): lambda folder, part, n: _batches(folder, part, n, ".bin", _binary),
    ("data_batch_1", "test_batch"): lambda folder, part, n: _batches(folder, part, n, "", _pickled),
    ("train_00.webp", "test_00.webp"): _sheets,
}


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: is missing beside the other files of CIFAR-10; fetch it")
    return path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _checked(folder: Path, pixels: U8, labels: U8) -> Labelled:
    if len(pixels) != len(labels) or pixels.shape[1:] != (32, 32, 3):
        raise DataError(f"{folder}: {len(labels)} labels for images of shape {pixels.shape}; the files do not match")
    if labels.size and labels.max() > 9:
        raise DataError(f"{folder}: CIFAR-10 labels are 0 to 9, found {labels.max()}; fetch the files again")
    return pixels, labels
