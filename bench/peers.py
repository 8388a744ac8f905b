"""The same PCM model elsewhere: how long numpy, torch and aihwkit take for what one fused kernel does.

python bench/peers.py                     program, one year of drift, read; one thread; aihwkit where it is installed
python bench/peers.py --cells 25.6e6 --json peers.json
python bench/peers.py --reads             what is read here and in aihwkit: moments, distribution functions

The two classes are what one would write without this library. Both draw float32 and keep every stage in float32.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from timing import Task, describe, machine, measure

from memristore import _core, devices
from memristore.array import OneShot
from memristore.mapping import Levels
from memristore.units import parse_time

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracle import aihwkit_reads
from oracle import bits as secded

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

DEVICE = "pcm-ibm-90nm"
G_MAX = 25.0
#: Program-and-verify, uS: targets spread evenly over the range, about four verify steps a cell.
PULSE = {"start": 0.0, "step": 0.7, "spread": 0.15, "noise": 0.15, "verify_std": 0.15, "band": 0.375}
MAX_PULSES = 20
#: Spread of a level's read, level spacings: 0.26 % of bytes have an error.
LEVEL_STD = 0.15
#: Table of `lookup`: 33 knots over [0, 1].
KNOTS = (np.linspace(0.0, 1.0, 33) ** 2).astype(np.float32)
#: Bits of a word on cells of four levels.
WORD_BITS = 4096


class Quaternary:
    """Cells of four levels, as read after `at` seconds: what a decoder has to know of them, for all contestants."""

    def __init__(self, at: float) -> None:
        design = Levels(count=4).design(devices.get(DEVICE), OneShot(), at)
        decision = design.at(at)
        self.targets, self.level_of = design.targets, design.level_of.reshape(-1)
        self.start, self.inv_step = decision.start, decision.inv_step
        self.label, self.llr = decision.label, np.ascontiguousarray(decision.llr)
        self.bins = len(self.label)


class NumpyPeer:
    """Straightforward numpy: whole-array float32 expressions, PCG64 normals."""

    def __init__(self, at: float) -> None:
        device = devices.get(DEVICE)
        self.rng = np.random.Generator(np.random.PCG64(0))
        self.log_age, self.read_scale = device.log2_age(at) * math.log(2.0), device.read_scale(at)
        self.levels = Quaternary(at)

    def normals(self, n: int) -> F32:
        return self.rng.standard_normal(n, dtype=np.float32)

    def program(self, x: F32) -> F32:
        spread = np.maximum((-1.1731 * x + 1.9650) * x + 0.2635, 0.0)
        return np.maximum(G_MAX * x + spread * self.normals(len(x)), 0.0)

    def drift(self, programmed: F32) -> F32:
        log_g = np.log(np.maximum(programmed / G_MAX, 1e-7))
        mean = np.clip(-0.0155 * log_g + 0.0244, 0.049, 0.1)
        std = np.clip(-0.0125 * log_g - 0.0059, 0.008, 0.045)
        return programmed * np.exp(-self.log_age * np.abs(mean + std * self.normals(len(programmed))))

    def read(self, programmed: F32, aged: F32) -> F32:
        q = np.minimum(0.0088 * np.maximum(programmed / G_MAX, 1e-7) ** -0.65, 0.2)
        return np.maximum(aged * (1.0 + self.read_scale * q * self.normals(len(aged))), 0.0)

    def fused(self, x: F32) -> F32:
        programmed = self.program(x)
        return self.read(programmed, self.drift(programmed))

    def program_and_verify(self, x: F32) -> tuple[F32, npt.NDArray[np.uint16]]:
        target, state = G_MAX * x, np.full_like(x, PULSE["start"])
        pulses, active = np.zeros(len(x), dtype=np.uint16), np.arange(len(x))
        for _ in range(MAX_PULSES + 1):
            error = target[active] - state[active] - PULSE["verify_std"] * self.normals(len(active))
            going = np.abs(error) > PULSE["band"]
            active, error = active[going], error[going]
            if len(active) == 0:
                break
            move = PULSE["step"] * error
            sigma = np.sqrt((PULSE["spread"] * move) ** 2 + PULSE["noise"] ** 2)
            state[active] = np.maximum(state[active] + move + sigma * self.normals(len(active)), 0.0)
            pulses[active] += 1
        return state, pulses

    def level_errors(self, symbols: U8) -> U8:
        """Each of the four cells of a byte as a Gaussian level, rounded to the nearest."""
        out = np.zeros_like(symbols)
        for shift in (0, 2, 4, 6):
            label = symbols >> shift & 3
            level = (label ^ label >> 1) + LEVEL_STD * self.normals(len(symbols))
            seen = np.clip(np.rint(level), 0, 3).astype(np.uint8)
            out |= (seen ^ seen >> 1) << shift
        return out

    def affine(self, x: F32) -> F32:
        return np.clip(1.7 * x - 0.3, 0.0, 1.0)

    def lookup(self, x: F32) -> F32:
        t = x * 32.0
        k = np.clip(t.astype(np.int32), 0, 31)
        low = KNOTS[k]
        return low + (t - k.astype(np.float32)) * (KNOTS[k + 1] - low)

    def join_sign(self, magnitude: F32, signs: U8) -> F32:
        negative = np.unpackbits(signs, bitorder="little").view(bool)
        return np.where(negative, -magnitude, magnitude)

    def secded_encode(self, words: U64) -> U8:
        return secded.secded_encode(words)

    def secded_decode(self, words: U64, check: U8) -> U8:
        """Find the words that are not clean; only these are looked at."""
        wrong = np.flatnonzero(secded.secded_encode(words) != check)
        status = np.zeros(len(words), dtype=np.uint8)
        if len(wrong):
            words[wrong], check[wrong], status[wrong] = secded.secded_decode(words[wrong], check[wrong])
        return status

    def store_levels(self, words: U8, soft: bool) -> npt.NDArray[Any]:
        """Pairs of words, flat, on cells of four levels: packed decisions, or the ratio of each bit."""
        c = self.levels
        pairs = np.unpackbits(words, bitorder="little").reshape(-1, 2, WORD_BITS)
        # Odd cells hold the first word's bit in the other place of the label.
        pairs[:, :, 1::2] = pairs[:, ::-1, 1::2].copy()
        label = pairs[:, 0] | pairs[:, 1] << 1
        seen = self.fused(c.targets[c.level_of[label]].reshape(-1)).reshape(label.shape)
        index = np.clip((seen - c.start) * c.inv_step, 0, c.bins - 1).astype(np.int32)
        if soft:
            found = np.ascontiguousarray(c.llr[index].transpose(0, 2, 1))
        else:
            got = c.label[index]
            found = np.stack([got & 1, got >> 1], axis=1)
        found[:, :, 1::2] = found[:, ::-1, 1::2].copy()
        return found if soft else np.packbits(found, axis=-1, bitorder="little")


class TorchPeer:
    """Straightforward torch: the same expressions on tensors, `torch.randn`."""

    def __init__(self, at: float) -> None:
        device = devices.get(DEVICE)
        self.generator = torch.Generator().manual_seed(0)
        self.log_age, self.read_scale = device.log2_age(at) * math.log(2.0), device.read_scale(at)
        self.knots, self.shifts = torch.from_numpy(KNOTS), torch.arange(8, dtype=torch.uint8)
        value = np.arange(256, dtype=np.uint64)
        levels = Quaternary(at)
        self.levels, self.targets = levels, torch.from_numpy(levels.targets[levels.level_of])
        self.label, self.llr = torch.from_numpy(levels.label), torch.from_numpy(levels.llr)
        self.tables = [torch.from_numpy(secded.secded_encode(value << np.uint64(8 * byte))) for byte in range(8)]

    def normals(self, n: int) -> torch.Tensor:
        return torch.randn(n, generator=self.generator)

    def program(self, x: torch.Tensor) -> torch.Tensor:
        spread = ((-1.1731 * x + 1.9650) * x + 0.2635).clamp(min=0.0)
        return (G_MAX * x + spread * self.normals(len(x))).clamp(min=0.0)

    def drift(self, programmed: torch.Tensor) -> torch.Tensor:
        log_g = (programmed / G_MAX).clamp(min=1e-7).log()
        mean = (-0.0155 * log_g + 0.0244).clamp(0.049, 0.1)
        std = (-0.0125 * log_g - 0.0059).clamp(0.008, 0.045)
        return programmed * torch.exp(-self.log_age * (mean + std * self.normals(len(programmed))).abs())

    def read(self, programmed: torch.Tensor, aged: torch.Tensor) -> torch.Tensor:
        q = (0.0088 * (programmed / G_MAX).clamp(min=1e-7) ** -0.65).clamp(max=0.2)
        return (aged * (1.0 + self.read_scale * q * self.normals(len(aged)))).clamp(min=0.0)

    def fused(self, x: torch.Tensor) -> torch.Tensor:
        programmed = self.program(x)
        return self.read(programmed, self.drift(programmed))

    def program_and_verify(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        target, state = G_MAX * x, torch.full_like(x, PULSE["start"])
        pulses, active = torch.zeros(len(x), dtype=torch.int16), torch.arange(len(x))
        for _ in range(MAX_PULSES + 1):
            error = target[active] - state[active] - PULSE["verify_std"] * self.normals(len(active))
            going = error.abs() > PULSE["band"]
            active, error = active[going], error[going]
            if len(active) == 0:
                break
            move = PULSE["step"] * error
            sigma = ((PULSE["spread"] * move) ** 2 + PULSE["noise"] ** 2).sqrt()
            state[active] = (state[active] + move + sigma * self.normals(len(active))).clamp(min=0.0)
            pulses[active] += 1
        return state, pulses

    def level_errors(self, symbols: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(symbols)
        for shift in (0, 2, 4, 6):
            label = symbols >> shift & 3
            level = (label ^ label >> 1) + LEVEL_STD * self.normals(len(symbols))
            seen = level.round().clamp(0, 3).to(torch.uint8)
            out |= (seen ^ seen >> 1) << shift
        return out

    def affine(self, x: torch.Tensor) -> torch.Tensor:
        return (1.7 * x - 0.3).clamp(0.0, 1.0)

    def lookup(self, x: torch.Tensor) -> torch.Tensor:
        t = x * 32.0
        k = t.to(torch.int64).clamp(0, 31)
        low = self.knots[k]
        return low + (t - k) * (self.knots[k + 1] - low)

    def join_sign(self, magnitude: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
        negative = (signs[:, None] >> self.shifts & 1).flatten().bool()
        return torch.where(negative, -magnitude, magnitude)

    def secded_encode(self, words: torch.Tensor) -> torch.Tensor:
        """By a table for each byte: torch cannot count bits. `words` are int64."""
        octets = words.view(torch.uint8).reshape(-1, 8).to(torch.int64)
        check = self.tables[0][octets[:, 0]]
        for byte in range(1, 8):
            check = check ^ self.tables[byte][octets[:, byte]]
        return check

    def secded_decode(self, words: torch.Tensor, check: torch.Tensor) -> torch.Tensor:
        """Only finds the words that are not clean."""
        return torch.nonzero(self.secded_encode(words) != check)

    def store_levels(self, words: torch.Tensor, soft: bool) -> torch.Tensor:
        c = self.levels
        pairs = (words[:, None] >> self.shifts & 1).reshape(-1, 2, WORD_BITS)
        pairs[:, :, 1::2] = pairs[:, :, 1::2].flip(1)
        label = (pairs[:, 0] | pairs[:, 1] << 1).to(torch.int64)
        seen = self.fused(self.targets[label].flatten()).reshape(label.shape)
        index = ((seen - c.start) * c.inv_step).clamp(0, c.bins - 1).to(torch.int64)
        if soft:
            found = self.llr[index].transpose(1, 2).contiguous()
        else:
            got = self.label[index]
            found = torch.stack([got & 1, got >> 1], dim=1)
        found[:, :, 1::2] = found[:, :, 1::2].flip(1)
        return found if soft else (found.reshape(-1, 8) << self.shifts).sum(1, dtype=torch.uint8)


def aihwkit_model() -> tuple[Any, str] | None:
    """aihwkit's PCM noise model and its version, or None where it is not installed or does not load."""
    try:
        import aihwkit
        from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
    except (ImportError, OSError) as error:
        print(f"aihwkit: not compared ({type(error).__name__}: {error}); pip install aihwkit", file=sys.stderr)
        return None
    return PCMLikeNoiseModel(g_max=G_MAX), str(aihwkit.__version__)


