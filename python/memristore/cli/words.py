"""Words of the command line to parts of a recipe: ``residual:2`` is ``Residual(planes=2)``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from memristore.config import Configurable
from memristore.errors import FileError, SpecError

T = TypeVar("T", bound=Configurable)


def _value(text: str) -> Any:
    """Number, truth value, nothing, or word."""
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _takes(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a bare value may fill a field, by the field's annotation."""
    kinds = {word.strip() for word in str(field.type).split("|")}
    return bool(kinds & ({"int", "float"} if isinstance(value, (int, float)) else {"str", "Time"}))


def part(text: str, kind: Callable[[str], type[T]]) -> T:
    """Make a part from its word.

    Parameters
    ----------
    text : str
        ``name``, ``name:value`` or ``name:field=value:field=value``. A bare number fills the first free numeric
        field, a bare word the first free field of words.
    kind : callable
        Name to class; raises `SpecError` for an unknown name.

    Returns
    -------
    Configurable

    Raises
    ------
    SpecError
        If the name, a field or a value is not valid.
    """
    name, *given = text.strip().split(":")
    cls = kind(name)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for word in given:
        field, equals, rest = word.partition("=")
        if equals:
            if field not in {f.name for f in fields}:
                known = ", ".join(f.name for f in fields) or "none"
                raise SpecError(f"{text!r}: {name} has no setting {field!r}; it has {known}")
            values[field] = _value(rest)
            continue
        value = _value(word)
        free = next((f.name for f in fields if f.name not in values and _takes(f, value)), None)
        if free is None:
            raise SpecError(f"{text!r}: {name} has no setting that {word!r} could be; write field=value")
        values[free] = value
    missing = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values
    ]
    if missing:
        raise SpecError(f"{text!r}: {name} needs {', '.join(missing)}; write for example {name}:{missing[0]}=...")
    return cls(**values)


def parts(text: str, kind: Callable[[str], type[T]]) -> tuple[T, ...]:
    """Make parts from words between commas; an empty text gives none."""
    return tuple(part(word, kind) for word in text.split(",") if word.strip())


def spec_dict(path: Path) -> dict[str, Any]:
    """Read a recipe as JSON: what `StorageSpec.to_dict` gives, or a document that holds it under ``spec``.

    Raises
    ------
    FileError
        If the file cannot be read or holds no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise FileError(f"{path}: a recipe is a JSON object, not {type(found).__name__}")
    inner = found.get("spec")
    return inner if isinstance(inner, dict) else found
