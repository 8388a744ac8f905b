"""Labelled image files in the usual layouts: class folders, or a folder or tar with a table of labels."""

from __future__ import annotations

import csv
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.errors import DataError
from memristore.evaluate.tasks.preprocess import U8, Preprocess

I64 = npt.NDArray[np.int64]

ENDINGS: Final = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
#: Names of each part, tried in this order.
PARTS: Final = {"train": ("train", "sample"), "test": ("val", "validation", "val_part", "test")}
#: Lists of classes: a WordNet id at the start of each line, in the order of the network's outputs.
_CLASS_LISTS: Final = ("synset_words.txt", "LOC_synset_mapping.txt")
_FILE_COLUMNS: Final = ("file", "filename", "image", "ImageId")
_LABEL_COLUMNS: Final = ("label", "class", "index", "target")
_CLASS_COLUMNS: Final = ("wnid", "synset", "PredictionString")
_CLASSES: Final = 1000
#: Images in memory as files at a time.
_CHUNK: Final = 64
#: Fractional part of the golden ratio: its multiples, modulo 1, spread evenly however many are taken.
_GOLDEN: Final = 0.6180339887498949
WANTED: Final = (
    "class folders (val/n01440764/*.JPEG, ...), or a folder or tar of images (val/, val.tar) with val_labels.csv "
    "beside it (columns file and label, or file and wnid)"
)


@dataclass(frozen=True)
class Listing:
    """Files of a part and their classes.

    Parameters
    ----------
    place : Path
        Folder or tar.
    files : tuple of str
        Paths below it.
    labels : tuple of int
        Classes, in [0, classes).
    """

    place: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]

    def first(self, count: int | None) -> Listing:
        """Return the first `count` files; None for all."""
        return self if count is None else Listing(self.place, self.files[:count], self.labels[:count])


def find(data_dir: str | os.PathLike[str] | None, part: str) -> Listing | None:
    """List the images of a part; None if there are none.

    Parameters
    ----------
    data_dir : path
        Searched itself, then ``imagenet`` below it.
    part : {"train", "test"}
        Which images: ``train`` or ``sample``; ``val``, ``validation``, ``val_part`` or ``test``.

    Returns
    -------
    Listing or None
        Class folders come in an order of which every beginning is spread over all classes; files of a table in its
        order.

    Raises
    ------
    DataError
        If no folder is given or it does not exist, or if files and labels do not fit together.
    """
    if data_dir is None:
        raise DataError(f"imagenet: no data folder given; put {WANTED} into one and name it (--data DIR, data_dir=...)")
    root = Path(data_dir)
    if not root.is_dir():
        raise DataError(f"imagenet: {root}: there is no such folder. {_fetch()}")
    for folder in (root, root / "imagenet"):
        for name in PARTS[part]:
            if (listing := _listing(folder, name)) is not None:
                return listing
    return None


def missing(data_dir: str | os.PathLike[str]) -> DataError:
    """Return the error that says which images are missing and where to put them."""
    return DataError(f"imagenet: no test images in {os.fspath(data_dir)}. {_fetch()}")


def _fetch() -> str:
    return (
        "Fetch the ILSVRC-2012 validation images (https://image-net.org/download.php asks for an account; nothing "
        f"is downloaded here) and unpack them there, as {WANTED}"
    )


def _listing(folder: Path, name: str) -> Listing | None:
    place, tar = folder / name, folder / f"{name}.tar"
    tables = (f"{name}_labels.csv", f"{name}.csv", f"{name}/labels.csv", f"LOC_{name}_solution.csv")
    table = next((folder / t for t in tables if (folder / t).is_file()), None)
    if not place.is_dir() and not tar.is_file():
        return None
    where = place if place.is_dir() else tar
    if table is not None:
        return _of_table(where, table, folder)
    if place.is_dir():
        return _of_folders(place, folder)
    raise DataError(f"{tar}: has no labels; put {name}_labels.csv beside it (columns file and label, or file and wnid)")


def _of_folders(place: Path, folder: Path) -> Listing:
    names = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
    if not names:
        raise DataError(f"{place}: holds no class folders and there is no {place.name}_labels.csv beside it")
    index = _class_index(names, folder, place)
    files, labels = [], []
    for name in names:
        found = sorted(e.name for e in os.scandir(place / name) if e.name.lower().endswith(ENDINGS))
        files += [f"{name}/{file}" for file in found]
        labels += [index[name]] * len(found)
    if not files:
        raise DataError(f"{place}: its class folders hold no images ({', '.join(ENDINGS)})")
    order = np.argsort(np.arange(len(files)) * _GOLDEN % 1.0, kind="stable")
    return Listing(place, tuple(files[i] for i in order), tuple(labels[i] for i in order))


