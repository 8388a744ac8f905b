"""Levels coded by mixed predictions, by definition: contexts that are looked up by name, and one interval for all bits.

Written for reading: a tensor is an array of rows, columns and taps, a context is any tuple, and the coder narrows an
interval between whole numbers with a digit for each byte.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from oracle.trellis import BLOCK, Trellis, trellis

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

ONE: Final = 1 << 16
#: Logits are in 256ths, and reach to +-9.
REACH: Final = 9 * 256
MAX_LEVEL: Final = 2**20 - 1
#: Magnitudes up to here are counted up to.
UNARY: Final = 15
#: Largest magnitude of a point that is remembered.
MOST: Final = 1023
#: A counter that has seen so many bits forgets at one speed.
MEMORY: Final = 400


def towards_zero(a: int, b: int) -> int:
    """Quotient as integers of machines have it."""
    return abs(a) // b * (1 if a >= 0 else -1)


def clip(x: int, most: int) -> int:
    return max(-most, min(x, most))


def size(x: int, most: int = MOST) -> int:
    return min(abs(x), most)


#: Probability, in 65536ths, of a logit; nothing is less likely than one in 8192.
SQUASH: Final = {d: min(max(round(ONE / (1 + math.exp(-d / 256))), 8), ONE - 8) for d in range(-REACH, REACH + 1)}
#: Logit of a probability in 4096ths: the first whose probability is no less, from the middle of a 65536th's step.
STRETCH: Final = [min((d for d in SQUASH if SQUASH[d] >= 16 * i + 8), default=REACH) for i in range(4096)]
#: Bounds of classes: thirds of octaves around 1, in 256ths.
SHARES: Final = [round(256 * 2 ** ((i - 7) / 3)) for i in range(15)]


class Coder(Protocol):
    """Codes a bit that is 1 with probability `p` / 65536; a decoder knows the bit itself."""

    def code(self, p: int, bit: bool) -> bool: ...


@dataclass
class Interval:
    """Numbers of `digits` bytes that begin like the bits so far; there are more digits once the first are certain."""

    low: int = 0
    high: int = 256**4 - 1
    digits: int = 4

    def middle(self, p: int) -> int:
        return self.low + ((self.high - self.low) * p >> 16)

    def take(self, p: int, bit: bool) -> None:
        """Keep the lower part for a 1, the upper part for a 0. Three bytes may stay undecided."""
        middle = self.middle(p)
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while self.low >> 24 == self.high >> 24:
            self.low, self.high, self.digits = self.low * 256, self.high * 256 + 255, self.digits + 1


class Encoder(Interval):
    def code(self, p: int, bit: bool) -> bool:
        self.take(p, bit)
        return bit

    def finish(self) -> bytes:
        """Fewest bytes that lie in the interval when zeros follow."""
        for count in range(self.digits + 1):
            unit = 256 ** (self.digits - count)
            first = -(-self.low // unit)
            if first * unit <= self.high:
                return first.to_bytes(count, "big")
        raise AssertionError("an interval holds its own end")


class Decoder(Interval):
    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def code(self, p: int, bit: bool) -> bool:
        shown = int.from_bytes(self.data[: self.digits].ljust(self.digits, b"\0"), "big")
        bit = shown <= self.middle(p)
        self.take(p, bit)
        return bit


@dataclass
class Counter:
    """Probability of a 1, in 2**-22, after `count` bits."""

    p: int = 1 << 21
    count: int = 0

    def see(self, bit: bool) -> None:
        rate = 10 * ONE // (10 * self.count + 16)
        self.p += towards_zero(((2**22 - 1 if bit else 0) - self.p) * rate, ONE)
        self.count = min(self.count + 1, MEMORY)

    def logit(self) -> int:
        """Nothing as long as nothing is known, and less than all of it after few bits."""
        sure = ONE * (2 * self.count + 1) // (2 * self.count + 3) if self.count else 0
        return towards_zero(STRETCH[self.p >> 10] * sure, ONE)


@dataclass
class Mixer:
    """Predicts bits of one kind: a sum of the logits of its contexts and of a constant, whose weights learn."""

    contexts: int
    counters: defaultdict[Hashable, Counter] = field(default_factory=lambda: defaultdict(Counter))
    weights: dict[Hashable, list[int]] = field(default_factory=dict)
    coded: int = 0

    def code(self, coder: Coder, contexts: Iterable[Hashable], of: Hashable, bit: bool) -> bool:
        """Code a bit. The first context is broad: others start from its probability. `of` chooses the weights."""
        counters = [self.counters[where] for where in enumerate(contexts)]
        assert len(counters) == self.contexts
        for counter in counters:
            if counter.count == 0:
                counter.p = counters[0].p
        inputs = [*(counter.logit() for counter in counters), 77]
        weights = self.weights.setdefault(of, [66000 // self.contexts] * len(inputs))
        total = sum(w * x for w, x in zip(weights, inputs, strict=True))
        p = SQUASH[clip(towards_zero(total, ONE), REACH)]
        bit = coder.code(p, bit)
        step = ((ONE if bit else 0) - p) * (131 + 1311 * 200 // (200 + self.coded))
        for i, x in enumerate(inputs):
            weights[i] = clip(weights[i] + towards_zero(step * x, 2**24), 2**22)
        for counter in counters:
            counter.see(bit)
        self.coded += 1
        return bit


def share(total: int, count: int, mean: int) -> int:
    """Class of a mean against that of all values, `mean` / 65536; two values of that mean are put to the sum."""
    return bisect_right(SHARES, ((total << 16) + 2 * mean) * 256 // ((count + 2) * mean))


class Tensor:
    """Points of a tensor as far as they are known, and the contexts that they give to the next."""

    def __init__(self, rows: int, columns: int, taps: int, width: int, states: int) -> None:
        self.points = np.zeros((rows, columns, taps), np.int64)
        self.known = 0
        self.width = width
        # Without a trellis points are levels, which are half as large.
        self.half = 1 if states == 1 else 2
        self.cap = 2 if states == 1 else 3

    def at(self, row: int, column: int, tap: int) -> int:
        """A point; 0 outside the tensor."""
        return int(self.points[row, column, tap]) if min(row, column, tap) >= 0 else 0

    def start_kernel(self, row: int, column: int) -> None:
        """Contexts that stay the same in a kernel: what columns and rows are like."""
        sizes = np.minimum(np.abs(self.points), MOST)
        taps = self.points.shape[2]
        self.mean = max(((int(sizes.sum()) << 16) + 6554) // (self.known + 1), 1)
        self.of_column = share(int(sizes[:row, column].sum()), row * taps, self.mean)
        self.of_row = share(int(sizes[row].sum()), column * taps, self.mean)
        before = np.minimum(sizes[row, column - 1], self.cap).sum() if column else 0
        self.before = min(int(before) // self.half, 15)

    def look(self, row: int, column: int, tap: int) -> None:
        """Contexts of the next value."""
        self.row, self.tap = row, min(tap, 63)
        kernel = self.points[row, column, :tap]
        so_far = self.points[row].reshape(-1)[: column * self.points.shape[2] + tap]
        one, two = ([0, 0, *so_far.tolist()][-i] for i in (1, 2))
        self.left = self.at(row, column, tap - 1) if tap % self.width else 0
        self.up = self.at(row, column, tap - self.width)
        self.beside, self.above = self.at(row, column - 1, tap), self.at(row - 1, column, tap)
        self.sum = min(int(np.minimum(np.abs(kernel), self.cap).sum()) // self.half, 15)
        self.signed = clip(int(kernel.sum()), 3)
        self.of_place = share(int(np.abs(self.points[:row, column, tap]).sum()), row, self.mean)
        self.last = size(one, 4), size(two, 4)
        last = size(one, 3), size(two, 3), self.of_column
        higher = self.at(row - 2, column, tap)
        self.near: list[Hashable] = [
            "all",
            self.last,
            (self.of_column, self.of_row),
            last if self.points.shape[2] == 1 else (self.sum, self.tap),
            tuple(size(x, self.cap) for x in (self.beside, self.above, self.left, self.up)),
            (self.sum, self.before, self.of_row),
            (size(self.above, self.cap), size(higher, self.cap), self.of_place),
        ]

    def signs(self) -> list[Hashable]:
        """Contexts of a sign."""
        left, up, above, beside = (int(np.sign(x)) for x in (self.left, self.up, self.above, self.beside))
        return ["all", (self.tap, left, up), self.signed, (above, beside), self.row % 1024]

    def sizes(self) -> list[Hashable]:
        """Contexts of a magnitude."""
        return ["all", self.last, (self.of_column, self.of_row), self.sum, self.of_place, self.tap]

    def note(self, row: int, column: int, tap: int, point: int) -> None:
        self.points[row, column, tap] = clip(point, MOST)
        self.known += 1


class Walk:
    """Codes one value after the other."""

    def __init__(self, states: int, coder: Coder, tensor: Tensor) -> None:
        self.coder, self.tensor = coder, tensor
        self.trellis = trellis(states) if states > 1 else Trellis(np.zeros(1, np.int64), np.zeros((1, 2), np.int64))
        self.kept, self.zero, self.size, self.sign = Mixer(7), Mixer(7), Mixer(6), Mixer(5)
        self.wide = [Counter() for _ in range(20)]

    def keep(self, bit: bool) -> bool:
        """Whether a value has a level."""
        return self.kept.code(self.coder, self.tensor.near, self.tensor.tap > 0, bit)

    def level(self, level: int, quantiser: int) -> int:
        """Code a level: its point is 2 * level + quantiser, which is 0, or has a sign and a magnitude from 1 on."""
        t = self.tensor
        negative = level < 0
        if quantiser == 0 and not self.zero.code(self.coder, t.near, t.tap > 0, level != 0):
            return 0
        negative = self.sign.code(self.coder, t.signs(), None, negative)
        number = self.magnitude(-level if negative else level + quantiser, quantiser)
        return -min(number, MAX_LEVEL) if negative else min(number - quantiser, MAX_LEVEL)

    def magnitude(self, number: int, quantiser: int) -> int:
        for k in range(1, UNARY + 1):
            contexts = [(k, quantiser, some) for some in self.tensor.sizes()]
            if not self.size.code(self.coder, contexts, k, number > k):
                return k
        # What is left has one bit, and so many more, which are written as they are.
        rest = number - UNARY
        more = 0
        while more < 20:
            p = min(max(self.wide[more].p >> 6, 32), ONE - 32)
            longer = self.coder.code(p, rest >> more > 1)
            self.wide[more].see(longer)
            if not longer:
                break
            more += 1
        found = 1
        for i in reversed(range(more)):
            found = 2 * found + self.coder.code(ONE // 2, bool(rest >> i & 1))
        return found + UNARY


def _run(
    coder: Coder, shape: tuple[int, int, int], width: int, states: int, first: int, state: int, levels: I32, mask: U8
) -> int:
    """Code all levels, in place, and the mask if there is one; returns the state after them."""
    tensor = Tensor(*shape, width, states)
    walk = Walk(states, coder, tensor)
    for at, (row, column, tap) in enumerate(np.ndindex(shape)):
        if tap == 0:
            tensor.start_kernel(row, column)
        if (first + at) % BLOCK == 0:
            state = 0
        tensor.look(row, column, tap)
        kept = walk.keep(bool(mask[at])) if mask.size else True
        point, level = 0, 0
        if kept:
            quantiser = int(walk.trellis.quantiser[state])
            level = walk.level(int(levels[at]), quantiser)
            point = 2 * level + quantiser if states > 1 else level
            state = int(walk.trellis.follow[state, level & 1])
        levels[at] = level
        if mask.size:
            mask[at] = kept
        tensor.note(row, column, tap, point)
    return state


def encode(
    levels: I32, mask: U8, shape: tuple[int, int, int], width: int, states: int, first: int = 0, state: int = 0
) -> tuple[bytes, int]:
    """Bytes of levels (an empty mask: all have one), and the state of the trellis after them."""
    coder = Encoder()
    state = _run(coder, shape, width, states, first, state, levels.copy(), mask.copy())
    return coder.finish(), state


def decode(
    data: bytes, masked: bool, shape: tuple[int, int, int], width: int, states: int, first: int = 0, state: int = 0
) -> tuple[I32, U8, int]:
    """Levels, mask (empty if there is none), and the state after them."""
    count = math.prod(shape)
    levels, mask = np.zeros(count, np.int32), np.zeros(count if masked else 0, np.uint8)
    state = _run(Decoder(data), shape, width, states, first, state, levels, mask)
    return levels, mask, state
