"""Every kernel as a case: how to run it on a span of cells, and what the oracle says it gives.

Inputs are functions of the absolute cell number alone, so that a span may be cut anywhere and must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from memristore import _core
from oracle import bits, bridge, cells, curves, levels, maps, philox, samples

Array = npt.NDArray[Any]
Outputs = tuple[Array, ...]
#: For each output, what it must be and by how much it may differ (0: not at all).
Expected = tuple[tuple[Array, "float | Array"], ...]

KEY = 0xFEDCBA9876543210
EVENT, READ_EVENT = 3, 0xFFFFFFF1
STRIDE = 2**33 + 7
#: Share of full scale by which a float32 kernel may differ from the float64 definition.
RELATIVE = 1e-6


@dataclass(frozen=True)
class Case:
    """One kernel with fixed settings.

    Parameters
    ----------
    name : str
        Kernel, then settings.
    run : callable
        (first, items, threads) -> outputs.
    expect : callable or None
        (first, items) -> `Expected`; None where a test of its own compares.
    cells : int
        Cells that one item takes.
    grain : int
        Items between which a span may be cut.
    """

    name: str
    run: Callable[[int, int, int], Outputs]
    expect: Callable[[int, int], Expected] | None
    cells: int = 1
    grain: int = 1


def blank(count: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """An output array filled with something that no kernel writes by chance."""
    return np.full(count, 0xA5 if np.dtype(dtype).kind == "u" else np.float32(-9.875e37), dtype=dtype)


def normals_tolerance(first: int, count: int, purpose: int, event: int) -> Array:
    """1.5e-6, and what a uniform wrong by 2^-24 does to the radius: it shows only where the radius is below 1e-2."""
    r = philox.radii(KEY, purpose, event, first, count)
    return np.asarray(1.5e-6 + np.sqrt(r * r + 2.0**-23) - r)


def _philox(first: int, count: int, _threads: int) -> Outputs:
    out = blank(4 * count, np.uint32)
    _core.philox(KEY, philox.USER, EVENT, first, out)
    return (out.reshape(count, 4),)


def _normals(purpose: int, event: int, first: int, count: int, threads: int) -> Outputs:
    out = blank(count)
    _core.normals(KEY, purpose, event, first, out, threads)
    return (out,)


def _normals_expected(purpose: int, event: int, first: int, count: int) -> Expected:
    z = philox.normals(KEY, purpose, event, first, count)
    return ((z, normals_tolerance(first, count, purpose, event)),)


def generator_cases() -> list[Case]:
    """Philox words and normals."""
    every = [(purpose, EVENT) for purpose in range(philox.WRITE, philox.USER + 1)] + [(philox.USER, 0xFFFFFFFF)]
    return [
        Case("philox", _philox, lambda f, n: ((philox.philox(KEY, philox.USER, EVENT, f, n).reshape(n, 4), 0.0),)),
        *(
            Case(f"normals-purpose{p}-event{e}", partial(_normals, p, e), partial(_normals_expected, p, e))
            for p, e in every
        ),
    ]


def _targets(first: int, count: int) -> npt.NDArray[np.float32]:
    return samples.uniform(first, count, -0.05, 1.05)


class DeviceCases:
    """Cases of one device: `program`, `drift`, `relax`, `read`, their fusions, `faults` and program-and-verify."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.device, self.time, self.pulse = samples.DEVICES[name], samples.TIMES[name], samples.PULSES[name]
        self.core = bridge.device(self.device)
        self.core_time, self.core_pulse = bridge.time(self.time), bridge.pulse(self.pulse)
        self.tolerance = RELATIVE * samples.SCALES[name]

    def states(self, first: int, count: int, salt: int) -> npt.NDArray[np.float32]:
        """States over the whole range of the response and a little beyond it."""
        lo, hi = self.device.response.lo, self.device.response.hi
        edge = 0.05 * (hi - lo)
        low = max(lo - edge, 0.0)
        return samples.uniform(first, count, low, hi + edge, salt)

    def program(self, first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        _core.program(self.core, KEY, EVENT, first, _targets(first, count), out, threads)
        return (out,)

    def drift(self, first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        _core.drift(self.core, self.core_time, KEY, first, self.states(first, count, 1), out, threads)
        return (out,)

    def relax(self, first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        programmed, state = self.states(first, count, 1), self.states(first, count, 2)
        _core.relax(self.core, self.core_time, KEY, first, programmed, state, out, threads)
        return (out,)

    def read(self, purpose: int, first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        programmed, state = self.states(first, count, 1), self.states(first, count, 2)
        _core.read(self.core, self.core_time, KEY, purpose, READ_EVENT, first, programmed, state, out, threads)
        return (out,)

    def age_and_read(self, first: int, count: int, threads: int) -> Outputs:
        out, programmed = blank(count), self.states(first, count, 1)
        _core.age_and_read(self.core, self.core_time, KEY, philox.READ, READ_EVENT, first, programmed, out, threads)
        return (out,)

    def program_age_read(self, first: int, count: int, threads: int) -> Outputs:
        out, x = blank(count), _targets(first, count)
        _core.program_age_read(self.core, self.core_time, KEY, EVENT, philox.READ, READ_EVENT, first, x, out, threads)
        return (out,)

    def faults(self, first: int, count: int, threads: int) -> Outputs:
        out = blank(count, np.uint8)
        _core.faults(self.core, KEY, first, out, threads)
        return (out,)

    def program_and_verify(self, first: int, count: int, threads: int) -> Outputs:
        out, pulses, failed = blank(count), blank(count, np.uint16), blank(count, np.uint8)
        x = _targets(first, count)
        _core.program_and_verify(self.core, self.core_pulse, KEY, EVENT, first, x, out, pulses, failed, threads)
        return out, pulses, failed

    def expect(self, stage: str, first: int, count: int) -> Expected:
        """What the oracle says of one stage."""
        d, t = self.device, self.time
        if stage == "program":
            y = cells.program(d, KEY, EVENT, first, _targets(first, count))
        elif stage == "drift":
            y = cells.drift(d, t, KEY, first, self.states(first, count, 1))
        elif stage == "relax":
            y = cells.relax(d, t, KEY, first, self.states(first, count, 1), self.states(first, count, 2))
        elif stage == "age_and_read":
            y = cells.age_and_read(d, t, KEY, philox.READ, READ_EVENT, first, self.states(first, count, 1))
        elif stage == "program_age_read":
            y = cells.program_age_read(d, t, KEY, EVENT, philox.READ, READ_EVENT, first, _targets(first, count))
        elif stage == "faults":
            return ((cells.faults(d, KEY, first, count), 0.0),)
        else:
            purpose = philox.READ if stage == "read" else philox.VERIFY_READ
            programmed, state = self.states(first, count, 1), self.states(first, count, 2)
            y = cells.read(d, t, KEY, purpose, READ_EVENT, first, programmed, state)
        return ((y, self.tolerance),)

    def cases(self) -> list[Case]:
        """All of them."""
        runs: dict[str, Callable[[int, int, int], Outputs]] = {
            "program": self.program,
            "drift": self.drift,
            "relax": self.relax,
            "read": partial(self.read, philox.READ),
            "verify_read": partial(self.read, philox.VERIFY_READ),
            "age_and_read": self.age_and_read,
            "program_age_read": self.program_age_read,
            "faults": self.faults,
        }
        return [
            *(Case(f"{stage}-{self.name}", run, partial(self.expect, stage)) for stage, run in runs.items()),
            Case(f"program_and_verify-{self.name}", self.program_and_verify, None),
        ]


CURVES: dict[str, tuple[curves.Curve, float, float]] = {
    "zero": (curves.ZERO_CURVE, -1.0, 2.0),
    "constant": (curves.constant(0.3), -1.0, 2.0),
    "poly-line": (curves.Curve(form=curves.POLY, a=(0.5, -2.0), lo=-1.0, hi=0.4), -1.0, 2.0),
    "poly-8": (curves.Curve(form=curves.POLY, a=(0.1, 1, -2, 0.5, 0.25, -0.5, 1, -0.7), lo=-9, hi=9), -0.5, 1.2),
    "poly-log": (curves.Curve(form=curves.POLY_LOG, a=(0.0244, -0.0107), lo=0.0, hi=1.0), -0.01, 1.5),
    "poly-log-8": (curves.Curve(form=curves.POLY_LOG, a=(1, 0.5, 0.2, 0.1, 0.02, 1e-3, 1e-4, 1e-5), lo=-9, hi=9), 0, 2),
    "exp-log": (curves.Curve(form=curves.EXP_LOG, a=(-6.8, -0.65), lo=0.0, hi=0.2), -0.01, 1.5),
    "exp-log-rising": (curves.Curve(form=curves.EXP_LOG, a=(1.0, 0.5, -0.01), lo=0.0, hi=3.0), 0.0, 1.5),
    "table-2": (samples.table([1.0, 3.0], -1.0, 1.0), -2.0, 2.0),
    "table-13": (samples.DEVICES["busy-resistance"].write_std, -0.1, 1.1),
    "table-64": (samples.DEVICES["busy-resistance"].response, -0.1, 1.1),
    "table-clipped": (curves.Curve(form=curves.TABLE, a=(0, 9, -9, 4), lo=-2, hi=3, x0=0.5, inv_step=4.0), 0.0, 2.0),
}


def _curve_case(name: str) -> Case:
    curve, lo, hi = CURVES[name]
    core = bridge.curve(curve)
    scale = max(1.0, abs(curve.lo), abs(curve.hi)) if name == "poly-log-8" else max(abs(curve.lo), abs(curve.hi), 0.1)

    def run(first: int, count: int, _threads: int) -> Outputs:
        return (core(samples.uniform(first, count, lo, hi)),)

    return Case(f"curve-{name}", run, lambda f, n: ((curve(samples.uniform(f, n, lo, hi)), 2 * RELATIVE * scale),))


def map_cases() -> list[Case]:
    """Curves, affine, lookup, signs, differential pairs and SECDED."""
    table = samples.uniform(0, 33, -2.0, 2.0, salt=9)
    values = partial(samples.uniform, lo=-1.5, hi=1.5, salt=3)

    def affine(first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        _core.affine(values(first, count), 1.7, -0.3, -2.0, 1.25, out, threads)
        return (out,)

    def lookup(extrapolate: bool, first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        _core.lookup(values(first, count), table, -1.0, 16.0, extrapolate, out, threads)
        return (out,)

    def split(first: int, count: int, threads: int) -> Outputs:
        magnitude, signs = blank(count), blank(-(-count // 8), np.uint8)
        _core.split_sign(values(first, count), magnitude, signs, threads)
        return magnitude, signs

    def join(first: int, count: int, threads: int) -> Outputs:
        out = blank(count)
        magnitude, signs = maps.split_sign(values(first, count))
        _core.join_sign(magnitude, signs, out, threads)
        return (out,)

    def differential(first: int, count: int, threads: int) -> Outputs:
        positive, negative = blank(count), blank(count)
        _core.differential(values(first, count), positive, negative, threads)
        return positive, negative

    def exact(outputs: Outputs) -> Expected:
        return tuple((output, 0.0) for output in outputs)

    def looked(extrapolate: bool, first: int, count: int) -> Expected:
        expected = maps.lookup(values(first, count), table, -1.0, 16.0, extrapolate)
        return ((expected, 1e-5),)

    return [
        *(_curve_case(name) for name in CURVES),
        Case("affine", affine, lambda f, n: ((maps.affine(values(f, n), 1.7, -0.3, -2.0, 1.25), 1e-6),)),
        Case("lookup-held", partial(lookup, False), partial(looked, False)),
        Case("lookup-continued", partial(lookup, True), partial(looked, True)),
        Case("split_sign", split, lambda f, n: exact(maps.split_sign(values(f, n))), grain=8),
        Case("join_sign", join, lambda f, n: exact((values(f, n),)), grain=8),
        Case("differential", differential, lambda f, n: exact(maps.differential(values(f, n)))),
    ]


def damaged(first: int, count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Code words of which about a third are clean, a third have one wrong bit and the rest more."""
    words = samples.words(first, count)
    flips = samples.words(first, count, 1)
    for salt in range(2, 7):
        flips &= samples.words(first, count, salt)
    spread = samples.words(first, count, 7) & samples.words(first, count, 8)
    checks = spread & (spread >> np.uint64(8)) & (spread >> np.uint64(16)) & np.uint64(0xFF)
    return words ^ flips, bits.secded_encode(words) ^ checks.astype(np.uint8)


def secded_cases() -> list[Case]:
    """The (72, 64) code."""

    def encode(first: int, count: int, threads: int) -> Outputs:
        check = blank(count, np.uint8)
        _core.secded_encode(samples.words(first, count), check, threads)
        return (check,)

    def decode(first: int, count: int, threads: int) -> Outputs:
        words, check = damaged(first, count)
        status = blank(count, np.uint8)
        _core.secded_decode(words, check, status, threads)
        return words, check, status

    def encoded(first: int, count: int) -> Expected:
        return ((bits.secded_encode(samples.words(first, count)), 0.0),)

    def decoded(first: int, count: int) -> Expected:
        return tuple((output, 0.0) for output in bits.secded_decode(*damaged(first, count)))

    return [
        Case("secded_encode", encode, encoded, cells=bits.WORD),
        Case("secded_decode", decode, decoded, cells=bits.WORD),
    ]


#: Bits per cell -> (level of each label, chance of rising, of falling); the last kind is nearly always wrong somewhere.
LEVELS: dict[str, tuple[int, list[int], list[float], list[float]]] = {
    "1bit": (1, [0, 1], [0.003, 0.0], [0.0, 0.001]),
    "2bit-gray": (2, [0, 1, 3, 2], [1e-3, 0.02, 0.005, 0.0], [0.0, 0.01, 0.004, 0.002]),
    "4bit": (4, [15, *range(14), 14], [*np.linspace(0.01, 0.2, 15), 0.0], [0.0, *np.linspace(0.15, 0.0, 15)]),
    "2bit-worst": (2, [2, 0, 3, 1], [1.0, 0.5, 0.75, 0.0], [0.0, 0.5, 0.125, 0.625]),
}


def level_model(name: str) -> tuple[int, Array, Array, Array]:
    """Arguments of `level_errors` that describe the cells."""
    width, level_of, up, down = LEVELS[name]
    return width, np.array(level_of, dtype=np.uint8), np.array(up, dtype=np.float32), np.array(down, dtype=np.float32)


def symbols(first: int, count: int) -> npt.NDArray[np.uint8]:
    """Even bytes, functions of the absolute weight number alone."""
    return (philox.words(0x5EED2000, philox.USER, 79, first, count) >> np.uint32(24)).astype(np.uint8)


def level_cases() -> list[Case]:
    """Level errors of one, two and four bits per cell."""

    def run(name: str, first: int, count: int, threads: int) -> Outputs:
        out = blank(count, np.uint8)
        _core.level_errors(KEY, EVENT, first, *level_model(name), symbols(first, count), out, threads)
        return (out,)

    def expect(name: str, first: int, count: int) -> Expected:
        return (
            (levels.level_errors(levels.LevelModel(*level_model(name)), KEY, EVENT, first, symbols(first, count)), 0.0),
        )

    return [Case(f"level_errors-{name}", partial(run, name), partial(expect, name)) for name in LEVELS]


DEVICE_CASES = {name: DeviceCases(name) for name in samples.DEVICES}
CASES: dict[str, Case] = {
    case.name: case
    for case in [
        *generator_cases(),
        *(case for group in DEVICE_CASES.values() for case in group.cases()),
        *map_cases(),
        *secded_cases(),
        *level_cases(),
    ]
}
