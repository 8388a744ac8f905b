"""Networks for ImageNet by name: small definitions of our own, and those of torchvision and timm where installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from memristore.errors import DataError, FileError, SpecError
from memristore.evaluate.tasks.imagenet_resnet import DEPTHS, ImageNetResNet
from memristore.evaluate.tasks.mobilenet import MobileNetV2
from memristore.evaluate.tasks.preprocess import Preprocess, read_description
from memristore.evaluate.weights import load_weights, read_weights

#: Ours, by name: without torchvision, with weights by torchvision's names (residual networks) or as documented there.
OWN: Final[dict[str, Callable[[], nn.Module]]] = {
    **{f"resnet{depth}": (lambda depth=depth: ImageNetResNet(depth)) for depth in DEPTHS},  # type: ignore[misc]
    "mobilenet_v2": MobileNetV2,
}
LIBRARIES: Final = ("torchvision", "timm")
_ENDINGS: Final = (".safetensors", ".safetensors.xz", ".pt", ".pth")


@dataclass(frozen=True, eq=False)
class Network:
    """A network with its weights, and what it wants to see.

    Parameters
    ----------
    name : str
    module : Module
        In evaluation mode.
    preprocess : Preprocess
    label_offset : int
        Output of class 0: 1 where the first output is "background".
    """

    name: str
    module: nn.Module
    preprocess: Preprocess
    label_offset: int = 0


def build(
    network: str | nn.Module,
    weights: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    preprocess: Preprocess | None = None,
) -> Network:
    """Return a network with weights from a file.

    Parameters
    ----------
    network : str or Module
        ``resnet18`` ... ``resnet152``, ``mobilenet_v2`` (our own definitions); ``torchvision:NAME`` or ``timm:NAME``;
        any other name is looked for in torchvision, then in timm. A module is used with its own weights unless a file
        is given.
    weights : path, optional
        By default ``imagenet_NAME`` or ``NAME`` with an ending of safetensors or torch, in the data folder, in
        ``models`` below it, or in ``models`` beside it. A JSON file beside it may say ``preprocess`` and
        ``label_offset``.
    data_dir : path, optional
    preprocess : Preprocess, optional
        By default what the JSON file says, else what the library says of its model, else 256 pixels, crop 224.

    Raises
    ------
    SpecError
        If no network has that name, or the library that would know cannot be imported.
    DataError
        If there are no weights or they do not fit; the message says what to put where.
    """
    if isinstance(network, nn.Module):
        name, module, usual = type(network).__name__, network, Preprocess()
    else:
        name = network
        # Initial weights are drawn and thrown away; nobody's random numbers may move by that.
        with torch.random.fork_rng(devices=[]):
            module, usual = _named(network)
    offset = 0
    if weights is not None or not isinstance(network, nn.Module):
        path = _weights_file(name, weights, data_dir)
        about = _described(path)
        usual, offset = about.get("preprocess", usual), about.get("label_offset", 0)
        try:
            load_weights(module, read_weights(path))
        except FileError as error:
            raise DataError(f"imagenet: {path} does not hold the weights of {name}: {error}") from error
    return Network(name, module.eval(), usual if preprocess is None else preprocess, offset)


def _described(path: Path) -> dict[str, Any]:
    given = read_description(path)
    out: dict[str, Any] = {}
    if "preprocess" in given:
        if not isinstance(given["preprocess"], dict):
            raise FileError(f"{path}: 'preprocess' in the JSON file beside it is no object")
        out["preprocess"] = Preprocess.from_dict(given["preprocess"], f"preprocess of {path.name}")
    offset = given.get("label_offset", 0)
    if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
        raise FileError(f"{path}: 'label_offset' in the JSON file beside it must be 0 or more, not {offset!r}")
    out["label_offset"] = offset
    return out


def _named(name: str) -> tuple[nn.Module, Preprocess]:
    library, colon, inner = name.partition(":")
    if not colon:
        if name in OWN:
            return OWN[name](), Preprocess()
        failed = []
        for library in LIBRARIES:
            try:
                return _of_library(library, name)
            except SpecError as error:
                failed.append(str(error))
        raise SpecError(f"no network is called {name!r}: ours are {', '.join(OWN)}; {'; '.join(failed)}")
    if library not in LIBRARIES:
        raise SpecError(f"{name!r}: write torchvision:NAME or timm:NAME, or a name of ours: {', '.join(OWN)}")
    return _of_library(library, inner)


def import_library(name: str) -> Any:
    """Import a library of networks.

    Raises
    ------
    SpecError
        If it is not installed, or installed for another torch; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SpecError(f"{name} is not installed or lacks something ({error}); pip install {name}") from error
    except (RuntimeError, OSError, AttributeError) as error:
        # A torchvision that was built for another torch fails while it registers its operators.
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpecError(
            f"{name} is installed but cannot be imported beside torch {torch.__version__} ({first}); install the "
            f"torchvision that was built for this torch"
        ) from error


def _of_library(library: str, name: str) -> tuple[nn.Module, Preprocess]:
    found = import_library(library)
    return _torchvision(name) if library == "torchvision" else _timm(found, name)


def _torchvision(name: str) -> tuple[nn.Module, Preprocess]:
    models = importlib.import_module("torchvision.models")
    try:
        module, kinds = models.get_model(name, weights=None), models.get_model_weights(name)
    except (ValueError, TypeError) as error:
        raise SpecError(f"torchvision has no network {name!r}; torchvision.models.list_models() lists them") from error
    usual = Preprocess()
    known = list(kinds)
    if known:
        about = known[0].transforms()
        size = getattr(about, "crop_size", [224])[0]
        usual = Preprocess(
            size=size, resize=getattr(about, "resize_size", [round(size * 256 / 224)])[0],
            interpolation=str(getattr(about.interpolation, "value", "bilinear")),
            mean=tuple(about.mean), std=tuple(about.std),
        )  # fmt: skip
    return module, usual


def _timm(timm: Any, name: str) -> tuple[nn.Module, Preprocess]:
    if name not in timm.list_models():
        raise SpecError(f"timm has no network {name!r}; timm.list_models() lists them")
    module = timm.create_model(name, pretrained=False)
    about = timm.data.resolve_model_data_config(module)
    size = int(about["input_size"][-1])
    usual = Preprocess(
        size=size, resize=int(size / float(about.get("crop_pct", 0.875))),
        interpolation=str(about.get("interpolation", "bilinear")),
        mean=tuple(about["mean"]), std=tuple(about["std"]),
    )  # fmt: skip
    return module, usual


def _weights_file(name: str, weights: str | os.PathLike[str] | None, data_dir: str | os.PathLike[str] | None) -> Path:
    if weights is not None:
        return Path(weights)
    root = Path("." if data_dir is None else data_dir)
    stem = name.rpartition(":")[2]
    for folder in (root, root / "models", root.parent / "models"):
        for title in (f"imagenet_{stem}", stem):
            for ending in _ENDINGS:
                if (folder / f"{title}{ending}").is_file():
                    return folder / f"{title}{ending}"
    raise DataError(
        f"imagenet: no trained weights of {name} in {root}; put imagenet_{stem}.safetensors (or .safetensors.xz, .pt, "
        f".pth) there or into 'models' below or beside it, or name a file: ImageNet(weights=...). Nothing is "
        f"downloaded here: fetch the file from where the network is published"
    )
