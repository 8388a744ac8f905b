"""Checkpoints of a training run: written whole or not at all, and refused where they belong to another run."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any, Final

import torch

from memristore.errors import FileError, SpecError

SCHEMA: Final = "memristore.checkpoint"
VERSION: Final = 1


def save_checkpoint(path: str | os.PathLike[str], settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint: a reader sees the old file, or the new one, or none.

    Parameters
    ----------
    path : path
        Its folder is made where it is missing.
    settings : dict
        Plain values that name the run; :func:`load_checkpoint` compares them.
    state : dict
        Tensors, numbers, strings, and lists, tuples and dicts of these.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"schema": SCHEMA, "version": VERSION, "settings": settings, "state": state}, file)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | os.PathLike[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Read the state that :func:`save_checkpoint` wrote.

    Raises
    ------
    FileError
        If the file cannot be read or is not a checkpoint of this release.
    SpecError
        If it belongs to a run with other settings; the message names them.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise FileError(f"{path}: cannot be read as a checkpoint ({error}); remove it to start again") from error
    if not isinstance(found, dict) or (found.get("schema"), found.get("version")) != (SCHEMA, VERSION):
        raise FileError(f"{path}: not a checkpoint that this release reads; remove it to start again")
    kept = found["settings"]
    if other := [name for name in sorted({*kept, *settings}) if kept.get(name) != settings.get(name)]:
        raise SpecError(
            f"{path}: belongs to a run with another {', '.join(other)} ({kept.get(other[0])!r}, here "
            f"{settings.get(other[0])!r}); use the same settings, or another file"
        )
    state: dict[str, Any] = found["state"]
    return state