def _class_index(names: Sequence[str], folder: Path, place: Path) -> dict[str, int]:
    """Class of each folder name: by a list of classes, by number, or in sorted order if all classes are there."""
    for title in _CLASS_LISTS:
        if (path := folder / title).is_file():
            index = _class_list(path)
            if unknown := [name for name in names if name not in index]:
                raise DataError(f"{place}: the folder {unknown[0]!r} is none of the {len(index)} classes of {path}")
            return index
    if all(re.fullmatch(r"\d{1,6}", name) for name in names):
        return {name: int(name) for name in names}
    if len(names) == _CLASSES:
        return {name: i for i, name in enumerate(names)}
    raise DataError(
        f"{place}: {len(names)} class folders of {_CLASSES}, so their place among all classes is not known; put "
        f"{_CLASS_LISTS[0]} beside it (a WordNet id at the start of each line, in the order of the classes)"
    )


def _class_list(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    index = {words[0]: i for i, words in enumerate(words for words in lines if words)}
    if not index:
        raise DataError(f"{path}: is empty; each line starts with the WordNet id of a class")
    return index


def _of_table(place: Path, table: Path, folder: Path) -> Listing:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error})") from error
    columns = list(rows[0]) if rows else []
    named, numbered, worded = (
        next((c for c in kinds if c in columns), None) for kinds in (_FILE_COLUMNS, _LABEL_COLUMNS, _CLASS_COLUMNS)
    )
    if named is None or (numbered is None and worded is None):
        raise DataError(
            f"{table}: needs a header and rows, with a column of {', '.join(_FILE_COLUMNS)} and one of "
            f"{', '.join(_LABEL_COLUMNS + _CLASS_COLUMNS)}; it has {', '.join(map(str, columns)) or 'none'}"
        )
    words = [] if worded is None or numbered is not None else [(row[worded] or "").split(" ")[0] for row in rows]
    index = _class_index(sorted(set(words)), folder, table) if words else {}
    files, labels = [], []
    for number, row in enumerate(rows, 2):
        name, text = row[named] or "", words[number - 2] if words else (row[numbered or ""] or "")
        if not words and not re.fullmatch(r"\d{1,6}", text.strip()):
            raise DataError(f"{table}, line {number}: the label {text!r} of {name!r} is not a class number")
        files.append(name if Path(name).suffix else f"{name}.JPEG")
        labels.append(index[text] if words else int(text))
    return Listing(place, tuple(files), tuple(labels))


def read(listing: Listing, preprocess: Preprocess, progress: Callable[[int], object] = lambda n: None) -> U8:
    """Decode images, several at a time.

    Returns
    -------
    ndarray, shape (n, 3, size, size), uint8

    Raises
    ------
    DataError
        If a file is missing or cannot be read as an image; the message names it.
    """
    side = preprocess.size
    out = np.empty((len(listing.files), 3, side, side), np.uint8)

    def decode(item: tuple[int, bytes]) -> None:
        from PIL import Image, UnidentifiedImageError

        i, raw = item
        where = f"{listing.place}: {listing.files[i]}"
        try:
            with Image.open(io.BytesIO(raw)) as image:
                out[i] = preprocess.pixels(image, where)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{where}: cannot be read as an image ({error}); fetch the file again") from error

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool, _opened(listing.place) as tar:
        raw = _contents(listing, tar)
        for start in range(0, len(listing.files), _CHUNK):
            chunk = [(i, next(raw)) for i in range(start, min(start + _CHUNK, len(listing.files)))]
            for _ in pool.map(decode, chunk):
                progress(1)
    return out


@contextmanager
def _opened(place: Path) -> Iterator[tarfile.TarFile | None]:
    """Open the tar; None for a folder."""
    if place.is_dir():
        yield None
        return
    try:
        tar = tarfile.open(place)  # noqa: SIM115 (closed below)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{place}: cannot be read as a tar ({error}); fetch it again") from error
    with tar:
        yield tar


def _contents(listing: Listing, tar: tarfile.TarFile | None) -> Iterator[bytes]:
    """Bytes of each file, from the folder or the tar."""
    members: dict[str, tarfile.TarInfo] = {}
    if tar is not None:
        try:
            members = {m.name.removeprefix("./"): m for m in tar.getmembers() if m.isfile()}
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{listing.place}: cannot be read as a tar ({error}); fetch it again") from error
        # Tables name files, tars may hold them in folders.
        members |= {Path(name).name: m for name, m in members.items() if Path(name).name not in members}
    for name in listing.files:
        try:
            if tar is None:
                yield (listing.place / name).read_bytes()
                continue
            content = tar.extractfile(members[name])
            yield b"" if content is None else content.read()
        except (OSError, KeyError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{listing.place}: lacks {name} or cannot read it ({error}); fetch it again") from error
