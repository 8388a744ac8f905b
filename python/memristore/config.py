"""Configuration is frozen keyword-only dataclasses, validated when made, with a versioned dict form."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

from memristore.errors import SpecError

#: Version of the dict form of every configurable part.
CONFIG_VERSION = 1

_Self = TypeVar("_Self", bound="Configurable")


class Configurable:
    """Base of every part of a recipe: a frozen dataclass with a registry name.

    Subclasses are ``@dataclass(frozen=True, kw_only=True)`` and check their fields in ``__post_init__``.
    """

    #: Registry key: the file name with ``_`` written as ``-``.
    name: ClassVar[str]
    #: Settings that the contract tests try; a part with required fields names some here.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict: ``type``, ``version`` and every field."""
        out: dict[str, Any] = {"type": self.name, "version": CONFIG_VERSION}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            out[field.name] = list(value) if isinstance(value, tuple) else value
        return out

    @classmethod
    def from_dict(cls: type[_Self], data: dict[str, Any]) -> _Self:
        """Build from :meth:`to_dict`'s form; an unknown key, type or version raises `SpecError`."""
        given = dict(data)
        kind, version = given.pop("type", cls.name), given.pop("version", CONFIG_VERSION)
        if kind != cls.name:
            raise SpecError(f"expected type {cls.name!r}, got {kind!r}")
        if version != CONFIG_VERSION:
            raise SpecError(
                f"{cls.name}: version {version!r} of its settings is not known; this release reads {CONFIG_VERSION}"
            )
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(given) - known):
            keys = ", ".join(sorted(known)) or "none"
            raise SpecError(f"{cls.name}: unknown key {', '.join(map(repr, unknown))}; keys are {keys}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def check_number(
    owner: str, field: str, value: object, low: float, high: float, *, integer: bool = False, open_low: bool = False
) -> None:
    """Raise `SpecError` unless `value` is a number in [low, high] (or (low, high] if `open_low`)."""
    kinds = (int,) if integer else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, kinds)
        or not (low < value <= high if open_low else low <= value <= high)
    ):
        what = "an integer" if integer else "a number"
        bracket = "(" if open_low else "["
        raise SpecError(f"{owner}: {field} must be {what} in {bracket}{low:g}, {high:g}], not {value!r}")
