"""Binary BCH codes as the textbook defines them: polynomials over GF(2) are Python's integers, bit i for x^i.

Lin and Costello, Error Control Coding, 2nd edition (2004), chapter 6. Decoding is Sugiyama's (Euclid's algorithm on the
syndromes) and trial of every position, so that it shares no step with the kernels' Berlekamp-Massey.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

#: Primitive polynomials of table 2.7 there, by degree.
PRIMITIVE = {
    5: (5, 2, 0),
    6: (6, 1, 0),
    7: (7, 3, 0),
    8: (8, 4, 3, 2, 0),
    9: (9, 4, 0),
    10: (10, 3, 0),
    11: (11, 2, 0),
    12: (12, 6, 4, 1, 0),
    13: (13, 4, 3, 1, 0),
    14: (14, 10, 6, 1, 0),
}
FAILED = -1


def multiply(a: int, b: int) -> int:
    """Product of two polynomials over GF(2)."""
    out = 0
    while b:
        low = b & -b
        out ^= a * low
        b ^= low
    return out


def remainder(a: int, b: int) -> int:
    """Rest of a division of polynomials over GF(2)."""
    while a.bit_length() >= b.bit_length():
        a ^= b << (a.bit_length() - b.bit_length())
    return a


@dataclass(frozen=True)
class Bch:
    """The code of GF(2^m) with roots a, a^2, ..., a^2t."""

    m: int
    t: int

    @property
    def order(self) -> int:
        return 2**self.m - 1

    @cached_property
    def powers(self) -> list[int]:
        """a^0 ... a^(order - 1)."""
        field = sum(1 << k for k in PRIMITIVE[self.m])
        out = [1]
        while len(out) < self.order:
            out.append(remainder(out[-1] << 1, field))
        return out

    @cached_property
    def logs(self) -> dict[int, int]:
        return {value: i for i, value in enumerate(self.powers)}

    def times(self, a: int, b: int) -> int:
        return 0 if a == 0 or b == 0 else self.powers[(self.logs[a] + self.logs[b]) % self.order]

    def inverse(self, a: int) -> int:
        return self.powers[-self.logs[a] % self.order]

    def power(self, exponent: int) -> int:
        return self.powers[exponent % self.order]

    @cached_property
    def cosets(self) -> list[list[int]]:
        """The exponents of the generator's roots, class by class under doubling."""
        seen: set[int] = set()
        out = []
        for j in range(1, 2 * self.t + 1):
            if j in seen:
                continue
            coset, k = [], j
            while k not in coset:
                coset.append(k)
                k = 2 * k % self.order
            seen |= set(coset)
            out.append(coset)
        return out

    @cached_property
    def generator(self) -> int:
        product = 1
        for coset in self.cosets:
            minimal = [1]  # lowest coefficient first
            for k in coset:
                root = self.power(k)
                up, stay = [0, *minimal], [*(self.times(root, c) for c in minimal), 0]
                minimal = [a ^ b for a, b in zip(up, stay, strict=True)]
            product = multiply(product, sum(c << i for i, c in enumerate(minimal)))
        return product

    @property
    def check_bits(self) -> int:
        return self.generator.bit_length() - 1

    def check(self, data: int) -> int:
        """Check bits of a block."""
        return remainder(data << self.check_bits, self.generator)

    def syndromes(self, word: int) -> list[int]:
        """S_1 ... S_2t of a word, check bits lowest."""
        ones = [p for p in range(word.bit_length()) if word >> p & 1]
        out = []
        for j in range(1, 2 * self.t + 1):
            total = 0
            for p in ones:
                total ^= self.power(j * p)
            out.append(total)
        return out

    def value(self, polynomial: list[int], x: int) -> int:
        total = 0
        for coefficient in reversed(polynomial):
            total = self.times(total, x) ^ coefficient
        return total

    def locator(self, syndromes: list[int]) -> list[int]:
        """Error locator, lowest coefficient first, by Euclid's algorithm on x^2t and the syndromes."""
        rest: tuple[list[int], list[int]] = ([0] * 2 * self.t + [1], trimmed(syndromes))
        factors: tuple[list[int], list[int]] = ([], [1])
        while len(rest[1]) > self.t:
            quotient, left = self.divide(*rest)
            product = [0] * (len(quotient) + len(factors[1]))
            for i, a in enumerate(quotient):
                for j, b in enumerate(factors[1]):
                    product[i + j] ^= self.times(a, b)
            for i, a in enumerate(factors[0]):
                product[i] ^= a
            rest, factors = (rest[1], left), (factors[1], trimmed(product))
        return factors[1]

    def divide(self, a: list[int], b: list[int]) -> tuple[list[int], list[int]]:
        """Quotient and rest of polynomials over GF(2^m)."""
        left, quotient = list(a), [0] * max(1, len(a) - len(b) + 1)
        scale = self.inverse(b[-1])
        for shift in range(len(a) - len(b), -1, -1):
            factor = self.times(left[shift + len(b) - 1], scale)
            quotient[shift] = factor
            for i, value in enumerate(b):
                left[shift + i] ^= self.times(factor, value)
        return quotient, trimmed(left)

    def decode(self, word: int, length: int) -> tuple[int, int]:
        """The code word within t of a word of `length` bits, and their distance; the word and `FAILED` if none."""
        syndromes = self.syndromes(word)
        if not any(syndromes):
            return word, 0
        locator = self.locator(syndromes)
        roots = [p for p in range(length) if self.value(locator, self.power(-p)) == 0]
        fixed = word
        for p in roots:
            fixed ^= 1 << p
        if 0 < len(roots) <= self.t and not any(self.syndromes(fixed)):
            return fixed, len(roots)
        return word, FAILED


def trimmed(polynomial: list[int]) -> list[int]:
    """Without zeros at the top."""
    end = len(polynomial)
    while end and polynomial[end - 1] == 0:
        end -= 1
    return list(polynomial[:end])


def from_bytes(row: U8) -> int:
    """Bits of a row of bytes, lowest first."""
    return int.from_bytes(row.tobytes(), "little")


def to_bytes(bits: int, count: int) -> U8:
    """A row of bytes of `count` bits, lowest first."""
    return np.frombuffer(bits.to_bytes((count + 7) // 8, "little"), dtype=np.uint8)
