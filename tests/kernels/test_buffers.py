"""What kernels refuse: TypeError for dtype, layout and read-only outputs; ValueError for shapes, lengths and values.

And what they do with numbers that are not numbers: the same bits on every level, and no harm to the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from memristore import _core
from oracle import bridge, cases, cells, samples
from oracle.curves import POLY, TABLE

N = 40
F32, U8, U16, U32, U64 = (np.dtype(t) for t in ("f4", "u1", "u2", "u4", "u8"))
KEY = cases.KEY
DEVICE, TIME, PULSE = (bridge.device(samples.ibm_90nm()), bridge.time(cells.ReadTime()), bridge.pulse(cells.Pulse()))
Arrays = list[Any]


@dataclass(frozen=True)
class Call:
    """A kernel with its arrays: (name, dtype, length, is output)."""

    run: Callable[..., object]
    arrays: tuple[tuple[str, np.dtype[Any], int, bool], ...]

    def make(self) -> Arrays:
        return [np.zeros(length, dtype=dtype) for _, dtype, length, _ in self.arrays]


def i(name: str, dtype: np.dtype[Any] = F32, length: int = N) -> tuple[str, np.dtype[Any], int, bool]:
    return name, dtype, length, False


def o(name: str, dtype: np.dtype[Any] = F32, length: int = N) -> tuple[str, np.dtype[Any], int, bool]:
    return name, dtype, length, True


CALLS: dict[str, Call] = {
    "philox": Call(lambda out: _core.philox(KEY, 9, 0, 0, out), (o("out", U32),)),
    "normals": Call(lambda out: _core.normals(KEY, 9, 0, 0, out), (o("out"),)),
    "program": Call(lambda x, out: _core.program(DEVICE, KEY, 0, 0, x, out), (i("x"), o("out"))),
    "program_and_verify": Call(
        lambda x, out, p, f: _core.program_and_verify(DEVICE, PULSE, KEY, 0, 0, x, out, p, f),
        (i("x"), o("out"), o("pulses", U16), o("failed", U8)),
    ),
    "drift": Call(lambda p, out: _core.drift(DEVICE, TIME, KEY, 0, p, out), (i("programmed"), o("out"))),
    "relax": Call(
        lambda p, s, out: _core.relax(DEVICE, TIME, KEY, 0, p, s, out), (i("programmed"), i("state"), o("out"))
    ),
    "read": Call(
        lambda p, s, out: _core.read(DEVICE, TIME, KEY, 5, 0, 0, p, s, out), (i("programmed"), i("state"), o("out"))
    ),
    "faults": Call(lambda out: _core.faults(DEVICE, KEY, 0, out), (o("out", U8),)),
    "age_and_read": Call(
        lambda p, out: _core.age_and_read(DEVICE, TIME, KEY, 5, 0, 0, p, out), (i("programmed"), o("out"))
    ),
    "program_age_read": Call(
        lambda x, out: _core.program_age_read(DEVICE, TIME, KEY, 0, 5, 0, 0, x, out), (i("x"), o("out"))
    ),
    "store_levels": Call(
        lambda w, lv, label, llr, out: _core.store_levels(
            DEVICE,
            None,
            TIME,
            KEY,
            0,
            5,
            0,
            0,
            4096,
            1,
            w,
            16,
            np.zeros(4, F32),
            lv,
            1,
            0.0,
            1.0,
            np.zeros(0, U8),
            64,
            1,
            label,
            llr,
            False,
            out,
        ),
        (
            i("words", U8),
            i("level_of", U8, 4),
            i("label", U8, 64),
            i("llr", np.dtype("i1"), 128),
            o("out", U8),
        ),
    ),
    "level_errors": Call(
        lambda s, out: _core.level_errors(KEY, 0, 0, *cases.level_model("1bit"), s, out),
        (i("symbols", U8), o("out", U8)),
    ),
    "affine": Call(lambda v, out: _core.affine(v, 1.0, 0.0, 0.0, 1.0, out), (i("values"), o("out"))),
    "lookup": Call(
        lambda v, out: _core.lookup(v, np.zeros(4, dtype=F32), 0.0, 1.0, False, out), (i("values"), o("out"))
    ),
    "split_sign": Call(_core.split_sign, (i("values"), o("magnitude"), o("signs", U8, N // 8))),
    "join_sign": Call(_core.join_sign, (i("magnitude"), i("signs", U8, N // 8), o("out"))),
    "differential": Call(_core.differential, (i("values"), o("positive"), o("negative"))),
    "secded_encode": Call(_core.secded_encode, (i("words", U64), o("check", U8))),
    "secded_decode": Call(_core.secded_decode, (o("words", U64), o("check", U8), o("status", U8))),
}


def each(given: dict[str, Call]) -> pytest.MarkDecorator:
    """One test per array of each call."""
    found = [(name, call, position) for name, call in given.items() for position in range(len(call.arrays))]
    ids = [f"{name}-{call.arrays[position][0]}" for name, call, position in found]
    return pytest.mark.parametrize(("call", "position"), [item[1:] for item in found], ids=ids)


each_array = each(CALLS)


def refused(call: Call, position: int, wrong: object, error: type[Exception]) -> None:
    """The call with one wrong array raises, naming the array, and writes nothing."""
    arrays = call.make()
    arrays[position] = wrong
    before = [np.array(a, copy=True) for a in arrays]
    with pytest.raises(error, match=call.arrays[position][0]):
        call.run(*arrays)
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", CALLS)
def test_the_right_arrays_are_taken(name: str) -> None:
    CALLS[name].run(*CALLS[name].make())


@each_array
@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "u4", "u8", "?", ">f4", ">u8", "c8"])
def test_wrong_dtype(call: Call, position: int, dtype: str) -> None:
    _, wanted, length, _ = call.arrays[position]
    if np.dtype(dtype) != wanted:
        refused(call, position, np.zeros(length, dtype=dtype), TypeError)


@each_array
def test_not_contiguous(call: Call, position: int) -> None:
    _, dtype, length, _ = call.arrays[position]
    refused(call, position, np.zeros(2 * length, dtype=dtype)[::2], TypeError)
    refused(call, position, np.zeros(length, dtype=dtype)[::-1], TypeError)
    refused(call, position, np.broadcast_to(np.zeros(1, dtype=dtype), (length,)).copy()[::-1], TypeError)


@each_array
def test_wrong_shape(call: Call, position: int) -> None:
    _, dtype, length, _ = call.arrays[position]
    for shape in ((length, 1), (1, length), ()):
        refused(call, position, np.zeros(shape, dtype=dtype), ValueError)


@each({name: call for name, call in CALLS.items() if len(call.arrays) > 1})
def test_wrong_length(call: Call, position: int) -> None:
    """Of several arrays one is too short or too long. Where there is but one, it sets the length."""
    _, dtype, length, _ = call.arrays[position]
    for wrong in (length - 1, length + 8, 0):
        arrays = call.make()
        arrays[position] = np.zeros(wrong, dtype=dtype)
        with pytest.raises(ValueError, match="length"):
            call.run(*arrays)


@each_array
def test_lists_and_other_things(call: Call, position: int) -> None:
    for wrong in ([0.0] * N, None, 1.0):
        arrays = call.make()
        arrays[position] = wrong
        with pytest.raises(TypeError):
            call.run(*arrays)


@each_array
def test_read_only(call: Call, position: int) -> None:
    """An input may be read-only, an output may not."""
    name, _, _, is_output = call.arrays[position]
    arrays = call.make()
    arrays[position].flags.writeable = False
    if is_output:
        with pytest.raises(TypeError, match=name):
            call.run(*arrays)
    else:
        call.run(*arrays)


def test_philox_takes_whole_blocks() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        _core.philox(KEY, 9, 0, 0, np.zeros(6, dtype=U32))


@pytest.mark.parametrize("bad", [-1, 2**64, 1.5, "7"])
def test_keys_and_cells_are_64_bit_numbers(bad: Any) -> None:
    out = np.zeros(4, dtype=F32)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        _core.normals(bad, 9, 0, 0, out)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        _core.normals(KEY, 9, 0, bad, out)


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_events_and_purposes_are_32_bit_numbers(bad: int) -> None:
    out = np.zeros(4, dtype=F32)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        _core.normals(KEY, bad, 0, 0, out)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        _core.normals(KEY, 9, bad, 0, out)


def test_curves_are_checked() -> None:
    def make(form: int, a: Any, b: Any) -> None:
        _core.Curve(form, a, b, 0.0, 1.0, 0.0, 1.0)

    def zeros(n: int) -> np.ndarray:
        return np.zeros(n, dtype=F32)

    for form in (-1, 5):
        with pytest.raises(ValueError, match="form"):
            make(form, zeros(2), zeros(2))
    for n in (0, _core.MAX_COEFFICIENTS + 1):
        with pytest.raises(ValueError, match="a:"):
            make(POLY, zeros(n), zeros(n))
    for n in (0, 1, _core.MAX_KNOTS + 1):
        with pytest.raises(ValueError, match="a:"):
            make(TABLE, zeros(n), zeros(n))
    with pytest.raises(ValueError, match="b:"):
        make(TABLE, zeros(4), zeros(3))
    with pytest.raises(TypeError, match="a:"):
        make(POLY, np.zeros(2), zeros(2))


def test_devices_are_checked() -> None:
    for low, high in ((-0.1, 0.0), (0.0, 1.5), (0.7, 0.7), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="p_stuck"):
            bridge.device(cells.Device(p_stuck_lo=low, p_stuck_hi=high))
    with pytest.raises(ValueError, match="domain"):
        bridge.device(cells.Device(domain=2))


def test_a_table_needs_two_knots() -> None:
    values = np.zeros(4, dtype=F32)
    with pytest.raises(ValueError, match="table"):
        _core.lookup(values, np.zeros(1, dtype=F32), 0.0, 1.0, False, values.copy())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32(1e-42)], ids=["nan", "inf", "-inf", "subnormal"])
@pytest.mark.parametrize("name", cases.DEVICE_CASES)
def test_odd_numbers_harm_no_neighbour_and_give_the_same_bits(name: str, bad: float) -> None:
    """Every 7th target is not a number, infinite or subnormal: the others keep their bits, on every level."""
    group = cases.DEVICE_CASES[name]
    first, n = 5, 301
    x = samples.uniform(first, n)
    odd = x.copy()
    odd[::7] = bad

    def life(targets: np.ndarray) -> list[np.ndarray]:
        programmed, seen, verified = cases.blank(n), cases.blank(n), cases.blank(n)
        pulses, failed = cases.blank(n, U16), cases.blank(n, U8)
        _core.program(group.core, KEY, 1, first, targets, programmed)
        _core.program_age_read(group.core, group.core_time, KEY, 1, 5, 2, first, targets, seen)
        _core.program_and_verify(group.core, group.core_pulse, KEY, 1, first, targets, verified, pulses, failed)
        return [programmed, seen, verified, pulses, failed]

    before, clean, results = _core.isa(), life(x), []
    try:
        for level in _core.isa_available():
            _core.set_isa(level)
            results.append(life(odd))
    finally:
        _core.set_isa(before)
    healthy = np.arange(n) % 7 != 0
    for result in results:
        for got, wanted, of_first in zip(result, clean, results[0], strict=True):
            assert got[healthy].tobytes() == wanted[healthy].tobytes()
            assert got.tobytes() == of_first.tobytes()


def test_signs_of_zero_and_of_nothing() -> None:
    """Negative zero has no sign to keep; the padding bits of the last byte are zero."""
    values = np.array([0.0, -0.0, -1.0, 1.0, -np.inf, np.inf, -1e-42, 1e-42, -2.0], dtype=F32)
    magnitude, signs = cases.blank(9), cases.blank(2, U8)
    _core.split_sign(values, magnitude, signs)
    assert signs.tolist() == [0b01010100, 0b1]
    np.testing.assert_array_equal(magnitude, np.abs(values))
    assert not np.signbit(magnitude).any()


def test_an_input_on_an_odd_address_is_read_or_refused() -> None:
    """Arrays cut from a file may start at any byte."""
    x = samples.uniform(0, 100)
    at_odd = np.frombuffer(b"\0" + x.tobytes(), dtype=F32, offset=1)
    wanted, got = cases.blank(100), cases.blank(100)
    _core.affine(x, 2.0, 1.0, -9.0, 9.0, wanted)
    try:
        _core.affine(at_odd, 2.0, 1.0, -9.0, 9.0, got)
    except TypeError:
        return
    np.testing.assert_array_equal(got, wanted)
