"""Trellis-coded quantisation by its definition: parity checks, all points near a value, and the cheapest way through.

Nothing here knows how the kernels number states: a state is the tuple of the last inputs of the encoder.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

BLOCK: Final = 65536
#: Ungerboeck, IEEE Trans. Inf. Theory 28(1), 1982, table I: h1, h0 (octal) and the squared free distance in points.
CODES: Final = {4: (0o2, 0o5, 9), 8: (0o4, 0o13, 10), 16: (0o4, 0o23, 11), 32: (0o10, 0o45, 13), 64: (0o24, 0o103, 14)}


@dataclass(frozen=True)
class Trellis:
    """Tables of a code by state: its quantiser, and the next state after an even or odd level."""

    quantiser: I64
    follow: I64

    @property
    def states(self) -> int:
        return len(self.quantiser)


def trellis(states: int) -> Trellis:
    """The encoder (h0, h1): its outputs are z1 = h0(D) b, the parity of the level, and z0 = h1(D) b, the quantiser.

    State s holds input b of i steps ago in bit i - 1.
    """
    h1, h0, _ = CODES[states]
    memory = states.bit_length() - 1
    quantiser, follow = np.zeros(states, np.int64), np.zeros((states, 2), np.int64)
    for s, b in itertools.product(range(states), (0, 1)):
        inputs = [b, *((s >> i) & 1 for i in range(memory))]
        z1, z0 = (sum(inputs[i] * (h >> i & 1) for i in range(memory + 1)) % 2 for h in (h0, h1))
        quantiser[s] = z0
        follow[s, z1] = (2 * s + b) % states
    return Trellis(quantiser, follow)


def free_distance(t: Trellis) -> int:
    """Least squared distance, in points, of two ways that part and meet again; at most 16, that of parallel ways."""
    # By linearity from the way of zeros: an even level of quantiser 0 costs nothing, odd ones 4, quantiser 1 costs 1.
    best, queue = {0: 99}, [(4, int(t.follow[0, 1]))]
    while queue:
        cost, s = heapq.heappop(queue)
        if cost >= best.get(s, 99):
            continue
        best[s] = cost
        for parity in (0, 1) if s else ():
            step = 1 if t.quantiser[s] else 4 * parity
            heapq.heappush(queue, (cost + step, int(t.follow[s, parity])))
    return min(best[0], 16)


def shift_of(q: I64, shifts: F32) -> F64:
    """How far each point lies from its place."""
    size = np.abs(q)
    return np.where(size == 0, 0.0, np.sign(q) * shifts.astype(np.float64)[np.clip(size, 1, 5) - 1])


def walk(t: Trellis, levels: I32) -> I64:
    """State before each level of a block."""
    out, s = np.zeros(len(levels), np.int64), 0
    for i, k in enumerate(levels.tolist()):
        out[i] = s
        s = int(t.follow[s, k & 1])
    return out


def points(t: Trellis, levels: I32, shifts: F32) -> F64:
    """Values of the levels of a block, in steps."""
    q = 2 * levels.astype(np.int64) + t.quantiser[walk(t, levels)]
    return np.asarray(q + shift_of(q, shifts))


def way_cost(t: Trellis, x: F32, inverse: float, levels: I32, costs: F32, classes: U8 | None, shifts: F32) -> float:
    """Squared error, in steps, plus costs, of the levels of a block; costs[class, level + limit, state]."""
    limit = costs.shape[1] // 2
    error = x.astype(np.float64) * np.float32(inverse) - points(t, levels, shifts)
    kind = np.zeros(len(x), np.int64) if classes is None else classes
    return float(np.square(error).sum() + costs[kind, np.clip(levels, -limit, limit) + limit, walk(t, levels)].sum())


def search(t: Trellis, x: F32, inverse: float, costs: F32, classes: U8 | None, shifts: F32) -> float:
    """Least cost of any way through a block, each level being that of the point of its parity just below or above."""
    limit = costs.shape[1] // 2
    best = {0: 0.0}
    for i, u in enumerate((x.astype(np.float64) * np.float32(inverse)).tolist()):
        table = costs[0 if classes is None else classes[i]]
        new: dict[int, float] = {}
        for (s, sofar), parity in itertools.product(best.items(), (0, 1)):
            first = int(t.quantiser[s]) + 2 * parity
            below = 4 * int(np.floor((u - first) / 4)) + first
            for q in (below, below + 4):
                k = (q - int(t.quantiser[s])) // 2
                error = u - (q + float(shift_of(np.array(q), shifts)))
                cost = sofar + error**2 + float(table[min(max(k, -limit), limit) + limit, s])
                to = int(t.follow[s, parity])
                new[to] = min(new.get(to, np.inf), cost)
        best = new
    return min(best.values())


def classes_of(magnitudes: I64, decay: int, bounds: npt.NDArray[np.uint32]) -> U8:
    """Class of each value of a block: how many bounds the mean magnitude before it reaches, in 256ths."""
    out, mean = np.zeros(len(magnitudes), np.uint8), 0
    for i, size in enumerate(magnitudes.tolist()):
        out[i] = np.count_nonzero(mean >= bounds.astype(np.int64))
        mean = mean + ((256 * size - mean) >> decay) if decay else 0
    return out


def contexts(t: Trellis, levels: I32, group: U8, decay: int, bounds: npt.NDArray[np.uint32]) -> I64:
    """Context of each level of a block: the group of its state, and its class."""
    states = walk(t, levels)
    q = 2 * levels.astype(np.int64) + t.quantiser[states]
    groups = int(group.max()) + 1
    return group[states].astype(np.int64) + groups * classes_of(np.abs(q), decay, bounds).astype(np.int64)
