"""The only door through which randomness enters: a user's seed becomes the 64-bit key that names every draw."""

from __future__ import annotations

import zlib

import numpy as np

from memristore.errors import SpecError


def key(seed: int, *path: int | str) -> int:
    """Hash a seed, and a path below it, to a 64-bit key.

    Parameters
    ----------
    seed : int
        Any integer that is not negative.
    *path : int or str
        Names a branch: ``key(seed, "chip", 3)``. Different paths give independent keys; seeds are hashed, never added.

    Returns
    -------
    int
        Key in [0, 2**64).

    Raises
    ------
    SpecError
        If the seed is not a non-negative integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise SpecError(f"a seed must be an integer that is not negative, not {seed!r}")
    spawn = tuple(zlib.crc32(p.encode()) if isinstance(p, str) else int(p) for p in path)
    return int(np.random.SeedSequence(int(seed), spawn_key=spawn).generate_state(1, np.uint64)[0])
