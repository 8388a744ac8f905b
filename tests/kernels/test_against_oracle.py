"""Every kernel gives what its numpy definition says, and the same bytes however it is run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from memristore import _core
from oracle import bridge, cases, cells, curves
from oracle.cases import CASES, Case, Outputs

#: (first, items): block and chunk edges, first cells that share no alignment with them, counters beyond 32 bits.
FAR, EDGE = 2**40 + 17, 2**32 - 3
SPANS = [
    *((0, 0), (5, 0), (0, 1), (FAR, 1), (64, 63), (EDGE, 64), (5, 65), (0, 255), (64, 256), (FAR, 257)),
    *((EDGE, 65535), (0, 65536), (5, 65537), (FAR, 150_001)),
]


def each_span(given: Iterable[Case]) -> pytest.MarkDecorator:
    """One test per case and span."""
    found = [(case, first, items) for case in given for first, items in SPANS]
    ids = [f"{case.name}-first{first}-n{items}" for case, first, items in found]
    return pytest.mark.parametrize(("case", "first", "items"), found, ids=ids)


names = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def assert_same_bytes(got: Outputs, wanted: Outputs, what: str) -> None:
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes(), f"{what}: output {number} has other bits"


@each_span(case for case in CASES.values() if case.expect is not None)
def test_matches_its_definition(case: Case, first: int, items: int) -> None:
    assert case.expect is not None
    got, expected = case.run(first, items, 0), case.expect(first, items)
    for output, (wanted, tolerance) in zip(got, expected, strict=True):
        assert output.shape == wanted.shape
        if np.ndim(tolerance) == 0 and tolerance == 0.0:
            np.testing.assert_array_equal(output, wanted)
        else:
            wrong = np.abs(output.astype(np.float64) - wanted)
            assert np.all(wrong <= tolerance), f"off by {wrong.max():.3g} at {int(np.argmax(wrong - tolerance))}"


@each_span(CASES.values())
def test_threads_and_levels_give_the_same_bytes(case: Case, first: int, items: int) -> None:
    before = _core.isa()
    reference = case.run(first, items, 1)
    try:
        for level in _core.isa_available():
            _core.set_isa(level)
            for threads in (1, 2):
                assert_same_bytes(case.run(first, items, threads), reference, f"{level}, {threads} threads")
    finally:
        _core.set_isa(before)


@names
def test_cuts_give_the_same_bytes(case: Case, isa: str, threads: int) -> None:
    """Cut anywhere, even in the middle of a group of 64 cells; the pieces are those of the whole."""
    for first, items in ((0, 1000), (2**32 - 3, 1001), (2**40 + 17, 777)):
        whole = case.run(first, items, threads)
        cuts = [0, *(c // case.grain * case.grain for c in (1, 40, 103, 104, 168, 420)), items]
        pieces = [case.run(first + a * case.cells, b - a, threads) for a, b in pairwise(cuts)]
        joined = tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
        assert_same_bytes(joined, whole, f"cells from {first}")


def test_chunk_edges_are_cuts_like_any_other(threads: int) -> None:
    """Arrays larger than a thread's chunk equal themselves cut at odd places."""
    for name in ("program_age_read-busy-conductance", "program_and_verify-busy-resistance", "normals-purpose9-event3"):
        whole = CASES[name].run(5, 200_003, threads)
        parts = [CASES[name].run(5 + a, b - a, 1) for a, b in pairwise([0, 65_535, 131_073, 200_003])]
        assert_same_bytes(tuple(np.concatenate(p) for p in zip(*parts, strict=True)), whole, name)


def test_callers_on_two_python_threads_do_not_disturb_each_other() -> None:
    """Kernels run without the interpreter's lock and keep no state."""
    case = CASES["program_age_read-busy-conductance"]
    wanted = [case.run(first, 100_001, 1) for first in (0, 2**32 - 3)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(case.run, first, 100_001, 2) for first in (0, 2**32 - 3) * 4]
        for number, job in enumerate(jobs):
            assert_same_bytes(job.result(), wanted[number % 2], f"caller {number}")


