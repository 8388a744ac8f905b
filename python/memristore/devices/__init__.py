"""Devices as data: one TOML file each, beside this module, or anywhere in a user's folders."""

from __future__ import annotations

import functools
import math
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from memristore.devices.curve import Curve
from memristore.devices.device import Device, PulseModel, device_from_dict
from memristore.errors import DeviceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Curve", "Device", "PulseModel", "device_from_dict", "get", "names"]


@functools.cache
def _files() -> dict[str, str]:
    folder = resources.files(__name__)
    return {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}


@functools.cache
def names(variants: bool = True) -> list[str]:
    """Return the names of the built-in devices, sorted.

    Parameters
    ----------
    variants : bool
        Include variants, written ``device/variant``.
    """
    out: list[str] = []
    for name, text in sorted(_files().items()):
        out.append(name)
        if variants:
            out += [f"{name}/{variant}" for variant in tomllib.loads(text).get("variants", {})]
    return out


def get(name: str) -> Device:
    """Return a device by name.

    Parameters
    ----------
    name : str
        A built-in device (``"pcm-ibm-90nm"``), a variant of one (``"pcm-partial-set/pooled"``, ``"awgn/20"`` for 20 dB)
        or the path of a device file ending in ``.toml``.

    Returns
    -------
    Device

    Raises
    ------
    DeviceError
        If there is no such device, or its file is not valid.
    """
    if not isinstance(name, str):
        raise DeviceError(f"a device is named by a string, not {name!r}")
    if name.endswith(".toml"):
        return _parse(_read(Path(name)), Path(name).name, None)
    return _built_in(name)


@functools.lru_cache(maxsize=64)
def _built_in(name: str) -> Device:
    base, _, variant = name.partition("/")
    if base not in _files():
        raise DeviceError(
            f"no device is called {name!r}; there are {', '.join(names())}, or give a path to a .toml file"
        )
    return _parse(_files()[base], base, variant or None)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"cannot read the device file {path}: {error}") from None


def _parse(text: str, where: str, variant: str | None) -> Device:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"{where}: not valid TOML: {error}") from None
    variants = data.pop("variants", {})
    snr_db = data.pop("snr_db", None)
    if variant is not None:
        if snr_db is not None and variant not in variants:
            snr_db = _number(variant, where)
        elif variant in variants:
            data |= variants[variant]
        else:
            known = f"; there are {', '.join(variants)}" if variants else "; it has none"
            raise DeviceError(f"{where}: no variant {variant!r}{known}")
        data["name"] = f"{data.get('name')}/{variant}"
    if snr_db is not None:
        data["write"] = _white(data, float(snr_db))
    return device_from_dict(data, where)


def _number(text: str, where: str) -> float:
    try:
        value = float(text.removesuffix("dB"))
    except ValueError:
        raise DeviceError(f"{where}: {text!r} is not a signal-to-noise ratio in dB, such as '{where}/20'") from None
    if not math.isfinite(value):
        raise DeviceError(f"{where}: a signal-to-noise ratio must be finite")
    return value


def _white(data: dict[str, Any], snr_db: float) -> dict[str, Any]:
    # The ratio is that of a target uniform over the whole range: variance range^2 / 12.
    low, high = data["state_range"]
    return {"form": "poly", "values": [(high - low) / math.sqrt(12.0) * 10 ** (-snr_db / 20)]}