def tasks(cells: int, at: float, other: tuple[Any, str] | None) -> tuple[list[Task], dict[str, tuple[float, float]]]:
    """The contestants, and the mean and spread (uS) of what each read at mid-range: they simulate one model."""
    place, x = f"{cells:,}", np.random.default_rng(1).random(cells, dtype=np.float32)
    device, time, out = devices.get(DEVICE), devices.get(DEVICE).read_time(at), np.empty_like(x)
    tx, here, there = torch.from_numpy(x), NumpyPeer(at), TorchPeer(at)
    purpose = _core.PURPOSES["read"]

    def ours(targets: F32) -> F32:
        _core.program_age_read(device.core(), time, 1, 0, purpose, 0, 0, targets, out, 1)
        return out

    found = [
        Task(("fused", "memristore", place, 1), cells, lambda: ours(x)),
        Task(("fused", "numpy", place, 1), cells, lambda: here.fused(x)),
        Task(("fused", "torch", place, 1), cells, lambda: there.fused(tx)),
    ]
    middle, half = np.full(cells, 0.5, np.float32), torch.full((cells,), 0.5)
    reads: dict[str, Any] = {"memristore": ours(middle), "numpy": here.fused(middle), "torch": there.fused(half)}
    if other is not None:
        model, version = other

        def kit(targets: torch.Tensor) -> torch.Tensor:
            programmed = model.apply_programming_noise_to_conductance(G_MAX * targets)
            return model.apply_drift_noise_to_conductance(programmed, model.generate_drift_coefficients(programmed), at)

        found.append(Task(("fused", f"aihwkit {version}", place, 1), cells, lambda: kit(tx)))
        reads[f"aihwkit {version}"] = kit(half)
    return found, {name: (float(v.mean()), float(v.std())) for name, v in reads.items()}


