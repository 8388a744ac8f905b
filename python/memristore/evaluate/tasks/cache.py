"""Trained networks are kept on disk, so that nobody trains twice; a damaged file costs one training, never a crash."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

log = logging.getLogger("memristore")

_SCHEMA: Final = "memristore.task-model"
_VERSION: Final = "1"


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where trained networks are kept.

    Parameters
    ----------
    cache_dir : path, optional
        Wins over everything. Else the environment variable ``MEMRISTORE_CACHE``, else ``$XDG_CACHE_HOME/memristore``
        (``~/.cache/memristore``; on Windows ``%LOCALAPPDATA%/memristore``).
    """
    if cache_dir is not None:
        return Path(cache_dir)
    if chosen := os.environ.get("MEMRISTORE_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "memristore"


def _digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name].detach().numpy())
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read(path: Path, model: nn.Module) -> None:
    """Load `path` into `model`; ValueError says what is wrong with the file."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from error
    if header.get("schema") != _SCHEMA or header.get("version") != _VERSION:
        raise ValueError("not a network that this release keeps")
    if header.get("sha256") != _digest(state):
        raise ValueError("its checksum does not fit its content")
    expected = model.state_dict()
    if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in expected.items()}:
        raise ValueError("its tensors are not those of the network")
    model.load_state_dict(state)


def _write(path: Path, model: nn.Module, key: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file, or the new one, or none."""
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    header = {
        "schema": _SCHEMA,
        "version": _VERSION,
        "sha256": _digest(state),
        "recipe": json.dumps(key, sort_keys=True),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save(state, header))
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def cached(
    stem: str,
    key: dict[str, Any],
    blank: Callable[[], nn.Module],
    make: Callable[[], nn.Module],
    cache_dir: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """Return the network of `key` from the cache, or make it and keep it.

    Parameters
    ----------
    stem : str
        Start of the file's name, for people.
    key : dict
        All that the result depends on: recipe, seed, checksum of the data.
    blank : callable
        Makes a network of the right shape to load into.
    make : callable
        Makes the trained network.
    cache_dir : path, optional
        See `cache_folder`.

    Returns
    -------
    Module
        In evaluation mode. A damaged file is named in a warning and replaced; a folder that cannot be written to is
        named in a warning, and the network returned all the same.
    """
    short = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(cache_dir) / f"{stem}-{short}.safetensors"
    if path.exists():
        model = blank()
        try:
            _read(path, model)
            return model.eval()
        except ValueError as error:
            log.warning("the kept network %s is damaged (%s); it is trained again", path, error)
    model = make().eval()
    try:
        _write(path, model, key)
    except OSError as error:
        log.warning(
            "cannot keep the trained network in %s (%s); set MEMRISTORE_CACHE to a folder of yours", path.parent, error
        )
    return model
