"""Memory that was freed goes back to the system before a network's worth of it is asked for again."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from memristore.planes import LARGE


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's ``malloc_trim``; None with another C library."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found


def give_back(weights: int) -> None:
    """Give freed memory back to the system, if a network has so many weights that it matters.

    Tensors of a few megabytes come from glibc's arenas, one per thread, which keep what was freed: without this a
    process that programs, reads and forgets a network of 100 MB holds about 50 MB that nothing uses. Does nothing with
    another C library, and never changes a result.
    """
    trim = _trim() if weights > LARGE else None
    if trim is not None:
        trim(0)
