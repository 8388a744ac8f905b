"""A device as the text of a device file."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memristore.errors import DeviceError

if TYPE_CHECKING:
    from memristore.devices.device import Device


def to_toml(device: Device) -> str:
    """Return the text of a device file that reads back as the same device."""
    lines = [f"{key} = {_value(value, key)}" for key, value in device.to_dict().items() if not isinstance(value, dict)]
    for key, value in device.to_dict().items():
        if isinstance(value, dict) and key != "facts":
            lines += ["", f"[{key}]", *(f"{inner} = {_value(item, key)}" for inner, item in value.items())]
    for fact in device.facts:
        lines += ["", f"[facts.{fact.what}]", *(f"{k} = {_value(v, k)}" for k, v in fact.to_dict().items())]
    return "\n".join(lines) + "\n"


def _value(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, (int, float)):
        return repr(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v, key)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        # None stands for a side of a range without limit: the lower one comes first.
        ends = ["-inf" if n == 0 else "inf" for n in range(len(value))]
        return "[" + ", ".join(end if v is None else _value(v, key) for v, end in zip(value, ends, strict=True)) + "]"
    raise DeviceError(f"{key}: {value!r} has no place in a device file")


def save(device: Device, path: str | os.PathLike[str]) -> None:
    """Write a device file.

    Raises
    ------
    DeviceError
        If its name does not end in ``.toml``, or it cannot be written.
    """
    file = Path(path)
    if file.suffix != ".toml":
        raise DeviceError(f"{file}: the name of a device file ends in .toml")
    try:
        file.write_text(to_toml(device), encoding="utf-8")
    except OSError as error:
        raise DeviceError(f"{file}: cannot be written ({error})") from None
