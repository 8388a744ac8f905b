"""Finds the parts of a kind by looking into their folder: one file, one part; file name = key = CLI word."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Generic, TypeVar

from memristore.config import Configurable
from memristore.errors import SpecError

T = TypeVar("T", bound=Configurable)


class Registry(Generic[T]):
    """All concrete subclasses of `base` defined in the modules of a package.

    Parameters
    ----------
    package : str
        Package whose modules are searched, for example ``"memristore.codes"``.
    base : type
        Protocol class of the kind.
    """

    def __init__(self, package: str, base: type[T]) -> None:
        self.package = package
        self.base = base
        self._found: dict[str, type[T]] | None = None

    def _scan(self) -> dict[str, type[T]]:
        if self._found is None:
            found: dict[str, type[T]] = {}
            root = importlib.import_module(self.package)
            for info in pkgutil.iter_modules(root.__path__):
                module = importlib.import_module(f"{self.package}.{info.name}")
                for item in vars(module).values():
                    if not (
                        isinstance(item, type) and issubclass(item, self.base) and item.__module__ == module.__name__
                    ):
                        continue
                    if "name" not in vars(item):
                        continue
                    if item.name != info.name.replace("_", "-"):
                        raise SpecError(
                            f"{module.__name__}: the part calls itself {item.name!r}, its file says otherwise"
                        )
                    found[item.name] = item
            self._found = found
        return self._found

    def names(self) -> list[str]:
        """Sorted keys."""
        return sorted(self._scan())

    def __getitem__(self, name: str) -> type[T]:
        found = self._scan()
        if name not in found:
            raise SpecError(f"no {self.base.__name__.lower()} is called {name!r}; there are {', '.join(sorted(found))}")
        return found[name]

    def from_dict(self, data: dict[str, Any]) -> T:
        """Build a part from its dict form."""
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            raise SpecError(f"{self.package}: a part must be a dict with a 'type', not {data!r}")
        return self[data["type"]].from_dict(data)
