"""Files of weights, as other programs write and read them: safetensors, and torch's own format without code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from memristore.errors import FileError, TensorError

_TORCH_ENDINGS: Final = (".pt", ".pth", ".bin")


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a state_dict.

    Parameters
    ----------
    path : path
        ``.safetensors``, or ``.pt``, ``.pth``, ``.bin`` as ``torch.save(model.state_dict(), path)`` writes them. A
        checkpoint that keeps the state_dict under ``"state_dict"`` or ``"model"`` is understood. Code in the file is
        never run.

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
    if not path.is_file():
        raise FileError(f"{path}: there is no such file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise FileError(f"{path}: not a readable safetensors file ({error})") from error
    if path.suffix not in _TORCH_ENDINGS:
        raise FileError(f"{path}: the ending must be .safetensors, {', '.join(_TORCH_ENDINGS)}")
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

    if Path(model).exists():
        return read_weights(model)
    if model not in tasks.names():
        raise FileError(f"{model}: there is no such file, nor a task of that name ({', '.join(tasks.names())})")
    return tasks.get(model).load(data).model


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
