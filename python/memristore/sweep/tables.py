"""Tables of a sweep's file: recipes as people write them, variations of one recipe, paths beside the file."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from memristore.devices import Device
from memristore.errors import FileError, SpecError
from memristore.spec import StorageSpec
from memristore.units import Time

#: Parts of a recipe that have a type, which may be written as the bare type.
_PARTS: Final = ("code", "mapper", "bits", "write", "allocation", "levels")
_CHAINS: Final = ("compress", "protect")


def canonical(value: object) -> str:
    """JSON with sorted keys and nothing that could be written in two ways.

    Raises
    ------
    SpecError
        If it holds something that JSON does not know.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpecError(f"sweep: settings must be plain values, as JSON has them ({error})") from error


def digest(value: object) -> str:
    """First 32 hexadecimal digits of the SHA-256 of plain values."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:32]


def known(data: object, keys: set[str], where: str) -> dict[str, Any]:
    """Copy a table whose keys are all known."""
    given = table_of(data, where)
    if unknown := sorted(set(given) - keys):
        raise SpecError(f"{where}: unknown key {', '.join(map(repr, unknown))}; keys are {', '.join(sorted(keys))}")
    return given


def table_of(data: object, where: str) -> dict[str, Any]:
    """Copy a table; `SpecError` if it is something else."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: must be a table, not {data!r}")
    return dict(data)


def listed(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def placed(model: object, base: Path | None) -> object:
    """Give relative paths of a network their folder."""
    if base is None or not isinstance(model, Mapping):
        return model
    paths = {key: _path(value, base) for key, value in model.items() if key in ("data", "weights")}
    return {**model, **paths}


def _path(value: object, base: Path) -> object:
    return os.fspath(base / Path(value).expanduser()) if isinstance(value, str) else value


def device_of(device: Any, base: Path | None) -> Device | str:
    """Return a device by name, from its file beside the sweep, or spelled out."""
    if isinstance(device, Mapping):
        return StorageSpec.from_dict({"device": dict(device)}).cell
    if not isinstance(device, str):
        raise SpecError(f"sweep: a device is a name or a file, not {device!r}")
    if base is not None and device.endswith(".toml"):
        return os.fspath(base / Path(device).expanduser())
    return device


def recipes_of(name: str, spec: object, retention: Time, base: Path | None) -> Iterator[tuple[str, StorageSpec]]:
    """Recipes of one table: one, or one for each combination of what ``vary`` lists."""
    where = f"specs.{name}"
    given = table_of(spec, where)
    vary = table_of(given.pop("vary", {}), f"{where}.vary")
    if "file" in given:
        given = {**_recipe_file(_path(given.pop("file"), base or Path()), where), **given}
    given.setdefault("retention", retention)
    axes = [[(path, value) for value in listed(values)] for path, values in vary.items()]
    for chosen in itertools.product(*axes):
        table = json.loads(canonical(given))
        for path, value in chosen:
            _set(table, path.split("."), value, where)
        label = ", ".join([name, *(f"{path.removeprefix('code.')} {_word(value)}" for path, value in chosen)])
        try:
            yield label, StorageSpec.from_dict(_spelled(table))
        except (AttributeError, KeyError, TypeError) as error:
            raise SpecError(f"{where}: not a recipe ({error})") from error
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from error


def _word(value: object) -> str:
    return str(value["type"]) if isinstance(value, Mapping) and "type" in value else f"{value}"


def _set(table: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Set what a dotted path names; a part written as its bare type becomes a table."""
    for step in path[:-1]:
        inner = table.get(step, {})
        table[step] = {"type": inner} if isinstance(inner, str) else inner
        if not isinstance(table[step], dict):
            raise SpecError(f"{where}.vary: {'.'.join(path)} does not lead to a setting")
        table = table[step]
    table[path[-1]] = value


def _without_none(value: Any) -> Any:
    """TOML knows no null: the word ``none`` stands for it, as on the command line."""
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return None if value == "none" else value


def _spelled(table: dict[str, Any]) -> dict[str, Any]:
    """Write bare types as tables with a type: ``protect = ["sign"]`` is ``[{type = "sign"}]``."""
    out = {name: _without_none(value) for name, value in table.items()}
    for name in _PARTS:
        if isinstance(out.get(name), str):
            out[name] = {"type": out[name]}
    for name in _CHAINS:
        if name in out:
            out[name] = [{"type": part} if isinstance(part, str) else part for part in listed(out[name])]
    return out


def _recipe_file(path: object, where: str) -> dict[str, Any]:
    """Read a recipe as JSON, as ``memristore fit --out`` writes it, or a document that holds it under ``spec``."""
    try:
        found = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{where}: {path} cannot be read as JSON ({error})") from error
    inner = found.get("spec", found) if isinstance(found, dict) else None
    if not isinstance(inner, dict):
        raise FileError(f"{where}: {path} holds no recipe")
    return inner
