"""Labels of levels: which bits a level, or a pair of levels, stands for."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

#: Level counts, with cells and bits of a group.
GROUPS: Final[dict[int, tuple[int, int]]] = {2: (1, 1), 3: (2, 3), 4: (1, 2), 6: (2, 5), 8: (1, 3), 16: (1, 4)}

# Labels of pairs of levels, row = level of the first cell; -1: not used. Neighbours differ in one bit everywhere: a
# Gray cycle around the middle for three levels; for six found by simulated annealing, around the four in the middle.
_PAIRS: Final[dict[int, tuple[tuple[int, ...], ...]]] = {
    3: ((0, 1, 3), (4, -1, 2), (5, 7, 6)),
    6: (
        (16, 20, 4, 0, 1, 5),
        (24, 28, -1, -1, 3, 7),
        (8, 12, -1, -1, 2, 6),
        (10, 14, 30, 26, 18, 22),
        (11, 15, 31, 27, 19, 23),
        (9, 13, 29, 25, 17, 21),
    ),
}


@functools.lru_cache(maxsize=32)
def labels(count: int, labelling: str) -> U8:
    """Levels of each label.

    Parameters
    ----------
    count : int
        Levels of a cell; a key of `GROUPS`.
    labelling : {"gray", "natural"}
        Whether neighbours differ in few bits, or labels count the levels.

    Returns
    -------
    ndarray, shape (2**bits, cells), uint8
        Level of each cell of a group, by the group's label; label bit 0 is the least significant.
    """
    cells, bits = GROUPS[count]
    index = np.arange(2**bits)
    if cells == 1:
        out = np.empty(2**bits, dtype=np.uint8)
        out[index ^ index >> 1 if labelling == "gray" else index] = index
        return out[:, None]
    if labelling == "natural":
        return np.stack([index // count, index % count], axis=1).astype(np.uint8)
    table = np.array(_PAIRS[count])
    where = np.argsort(table, axis=None)[table.size - 2**bits :]
    return np.stack([where // count, where % count], axis=1).astype(np.uint8)
