"""The LDPC part of codes.py: speed of each code, how far from capacity it works, and how many blocks it loses.

Cells are stood for by binary antipodal signals in white Gaussian noise, whose likelihood ratios are rounded to eighths
of a nat like those of cells. The codes are told apart by length and rate, the noise by what the decoder gets of it: the
mean mutual information of a bit and its ratio.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from timing import OWN, Task

from memristore.channel import BitChannel
from memristore.codes.ldpc import Base, Ldpc, table

#: Iterations of one attempt on noise, which takes all of them.
ITERATIONS = 10
#: Block error of the cells on which decoding is timed, by the codes' own prediction.
WORKING = 1e-6
#: Data bits in a timed call.
BITS = {True: 1 << 18, False: 1 << 20}
QUICK = {("short", 0.5), ("short", 0.75), ("long", 0.5), ("long", 0.75), ("long", 0.9)}
#: Codes whose lost blocks are counted (length, rate, blocks when quick and else), and the block errors to be expected.
CURVES = (("short", 0.75, 500, 8000), ("long", 0.75, 60, 600))
EXPECTED = (0.5, 0.2, 0.05, 0.01)
PEER = "ldpc"
#: Steps of a likelihood ratio to one nat, and the largest of them.
STEPS, MOST = 8, 127


def capacity(sigma: float) -> float:
    """Bits per use of the binary-input additive white Gaussian noise channel, inputs +-1."""
    x, w = np.polynomial.hermite_e.hermegauss(201)
    return float(1 - w @ np.logaddexp(0.0, -(2 / sigma**2 + 2 / sigma * x)) / np.log(2) / np.sqrt(2 * np.pi))


def information(sigma: float) -> float:
    """Of a bit and its rounded ratio, bits."""
    edges = np.concatenate([[-np.inf], np.arange(-MOST + 0.5, MOST), [np.inf]]) / STEPS * sigma**2 / 2
    zero = np.diff(norm.cdf((edges - 1) / sigma))
    some = zero > 0
    return float(1 - zero[some] @ np.log2(1 + zero[::-1][some] / zero[some]))


def noise_for(wanted: float) -> float:
    """The noise at which so much information is left."""
    return float(brentq(lambda s: information(s) - wanted, 0.1, 4))


def needed(code: Ldpc, block_error: float) -> float:
    """Information at which the code loses so many blocks, by its own prediction."""

    def excess(known: float) -> float:
        return float(np.log(max(code.block_error(BitChannel(0.0, known)), 1e-300) / block_error))

    return float(brentq(excess, 0.2, 1 - 1e-9))


def gap(code: Ldpc, block_error: float) -> float:
    """Decibels between the noise at which capacity is the rate and that at which this block error is reached."""
    wanted = needed(code, block_error)
    limit, here = (brentq(lambda s, i=i: capacity(s) - i, 0.1, 4) for i in (code.base.rate, wanted))
    return float(20 * np.log10(limit / here))


def seen(data: np.ndarray, check: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Rounded ratios of code words after noise."""
    bits = np.unpackbits(np.concatenate([data, check], axis=1), axis=1, bitorder="little")
    y = 1 - 2 * bits.astype(np.float32) + np.float32(sigma) * rng.standard_normal(bits.shape, dtype=np.float32)
    return np.clip(np.rint(y * (2 * STEPS / sigma**2)), -MOST, MOST).astype(np.int8)


def place_of(base: Base) -> str:
    """Name of a code."""
    return f"ldpc {base.length} {base.rate:g}"


def peer(base: Base, llr: np.ndarray) -> list[Task]:
    """One block of noise decoded by the `ldpc` package, where it is installed: same code, min-sum, same iterations."""
    try:
        from ldpc import BpDecoder
    except ImportError:
        return []
    from scipy.sparse import coo_matrix

    i = np.arange(base.z)
    entries = [(r, c, s) for r, row in enumerate(base.rows) for c, s in row]
    rows = np.concatenate([r * base.z + i for r, _, _ in entries])
    columns = np.concatenate([c * base.z + (i + s) % base.z for _, c, s in entries])
    shape = (len(base.rows) * base.z, base.columns * base.z)
    checks = coo_matrix((np.ones(rows.size, np.uint8), (rows, columns)), shape=shape).tocsr()
    # It takes error probabilities and a syndrome: the same arithmetic, told the hard decisions' syndrome.
    chance = np.clip(1 / (1 + np.exp(np.abs(llr) / STEPS)), 1e-6, 0.499)
    decoder = BpDecoder(
        checks, error_channel=list(chance), max_iter=ITERATIONS, bp_method="minimum_sum", ms_scaling_factor=0.75
    )
    syndrome = (checks.astype(np.int64) @ (llr < 0) % 2).astype(np.uint8)
    return [Task(("decode noise", PEER, place_of(base), 1), base.data_bits, lambda: decoder.decode(syndrome))]


def speeds(base: Base, quick: bool) -> tuple[list[Task], dict[str, Any]]:
    """What to time of one code, and what is known of it."""
    code, rng = Ldpc(design_rate=base.rate, length=base.length), np.random.default_rng(0)
    blocks = max(4, BITS[quick] // base.data_bits)
    data = rng.integers(0, 256, (blocks, base.data_bits // 8), dtype=np.uint8)
    sigma = noise_for(needed(code, WORKING))
    read = seen(data, code.encode(data), sigma, rng)
    noise = rng.integers(-30, 31, read.shape).astype(np.int8)
    once = Ldpc(design_rate=base.rate, length=base.length, iterations=ITERATIONS, attempts=1)
    calls = {
        "encode": partial(code.encode, data, 1),
        "decode": partial(code.decode_soft, read, 1),
        "decode noise": partial(once.decode_soft, noise, 1),
    }
    place = place_of(base)
    tasks = [Task((row, OWN, place, 1), data.size * 8.0, call) for row, call in calls.items()]
    about = {
        "code": place,
        "n": base.data_bits + base.check_bits,
        "gap_db": {f"{e:g}": round(gap(code, e), 3) for e in (1e-3, 1e-12)},
        "raw_error": float(norm.sf(1 / sigma)),
        "lowest_measured_block_error": code.measured_floor,
    }
    return tasks + (peer(base, noise[0]) if base.length == "short" else []), about


def curve(quick: bool) -> list[dict[str, Any]]:
    """Lost blocks by raw error rate, and what the information predicts."""
    rows = []
    for length, rate, few, many in CURVES:
        code, left = Ldpc(design_rate=rate, length=length), few if quick else many
        for expected in EXPECTED:
            known = needed(code, expected)
            sigma, rng, lost = noise_for(known), np.random.default_rng(int(1 / expected)), 0
            for start in range(0, left, 100):
                shape = min(100, left - start), code.block_data_bits // 8
                data = rng.integers(0, 256, shape, dtype=np.uint8)
                got, status = code.decode_soft(seen(data, code.encode(data), sigma, rng))
                lost += int(((status < 0) | (got != data).any(axis=1)).sum())
            found = {"code": place_of(code.base), "raw_error": float(norm.sf(1 / sigma)), "blocks": left, "lost": lost}
            rows.append(found | {"information": known, "predicted": expected})
    return rows


def ldpc(quick: bool) -> tuple[list[Task], list[dict[str, Any]], list[dict[str, Any]]]:
    """Pieces of work, what is known of the codes, and lost blocks."""
    chosen = [base for base in reversed(table()) if not quick or (base.length, base.rate) in QUICK]
    pairs = [speeds(base, quick) for base in chosen]
    return [task for tasks, _ in pairs for task in tasks], [about for _, about in pairs], curve(quick)
