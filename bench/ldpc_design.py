"""Designs the LDPC codes of python/memristore/codes/ldpc.json and measures their block errors.

python bench/ldpc_design.py                          all codes: about an hour of processor time
python bench/ldpc_design.py --only short:0.75        one of them
python bench/ldpc_design.py --only long --effort 4   four times the blocks

The result depends on nothing but this file: the generators are seeded and the decoder works with integers. Codes that
are not asked for stay in the file as they are.

A code is an array of `rows` x `columns` cyclic shifts of size z. Its check bits are an accumulator (a dual diagonal
without shifts, and one column of three entries), so that encoding is a running sum. Data columns have the degrees of
`DESIGNS`: about half of them 3, a few very high ones, found by descent on block errors simulated with this decoder. Not
even the highest may fill its column: in sums of eight bits an even number of full columns can flip together.

Entries are placed one by one where they close the longest cycles (progressive edge growth; Hu, Eleftheriou and Arnold,
IEEE Trans. Inf. Theory 51, 386, 2005). The accumulator links all checks that have the same place in their rows, here
called a class. Two columns of low degree that touch two classes at the same distance therefore form a cycle that few
other checks look into, a likely trap for the decoder however long it is. `clashes` counts them, and they are avoided as
far as z allows: with short blocks that halves the error floor.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from memristore import _core
from memristore.codes.ldpc import ATTEMPTS, ITERATIONS

TABLE = Path(__file__).parents[1] / "python/memristore/codes/ldpc.json"
Entry = tuple[int, int, int]  # row, column, shift
#: Steps per nat of the likelihood ratios that a bit code is given.
LLR_STEPS = 8


class Design(NamedTuple):
    """Rows, shift size, how many data columns have each degree, and the first seed to try."""

    length: str
    rows: int
    z: int
    degrees: dict[int, int]
    seed: int = 0

    @property
    def columns(self) -> int:
        return self.rows + sum(self.degrees.values())

    @property
    def rate(self) -> float:
        return round(1 - self.rows / self.columns, 4)


DESIGNS = [
    Design("short", 18, 64, {3: 12, 6: 2, 12: 4}, 2),
    Design("short", 16, 64, {3: 13, 5: 3, 11: 4}),
    Design("short", 14, 64, {3: 14, 5: 3, 10: 5}),
    Design("short", 12, 64, {3: 14, 4: 5, 9: 5}),
    Design("short", 11, 64, {3: 14, 4: 6, 8: 5}),
    Design("short", 10, 64, {3: 14, 4: 7, 7: 5}),
    Design("short", 9, 64, {3: 14, 4: 7, 7: 6}),
    Design("short", 8, 64, {3: 14, 4: 8, 6: 6}),
    Design("short", 7, 64, {3: 14, 4: 8, 5: 6}),
    Design("short", 6, 64, {3: 16, 4: 9, 5: 5}),
    Design("short", 5, 64, {3: 20, 4: 11}),
    Design("short", 5, 64, {3: 30, 4: 10}),
    Design("short", 5, 64, {3: 35, 4: 10}),
    Design("short", 5, 64, {3: 48, 4: 12}),
    Design("short", 5, 64, {3: 62, 4: 13}),
    Design("long", 32, 512, {3: 24, 17: 8}),
    Design("long", 28, 512, {3: 26, 4: 2, 16: 8}),
    Design("long", 26, 512, {3: 28, 4: 3, 15: 8}),
    Design("long", 24, 512, {3: 29, 4: 3, 15: 8}),
    Design("long", 21, 512, {3: 30, 4: 4, 14: 8}),
    Design("long", 19, 512, {3: 32, 4: 5, 13: 8}),
    Design("long", 16, 512, {3: 34, 4: 6, 12: 8}),
    Design("long", 14, 512, {3: 35, 4: 7, 11: 8}),
    Design("long", 13, 512, {3: 36, 4: 8, 10: 8}),
    Design("long", 11, 512, {3: 38, 4: 9, 9: 8}),
    Design("long", 9, 512, {3: 38, 4: 10, 7: 7}),
    Design("long", 7, 512, {3: 40, 4: 10, 6: 6}),
    Design("long", 6, 512, {3: 40, 4: 10, 5: 4}),
    Design("long", 5, 512, {3: 50, 4: 10}),
    Design("long", 4, 512, {3: 60}),
    Design("long", 6, 256, {3: 94, 4: 20}),
    Design("long", 4, 256, {3: 124}),
]
#: Columns up to this degree keep their distances between classes apart.
LOW = 5
#: Words of two data bits and less than this weight are avoided, with so many tries for each column.
HEAVY, TRIES = 24, 12
#: Confidence, in steps of the likelihood ratio, of the bits that impulses are sent into.
IMPULSES = (8, 10, 14, 20, 30)
#: Base matrices tried; the best is kept.
SEEDS = 2


def distances(entries: list[Entry], design: Design, column: int, depth: int = 6) -> np.ndarray:
    """Steps from variable 0 of a column to each check, shape (rows, z); 99 where it is not reached."""
    z = design.z
    found = np.full((design.rows, z), 99, np.int32)
    seen = np.zeros((design.columns, z), bool)
    front = np.zeros((design.columns, z), bool)
    seen[column, 0] = front[column, 0] = True
    for level in range(depth):
        twice = np.concatenate([front, front], axis=1)
        live = front.any(axis=1)
        checks = np.zeros((design.rows, z), bool)
        for row, c, shift in entries:
            if live[c]:
                checks[row] |= twice[c, shift : shift + z]
        checks &= found == 99
        found[checks] = level
        twice = np.concatenate([checks, checks], axis=1)
        live = checks.any(axis=1)
        front = np.zeros((design.columns, z), bool)
        for row, c, shift in entries:
            if live[row]:
                front[c] |= twice[row, z - shift : 2 * z - shift]
        front &= ~seen
        if not front.any():
            break
        seen |= front
    return found


def clashes(classes: list[int], used: np.ndarray) -> np.ndarray:
    """For each class that a column may touch next: how many of its distances to the others are taken. Shape (z,)."""
    z = used.size
    new = [(np.arange(z) - c) % z for c in classes]
    count = sum((used[d] for d in new), start=np.zeros(z, int))
    own = [(a - b) % z for a in classes for b in classes if a != b]
    for d in new:
        count += np.isin(d, own) + (d == z // 2) + 5 * (d == 0)
    for i, d in enumerate(new):
        count += sum(((d + e) % z == 0).astype(int) for e in new[:i])
    return np.minimum(count, 9)


class Builder:
    """Places entries, column by column."""

    def __init__(self, design: Design, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.design = design
        rows, data = design.rows, design.columns - design.rows
        self.entries: list[Entry] = [(0, data, 1), (rows // 2, data, 0), (rows - 1, data, 1)]
        self.entries += [(j + side - 1, data + j, 0) for j in range(1, rows) for side in (0, 1)]
        self.degrees = [d for d, count in sorted(design.degrees.items()) for _ in range(count)]
        self.degree = np.bincount([e[0] for e in self.entries], minlength=rows)
        total = sum(self.degrees) + len(self.entries)
        self.target = np.full(rows, total // rows)
        self.target[self.rng.permutation(rows)[: total % rows]] += 1
        self.used = np.zeros(design.z, int)
        self.used[[1, design.z - 1]] = 1
        #: Code words of one data bit each, packed.
        self.words = np.zeros((0, self.pack(np.zeros((rows, design.z), bool)).size), np.uint64)

    def pack(self, word: np.ndarray) -> np.ndarray:
        bits = np.packbits(word.reshape(*word.shape[:-2], -1), axis=-1)
        return np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 8)]).view(np.uint64)

    def column(self, number: int) -> list[Entry]:
        """Choose the entries of a column, one after the other."""
        rows, z, wanted = self.design.rows, self.design.z, self.degrees[number]
        found: list[Entry] = []
        classes: list[int] = []
        while len(found) < wanted:
            open_rows = [r for r in range(rows) if r not in {e[0] for e in found}]
            free = [r for r in open_rows if self.degree[r] < self.target[r]] or open_rows
            room = np.maximum((self.target - self.degree)[free], 0)
            if found:
                score = 1000 * distances([*self.entries, *found], self.design, number)[free] + 10 * room[:, None]
                if wanted <= LOW:
                    score -= 100_000 * clashes(classes, self.used)
            else:
                score = np.repeat(room[:, None], z, axis=1)
            choices, places = np.nonzero(score == score.max())
            pick = self.rng.integers(choices.size)
            classes.append(int(places[pick]))
            found.append((free[choices[pick]], number, -classes[-1] % z))
        return found

    def word(self, column: list[Entry]) -> np.ndarray:
        """Check bits of data bit 0 of a column, shape (rows, z), and below them the bit itself."""
        rows, z = self.design.rows, self.design.z
        sums = np.zeros((rows, z), bool)
        for row, _, shift in column:
            sums[row, -shift % z] ^= True
        head = np.logical_xor.reduce(sums, axis=0)
        for row, shift in ((0, 1), (rows // 2, 0), (rows - 1, 1)):
            sums[row] ^= np.roll(head, -shift)
        running = np.logical_xor.accumulate(sums, axis=0)[:-1]
        bit = np.arange(z) == 0
        return np.concatenate([head[None], running, bit[None]])

    def lightest(self, column: list[Entry]) -> int:
        """Least weight of a code word with one data bit of this column, and one or none of another or of its own."""
        word = self.word(column)
        turned = self.pack(np.stack([np.roll(word, j, axis=1) for j in range(self.design.z)]))
        alone = int(word.sum())
        own = np.bitwise_count(turned[1:] ^ turned[0]).sum(axis=1).min()
        # The data bits of two columns are two bits, wherever they are: counted apart.
        checks = self.pack(np.stack([np.roll(word[:-1], j, axis=1) for j in range(self.design.z)]))
        pairs = [2 + np.bitwise_count(checks ^ other[: checks.shape[1]]).sum(axis=1).min() for other in self.words]
        return int(min([alone, own, *pairs]))

    def add(self, column: list[Entry]) -> None:
        z = self.design.z
        places = [-shift % z for _, _, shift in column]
        if len(column) <= LOW:
            for i, a in enumerate(places):
                for b in places[:i]:
                    self.used[[(a - b) % z, (b - a) % z]] += 1
        for row, _, _ in column:
            self.degree[row] += 1
        self.entries += column
        self.words = np.concatenate([self.words, self.pack(self.word(column)[:-1])[None]])


def place(design: Design, seed: int) -> tuple[list[Entry], int]:
    """Place all entries; also the least weight of a code word with one or two data bits.

    Of several choices for a column the first is taken that makes no light word, or else the one with the least light.
    """
    builder = Builder(design, seed)
    least = 1 << 30
    for number in range(len(builder.degrees)):
        best: tuple[int, list[Entry]] = (-1, [])
        for _ in range(TRIES):
            column = builder.column(number)
            best = max(best, (builder.lightest(column), column))
            if best[0] >= HEAVY:
                break
        builder.add(best[1])
        least = min(least, best[0])
    return sorted(builder.entries), least


def capacity(sigma: float) -> float:
    """Bits per use of the binary-input additive white Gaussian noise channel, inputs +-1."""
    x, w = np.polynomial.hermite_e.hermegauss(201)
    loss = np.logaddexp(0.0, -(2 / sigma**2 + 2 / sigma * x)) / math.log(2)
    return float(1 - w @ loss / math.sqrt(2 * math.pi))


def sigma_at(rate: float, gap: float) -> float:
    """Noise at which the capacity is `rate`, less `gap` dB."""
    return float(brentq(lambda s: capacity(s) - rate, 0.1, 4)) * 10 ** (-gap / 20)


class Simulation:
    """A code over BI-AWGN."""

    def __init__(self, design: Design, entries: list[Entry]) -> None:
        self.design = design
        rows = [[(c, s) for r, c, s in entries if r == row] for row in range(design.rows)]
        start = np.cumsum([0, *map(len, rows)], dtype=np.uint32)
        column, shift = (np.array([e[i] for row in rows for e in row], np.uint16) for i in (0, 1))
        self.code = _core.Ldpc(design.z, design.columns, start, column, shift)
        self.n = design.columns * design.z
        self.k = self.n - design.rows * design.z
        self.batch = max(8, (1 << 19) // self.n)

    def block_error(self, gap: float, blocks: int, errors: int, seed: int) -> tuple[int, int, int]:
        """Blocks lost, blocks lost without notice, and blocks sent; stops at so many errors."""
        sigma = sigma_at(self.k / self.n, gap)
        rng = np.random.default_rng([seed, self.n, self.k, round(1000 * gap)])
        data = rng.integers(0, 256, (self.batch, self.k // 8), dtype=np.uint8)
        check = np.empty((self.batch, (self.n - self.k) // 8), np.uint8)
        self.code.encode(data.reshape(-1), self.k, check.reshape(-1), 0)
        bits = np.unpackbits(np.concatenate([data, check], axis=1), axis=1, bitorder="little")
        clean = (1 - 2 * bits.astype(np.float32)) * np.float32(2 * LLR_STEPS / sigma**2)
        noise = np.empty((self.batch, self.n), np.float32)
        got, status = np.empty_like(data), np.empty(self.batch, np.int32)
        lost = silent = sent = 0
        while sent < blocks and lost < errors:
            rng.standard_normal(dtype=np.float32, out=noise)
            noise *= np.float32(2 * LLR_STEPS / sigma)
            noise += clean
            llr = np.clip(np.rint(noise, out=noise), -127, 127, out=noise).astype(np.int8)
            self.code.decode(llr.reshape(-1), self.k, ITERATIONS, ATTEMPTS, got.reshape(-1), status, 0)
            wrong = (got != data).any(axis=1)
            lost += int(wrong.sum())
            silent += int((wrong & (status >= 0)).sum())
            sent += self.batch
        return lost, silent, sent


def lightest(simulation: Simulation, most: int) -> tuple[int, int]:
    """Least weight of the code words that impulses find, and how many such words there are up to rotation.

    The decoder hears the word of zeros, with equal confidence but for two data bits, and looks for a word that agrees
    with these (Hu, Fossorier and Eleftheriou, ICC 2004, p. 767). At most `most` pairs of bits are tried.
    """
    z, k, n = simulation.design.z, simulation.k, simulation.n
    pairs = [(c * z, b) for c in range(k // z) for b in range(c * z + 1, k)]
    pairs = pairs[:: -(-len(pairs) // most)]
    least, found = n, set()
    for level in IMPULSES:
        for start in range(0, len(pairs), simulation.batch):
            part = np.array(pairs[start : start + simulation.batch])
            llr = np.full((len(part), n), level, np.int8)
            np.put_along_axis(llr, part, -127, axis=1)
            got, status = np.empty((len(part), k // 8), np.uint8), np.empty(len(part), np.int32)
            simulation.code.decode(llr.reshape(-1), k, 20, 1, got.reshape(-1), status, 0)
            words = np.unique(got[(status >= 0) & got.any(axis=1)], axis=0)
            check = np.empty((len(words), (n - k) // 8), np.uint8)
            simulation.code.encode(words.reshape(-1), k, check.reshape(-1), 0)
            weights = np.bitwise_count(np.concatenate([words, check], axis=1)).sum(axis=1)
            for word, weight in zip(words, weights.tolist(), strict=True):
                if weight <= least:
                    column, place = divmod(np.flatnonzero(np.unpackbits(word, bitorder="little")), z)
                    turns = (
                        tuple(sorted(zip(column.tolist(), ((place - p) % z).tolist(), strict=True))) for p in place
                    )
                    found = {*(found if weight == least else ()), min(turns)}
                    least = weight
    return least, max(1, len(found))


def measure(simulation: Simulation, effort: float) -> dict[str, Any]:
    """Go down the waterfall in small steps, and fit the law of `Ldpc.block_error` to it."""
    short = simulation.design.length == "short"
    gap, step, least = (0.7, 0.1, 1e-4) if short else (0.3, 0.04, 5e-4)
    blocks = round(effort * (60_000 if short else 3_000))
    rate = simulation.k / simulation.n
    found: list[tuple[float, float, float, int]] = []
    while True:
        lost, silent, sent = simulation.block_error(gap, blocks, round(60 * max(1.0, effort)), 1)
        share = lost / sent
        print(f"    {gap:.2f} dB from capacity: {share:.2e} ({lost} of {sent}, {silent} unnoticed)", flush=True)
        if lost >= 5 and share < 0.5:
            found.append((gap, capacity(sigma_at(rate, gap)), share, lost))
        if lost < 5 or share < least:
            break
        gap = round(gap + (2 * step if share > 0.5 else step), 3)
    use = [f for f in found if f[2] < 0.2]
    x, z, weight = (np.array(v) for v in zip(*((i, norm.isf(p), math.sqrt(n)) for _, i, p, n in use), strict=True))
    slope, offset = np.polyfit(x, z, 1, w=weight)
    at = [g for g, _, _, _ in use]
    gap_3 = float(np.interp(norm.isf(1e-3), z, at)) if z.max() > norm.isf(1e-3) else math.nan
    print(f"    block error 1e-3 at {gap_3:.2f} dB", flush=True)
    return {
        "information": [round(i, 5) for _, i, _, _ in found],
        "block_error": [float(f"{p:.3g}") for _, _, p, _ in found],
        "midpoint": round(-offset / slope, 5),
        "spread": round(1 / slope, 6),
    }


def design_code(design: Design, effort: float) -> dict[str, Any]:
    """Place a few base matrices, keep the one that decodes best, and measure it."""
    print(f"{design.length} {design.rate}: {design.rows} x {design.columns} shifts of {design.z}", flush=True)
    tried = []
    for seed in range(design.seed, design.seed + SEEDS):
        entries, weight = place(design, seed)
        simulation = Simulation(design, entries)
        gap, blocks = (1.2, 20_000) if design.length == "short" else (0.5, 600)
        lost, silent, _ = simulation.block_error(gap, round(blocks * effort), 10**9, 0)
        print(f"    seed {seed}: {lost} lost, {silent} unnoticed; lightest word found {weight}", flush=True)
        tried.append((lost + 20 * silent, -weight, entries))
    # Of those that decode about as well as the best, the one with the heaviest words.
    most = 1.4 * min(lost for lost, _, _ in tried) + 5
    _, weight, entries = min((t for t in tried if t[0] <= most), key=lambda t: t[1])
    simulation = Simulation(design, entries)
    light = min((-weight, 1), lightest(simulation, 20_000 if design.length == "short" else 1_000))
    print(f"    lightest word {light[0]}, {light[1]} of them up to rotation", flush=True)
    texts = [" ".join(f"{c}:{s}" for r, c, s in entries if r == row) for row in range(design.rows)]
    about = {"length": design.length, "rate": design.rate, "z": design.z, "lightest": light}
    return {**about, **measure(simulation, effort), "rows": texts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a length, or a length and a rate: short:0.75")
    parser.add_argument("--effort", type=float, default=1.0, help="times the number of blocks")
    parser.add_argument("--out", type=Path, default=TABLE)
    given = parser.parse_args()
    for design in DESIGNS:
        if given.only not in ("", design.length, f"{design.length}:{design.rate}"):
            continue
        made = design_code(design, given.effort)
        old = json.loads(given.out.read_text(encoding="utf-8"))["codes"] if given.out.exists() else []
        kept = [c for c in old if (c["length"], c["rate"]) != (made["length"], made["rate"])]
        codes = sorted([*kept, made], key=lambda c: (c["length"], c["rate"]))
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in codes)
        given.out.write_text(f'{{"codes":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
