"""Allocation: which tensor gets how many planes, under a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from memristore.config import Configurable
from memristore.registry import Registry


class Allocator(Configurable):
    """Decides how redundantly each tensor is stored."""

    def planes(self, sizes: Mapping[str, int], distortion: Callable[[str, int], float] | None = None) -> dict[str, int]:
        """Return the number of planes of each tensor.

        Parameters
        ----------
        sizes : mapping of str to int
            Number of analog values of each tensor.
        distortion : callable, optional
            Predicted mean squared error per value of a tensor, by name, with a number of planes, as the recipe would
            store it. An allocator may do without.

        Returns
        -------
        dict of str to int
            Planes by the same names, in the same order.
        """
        raise NotImplementedError


#: Every allocator by name.
allocators: Final[Registry[Allocator]] = Registry("memristore.allocate", Allocator)

# The parts need the base class above.
from memristore.allocate.per_layer import PerLayer  # noqa: E402
from memristore.allocate.sensitive import Sensitive  # noqa: E402

__all__ = ["Allocator", "PerLayer", "Sensitive", "allocators"]