@pytest.mark.parametrize("name", cases.DEVICE_CASES)
def test_the_fused_chain_is_the_stages_bit_for_bit(name: str, isa: str) -> None:
    group = cases.DEVICE_CASES[name]
    first, n = 2**32 - 3, 70_001
    (programmed,) = group.program(first, n, 0)
    state, relaxed, seen, at_once = (cases.blank(n) for _ in range(4))
    key, read = cases.KEY, (_core.PURPOSES["read"], cases.READ_EVENT)
    _core.drift(group.core, group.core_time, key, first, programmed, state)
    _core.relax(group.core, group.core_time, key, first, programmed, state, relaxed)
    _core.read(group.core, group.core_time, key, *read, first, programmed, relaxed, seen)
    _core.age_and_read(group.core, group.core_time, key, *read, first, programmed, at_once)
    assert_same_bytes((at_once,), (seen,), "age_and_read")
    assert_same_bytes(group.program_age_read(first, n, 0), (seen,), "program_age_read")


@pytest.mark.parametrize("name", ["busy-conductance", "busy-resistance"])
def test_a_stuck_cell_keeps_its_state_for_ever(name: str) -> None:
    group = cases.DEVICE_CASES[name]
    (codes,), (programmed,) = group.faults(0, 100_000, 0), group.program(0, 100_000, 0)
    assert {0, 1, 2} == set(codes.tolist())
    for code, stuck in ((1, group.device.stuck_lo), (2, group.device.stuck_hi)):
        assert np.all(programmed[codes == code] == np.float32(stuck))
    state, relaxed = cases.blank(len(codes)), cases.blank(len(codes))
    _core.drift(group.core, group.core_time, cases.KEY, 0, programmed, state)
    _core.relax(group.core, group.core_time, cases.KEY, 0, programmed, state, relaxed)
    assert np.all(relaxed[codes > 0] == programmed[codes > 0])
    assert np.mean(relaxed[codes == 0] != programmed[codes == 0]) > 0.95  # the rest lies on the clip


def test_a_device_without_relaxation_is_not_touched_by_it() -> None:
    """Not even clipped: the stage is skipped, fused or not."""
    state = np.array([-1.0, 0.05, 0.5, 1.5], dtype=np.float32)
    device, time = cells.Device(clip_lo=0.1, clip_hi=1.0), cells.ReadTime()
    out = cases.blank(4)
    _core.relax(bridge.device(device), bridge.time(time), cases.KEY, 0, state, state, out)
    np.testing.assert_array_equal(out, state)
    np.testing.assert_array_equal(out, cells.relax(device, time, cases.KEY, 0, state, state).astype(np.float32))


def test_ranges_and_threads_are_checked() -> None:
    out = cases.blank(4)
    with pytest.raises(ValueError, match=r"past address 2\*\*63"):
        _core.normals(cases.KEY, 9, 0, 2**63 - 3, out)
    _core.normals(cases.KEY, 9, 0, 2**63 - 5, out)
    with pytest.raises(ValueError, match="threads"):
        _core.normals(cases.KEY, 9, 0, 0, out, -1)


def test_a_certain_fault_is_certain() -> None:
    for low, high, code in ((1.0, 0.0, 1), (0.0, 1.0, 2), (0.0, 0.0, 0)):
        core = bridge.device(cells.Device(p_stuck_lo=low, p_stuck_hi=high))
        out = cases.blank(100_000, np.uint8)
        _core.faults(core, cases.KEY, 0, out)
        assert np.all(out == code)


def test_constants_are_those_of_the_definition() -> None:
    assert (_core.ZERO, _core.POLY, _core.POLY_LOG, _core.EXP_LOG, _core.TABLE) == (
        curves.ZERO, curves.POLY, curves.POLY_LOG, curves.EXP_LOG, curves.TABLE,
    )  # fmt: skip
    assert (_core.CONDUCTANCE, _core.LOG_RESISTANCE) == (cells.CONDUCTANCE, cells.LOG_RESISTANCE)
    assert np.float32(_core.LOG_FLOOR) == curves.LOG_FLOOR
    assert (_core.MAX_COEFFICIENTS, _core.MAX_KNOTS, _core.MAX_PULSES) == (8, 128, 511)


def test_every_level_is_put_to_the_test() -> None:
    """The scalar body is the portable reference and is always there; an unknown name is refused by name."""
    assert "scalar" in _core.isa_available()
    assert _core.isa() == os.environ.get("MEMRISTORE_ISA", _core.isa_available()[0])
    with pytest.raises(ValueError, match="pdp-11"):
        _core.set_isa("pdp-11")
