"""The LDPC part of codes.py: speed of each code, and how far from capacity it works.

python bench/codes_ldpc.py [--quick]

Decoding is timed on noise, from which nothing can be decoded: every block takes all ten iterations of one attempt. Near
its limit a block takes about as many, on better cells fewer. Beside it, where it is installed, the `ldpc` package
(github.com/quantumgizmos/ldpc) decodes the same words of the same code with min-sum, also for ten iterations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from memristore import _core
from memristore.codes.ldpc import Base, Ldpc, table

ITERATIONS = 10
BITS = {True: 1 << 20, False: 1 << 23}
QUICK = {("short", 0.5), ("short", 0.75), ("long", 0.5), ("long", 0.75), ("long", 0.9)}


def capacity(sigma: float) -> float:
    """Bits per use of the binary-input additive white Gaussian noise channel, inputs +-1."""
    x, w = np.polynomial.hermite_e.hermegauss(201)
    return float(1 - w @ np.logaddexp(0.0, -(2 / sigma**2 + 2 / sigma * x)) / np.log(2) / np.sqrt(2 * np.pi))


def gap(base: Base, block_error: float) -> float:
    """Decibels between the noise at which capacity is the rate and that at which this block error is reached."""
    wanted = base.midpoint + base.spread * norm.isf(block_error)
    limit, here = (brentq(lambda s, i=i: capacity(s) - i, 0.1, 4) for i in (base.rate, wanted))
    return float(20 * np.log10(limit / here))


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Least processor time of a call."""
    call()
    best = np.inf
    for _ in range(rounds):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return float(best)


def peer(base: Base, llr: np.ndarray) -> float | None:
    """Seconds for one block of the `ldpc` package, or None where it is not installed."""
    try:
        from ldpc import BpDecoder
    except ImportError:
        return None
    from scipy.sparse import coo_matrix

    i = np.arange(base.z)
    entries = [(r, c, s) for r, row in enumerate(base.rows) for c, s in row]
    rows = np.concatenate([r * base.z + i for r, _, _ in entries])
    columns = np.concatenate([c * base.z + (i + s) % base.z for _, c, s in entries])
    shape = (len(base.rows) * base.z, base.columns * base.z)
    H = coo_matrix((np.ones(rows.size, np.uint8), (rows, columns)), shape=shape).tocsr()
    # It takes error probabilities and a syndrome: the same arithmetic, told the hard decisions' syndrome.
    chance = np.clip(1 / (1 + np.exp(np.abs(llr[0]) / 8.0)), 1e-6, 0.499)
    decoder = BpDecoder(
        H, error_channel=list(chance), max_iter=ITERATIONS, bp_method="minimum_sum", ms_scaling_factor=0.75
    )
    syndrome = (H.astype(np.int64) @ (llr[0] < 0) % 2).astype(np.uint8)
    return seconds(lambda: decoder.decode(syndrome), 2)


def row(base: Base, quick: bool) -> dict[str, Any]:
    """Measure one code."""
    code = Ldpc(design_rate=base.rate, length=base.length, iterations=ITERATIONS, attempts=1)
    blocks = max(4, BITS[quick] // base.data_bits)
    rng = np.random.default_rng(0)
    n = base.data_bits + base.check_bits
    llr = rng.integers(-30, 31, (blocks, n)).astype(np.int8)
    data = rng.integers(0, 256, (blocks, base.data_bits // 8), dtype=np.uint8)
    rounds = 3 if quick else 5
    megabits = blocks * base.data_bits / 1e6
    decode = seconds(lambda: code.decode_soft(llr, 1), rounds)
    encode = seconds(lambda: code.encode(data, 1), rounds)
    theirs = peer(base, llr) if base.length == "short" else None
    return {
        "code": "ldpc",
        "length": base.length,
        "rate": base.rate,
        "n": n,
        "gap_db_at_1e-3": round(gap(base, 1e-3), 2),
        "lowest_measured_block_error": min(base.block_error),
        "isa": _core.isa(),
        "iterations": ITERATIONS,
        "encode_mbit_s": round(megabits / encode, 1),
        "decode_mbit_s": round(megabits / decode, 1),
        "peer_ldpc_decode_mbit_s": None if theirs is None else round(base.data_bits / 1e6 / theirs, 3),
    }


def rows(quick: bool) -> list[dict[str, Any]]:
    """Measure all codes, or a few: one thread, data bits per second of processor time."""
    return [row(b, quick) for b in reversed(table()) if not quick or (b.length, b.rate) in QUICK]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    for found in rows(parser.parse_args().quick):
        print("  ".join(f"{key} {value}" for key, value in found.items() if key != "code"), flush=True)


if __name__ == "__main__":
    main()