def compare_reads(n: int) -> list[dict[str, Any]]:
    """Differences of moments and distribution functions between here and aihwkit, every model, time and target."""
    try:
        pairs = aihwkit_reads.pairs()
    except (ImportError, OSError) as error:
        sys.exit(f"aihwkit: not there ({type(error).__name__}: {error}); pip install aihwkit")
    return [
        {"device": pair.device, "at": at, "target": x, **aihwkit_reads.compare(pair, x, at, n)}
        for pair in pairs
        for at in pair.times
        for x in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]


def show_reads(n: int, json_path: str | None) -> None:
    """Print or write the comparison of reads: the worst target of each device and time."""
    rows = compare_reads(n)
    document = {"schema": "memristore.bench.peer-reads", "version": 1, "cells": n, "results": rows}
    if json_path == "-":
        print(json.dumps(document, indent=2))
        return
    table = Table("device", "after, s", "mean, %", "spread, %", "KS distance")
    for device, at in dict.fromkeys((row["device"], row["at"]) for row in rows):
        mine = [row for row in rows if (row["device"], row["at"]) == (device, at)]
        worst = [max((row[key] for row in mine), key=abs) for key in ("mean", "std", "ks")]
        table.add_row(device, f"{at:g}", f"{100 * worst[0]:+.2f}", f"{100 * worst[1]:+.2f}", f"{worst[2]:.4f}")
    Console().print(f"worst of five targets, {n:,} cells each", table)
    if json_path:
        Path(json_path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=float, nargs="*", default=[32_768, 1_048_576])
    parser.add_argument("--at", default="1 year", help="age of the read")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE", help="write the result here; - for standard output")
    parser.add_argument("--reads", action="store_true", help="compare what is read, not how long it takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.reads:
        show_reads(200_000, options.json)
        return
    about = machine(("memristore", "numpy", "torch", "aihwkit"))
    other, results = aihwkit_model(), []
    table = Table("cells", "who", "ns per cell, median (min)", "x memristore", "mean, spread at x = 0.5, uS")
    for cells in options.cells:
        contestants, moments = tasks(int(cells), parse_time(options.at), other)
        measure(contestants, options.rounds, label=f"{int(cells):,} cells")
        for task in contestants:
            ratio = task.median / contestants[0].median
            mean, spread = moments[task.key[1]]
            shown = f"{task.median:.2f} ({task.minimum:.2f})"
            table.add_row(task.key[2], task.key[1], shown, f"{ratio:.1f}", f"{mean:.2f}, {spread:.2f}")
            results.append({**task.to_dict(), "ratio": ratio, "mean": mean, "std": spread})
    document = {"schema": "memristore.bench.peers", "version": 1, "machine": about, "at": options.at}
    document["results"] = results
    if options.json == "-":
        print(json.dumps(document, indent=2))
        return
    console = Console()
    console.print(describe(about), f"{DEVICE}: program, drift and read after {options.at}, one thread", sep="\n")
    console.print(table)
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
