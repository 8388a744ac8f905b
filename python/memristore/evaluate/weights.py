"""Files of weights, as other programs write and read them: safetensors, and torch's own format without code."""

from __future__ import annotations

import json
import lzma
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file

from memristore.errors import FileError, TensorError

_TORCH_ENDINGS: Final = (".pt", ".pth", ".bin")
_INDEX: Final = ".safetensors.index.json"


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a state_dict.

    Parameters
    ----------
    path : path
        ``.safetensors`` (also compressed, ``.safetensors.xz``), or ``.pt``, ``.pth``, ``.bin`` as
        ``torch.save(model.state_dict(), path)`` writes them. A checkpoint that keeps the state_dict under
        ``"state_dict"`` or ``"model"`` is understood. Also a folder as Hugging Face transformers saves a model, or its
        ``model.safetensors.index.json`` where the weights are in several files. Code in the file is never run.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    FileError
        If the file is missing, damaged, of another format, or holds something else.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise FileError(f"{path}: there is no such file")
    if path.name.endswith(_INDEX):
        return _shards(path)
    if path.name.endswith((".safetensors", ".safetensors.xz")):
        try:
            return load(lzma.decompress(path.read_bytes())) if path.suffix == ".xz" else load_file(path)
        except (SafetensorError, OSError, lzma.LZMAError, EOFError) as error:
            raise FileError(f"{path}: not a readable safetensors file ({error})") from error
    if path.suffix not in _TORCH_ENDINGS:
        raise FileError(f"{path}: the ending must be .safetensors, .safetensors.xz, {', '.join(_TORCH_ENDINGS)}")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, KeyError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(
            f"{path}: cannot be read as weights ({first}); write it with torch.save(model.state_dict(), ...)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise FileError(f"{path}: holds no state_dict; write it with torch.save(model.state_dict(), ...)")
    return {str(name): tensor for name, tensor in found.items()}


def _in_folder(folder: Path) -> Path:
    """Return the file of weights in a folder of Hugging Face transformers."""
    for name in ("model.safetensors", f"model{_INDEX}", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise FileError(f"{folder}: holds neither model.safetensors, nor model{_INDEX}, nor pytorch_model.bin")


def _shards(index: Path) -> dict[str, torch.Tensor]:
    """Read the files that an index of Hugging Face transformers names."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{index}: cannot be read as an index of weights ({error!r})") from error
    # Only files beside the index: it comes from somewhere else.
    if wrong := [name for name in files if Path(name).name != name or not name.endswith(".safetensors")]:
        raise FileError(f"{index}: names {wrong[0]!r}, which is no safetensors file beside it")
    out: dict[str, torch.Tensor] = {}
    for name in files:
        out |= read_weights(index.parent / name)
    if absent := [name for name in places if name not in out]:
        raise FileError(f"{index}: {absent[0]} is in none of {', '.join(files)}")
    return out


def load_weights(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Load weights into a module, in place, all of them; returns the module.

    Parameters
    ----------
    module : Module
    state : mapping of str to Tensor
        As `read_weights` gives it; other floating types are converted. Names may carry a prefix that the module's do
        not: ``module.`` of a DataParallel wrapper, ``model.``, ``backbone.``.

    Raises
    ------
    FileError
        If names or shapes do not fit; the message names the first that do not.
    """
    wanted = module.state_dict()
    given = dict(state)
    for prefix in ("module.", "model.", "backbone."):
        if given and all(name.startswith(prefix) for name in given) and not all(n.startswith(prefix) for n in wanted):
            given = {name.removeprefix(prefix): tensor for name, tensor in given.items()}
    # Counters of batches are not weights; many files leave them out.
    lacking = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in wanted and not name.endswith("num_batches_tracked")]
    odd = [n for n, t in given.items() if n in wanted and t.shape != wanted[n].shape]
    if lacking or unknown or odd:
        said = ((lacking, "tensors are missing"), (unknown, "names are unknown"), (odd, "shapes differ"))
        parts = [f"{len(names)} {what}, such as {names[0]}" for names, what in said if names]
        if odd:
            parts.append(f"{tuple(given[odd[0]].shape)} in the file, {tuple(wanted[odd[0]].shape)} in the network")
        raise FileError(f"the weights do not fit {type(module).__name__}: {'; '.join(parts)}")
    module.load_state_dict({name: given.get(name, tensor) for name, tensor in wanted.items()})
    return module


def load_file_into(module: torch.nn.Module, path: str | os.PathLike[str], name: str) -> torch.nn.Module:
    """Load a file's weights into a module, in place; returns the module.

    Raises
    ------
    FileError
        If the file cannot be read.
    TensorError
        If its weights do not fit, or are not finite; `name` says whose network it is.
    """
    state = read_weights(path)
    if odd := [key for key, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]:
        raise TensorError(f"{os.fspath(path)}: {odd[0]} holds values that are not finite; repair the network")
    try:
        return load_weights(module, state)
    except FileError as error:
        raise TensorError(f"{os.fspath(path)}: these weights do not fit the network of {name}: {error}") from error


def is_file(model: str) -> bool:
    """Whether a name is that of a file, which goes first, and not of a task.

    Raises
    ------
    FileError
        If it is neither.
    """
    from memristore.evaluate import tasks

    found = Path(model).exists()
    if not found and not tasks.known(model):
        raise FileError(f"{model}: there is no such file, nor a task of that name ({', '.join(tasks.names())})")
    return found


def find_weights(model: str, data: str | os.PathLike[str] | None = None) -> torch.nn.Module | dict[str, torch.Tensor]:
    """Return the weights of a file, or the trained network of a task.

    Parameters
    ----------
    model : str
        A file, or the name of a task; a file goes first.
    data : path, optional
        Folder of the task's data.

    Raises
    ------
    FileError
        If there is neither.
    """
    from memristore.evaluate import tasks

    if is_file(model):
        return read_weights(model)
    task = tasks.get(model)
    # A network that is read from a file does not need the images.
    return task.built(data).module if isinstance(task, tasks.ImageNet) else task.load(data).model


def scaled_values(network: torch.nn.Module | Mapping[str, torch.Tensor], name: str) -> npt.NDArray[np.float64]:
    """Return the values of all tensors of two or more dimensions, each scaled to unit deviation as a code would do.

    Biases and batch norm statistics are vectors, and left out.

    Raises
    ------
    TensorError
        If there are none; `name` says where they were looked for.
    """
    state = network.state_dict() if isinstance(network, torch.nn.Module) else network
    tensors = [t.detach().cpu().double().numpy().reshape(-1) for t in state.values() if t.dim() > 1]
    scaled = [values / values.std() for values in tensors if values.size and values.std() > 0]
    if not scaled:
        raise TensorError(f"{name}: holds no tensor of two or more dimensions with different values")
    return np.concatenate(scaled)


def write_weights(state: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Write a state_dict as safetensors; tensors that share memory are written each on its own.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    try:
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, path)
    except (SafetensorError, OSError) as error:
        raise FileError(f"{os.fspath(path)}: cannot be written ({error})") from error
