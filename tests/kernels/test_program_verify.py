"""Program-and-verify against its definition: states, pulses and failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memristore import _core
from oracle import bridge, cases, cells, samples
from oracle.curves import POLY, Curve

SPANS = [(0, 0), (5, 1), (64, 63), (2**32 - 3, 65), (0, 256), (5, 257), (2**40 + 17, 65_537), (2**32 - 3, 150_001)]
LINE = Curve(form=POLY, a=(0.0, 25.0), lo=0.0, hi=25.0)
QUIET = cells.Device(response=LINE, clip_hi=30.0, inv_range=1 / 25)


def run(
    device: cells.Device, pulse: cells.Pulse, x: np.ndarray, first: int = 0, event: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    out, pulses, failed = cases.blank(len(x)), cases.blank(len(x), np.uint16), cases.blank(len(x), np.uint8)
    core = bridge.device(device)
    _core.program_and_verify(core, bridge.pulse(pulse), cases.KEY, event, first, x, out, pulses, failed)
    return out, pulses, failed


@pytest.mark.parametrize(("first", "n"), SPANS)
@pytest.mark.parametrize("name", cases.DEVICE_CASES)
def test_matches_its_definition(name: str, first: int, n: int) -> None:
    """Counts may differ only where a verify came within 4e-6 of full scale of the band's edge: rarely, and counted.

    The density of |error| at the edge is below 2 / band and `pulses + 1` verifies are made per cell, so the share of
    cells that may differ is below 2 * 2 * near / band * (mean pulses + 1); the test allows just that (and 3 cells).
    """
    group = cases.DEVICE_CASES[name]
    near = 4e-6 * samples.SCALES[name]
    state, pulses, failed = group.program_and_verify(first, n, 0)
    x = samples.uniform(first, n, -0.05, 1.05)
    oracle = cells.program_and_verify(group.device, group.pulse, cases.KEY, cases.EVENT, first, x)
    differ = (pulses != oracle.pulses) | (failed != oracle.failed)
    assert np.all(oracle.margin[differ] <= near)
    bound = 4 * near / group.pulse.band * (float(oracle.pulses.mean()) + 1 if n else 0)
    assert np.count_nonzero(differ) <= 3 + bound * n
    assert np.all(np.abs(state - oracle.state)[~differ] <= 2 * group.tolerance)


def test_counts_pulses_and_failures() -> None:
    """A pulse that moves the state by the whole error needs one; one that cannot reach the band uses all and fails."""
    x = np.linspace(0.1, 1.0, 1000, dtype=np.float32)
    state, pulses, failed = run(QUIET, cells.Pulse(step=1.0, band=1e-3, max_pulses=5), x)
    assert np.all(pulses == 1)
    assert not failed.any()
    np.testing.assert_allclose(state, 25 * x, atol=1e-4)
    state, pulses, failed = run(QUIET, cells.Pulse(step=0.5, band=1e-3, max_pulses=3), x)
    assert np.all(pulses == 3)
    assert failed.all()
    np.testing.assert_allclose(state, 25 * x * (1 - 0.5**3), atol=1e-4)


def test_a_cell_within_the_band_is_left_alone() -> None:
    x = np.full(100, 0.4, dtype=np.float32)
    state, pulses, failed = run(QUIET, cells.Pulse(start=10.2, step=1.0, band=0.25, max_pulses=9), x)
    assert np.all(state == np.float32(10.2))
    assert not pulses.any()
    assert not failed.any()


def test_no_pulses_at_all_is_one_verify() -> None:
    x = np.array([0.4, 0.9], dtype=np.float32)
    state, pulses, failed = run(QUIET, cells.Pulse(start=10.0, step=1.0, band=0.25, max_pulses=0), x)
    assert state.tolist() == [10.0, 10.0]
    assert pulses.tolist() == [0, 0]
    assert failed.tolist() == [0, 1]


def test_stuck_cells_use_every_pulse_and_fail() -> None:
    device = replace(QUIET, p_stuck_lo=0.3, p_stuck_hi=0.2, stuck_lo=0.5, stuck_hi=24.0)
    x = np.full(5000, 0.5, dtype=np.float32)
    state, pulses, failed = run(device, cells.Pulse(step=1.0, band=0.1, max_pulses=7), x)
    codes = cells.faults(device, cases.KEY, 0, len(x))
    np.testing.assert_array_equal(failed, codes > 0)
    np.testing.assert_array_equal(pulses, np.where(codes > 0, 7, 1))
    np.testing.assert_allclose(state, np.choose(codes, [12.5, 0.5, 24.0]), atol=1e-5)


def test_the_verify_delay_compensates_drift() -> None:
    """With one exponent for all and no noise, the accepted state drifts onto the target, in both domains."""
    x = np.linspace(0.2, 0.8, 500, dtype=np.float32)
    nu, delay = 0.05, 4.0
    mean = Curve(form=POLY, a=(nu,), lo=0.0, hi=1.0)
    pulse = cells.Pulse(start=5.0, step=1.0, band=1e-3, log2_delay=delay, max_pulses=60)
    state, _, failed = run(replace(QUIET, drift_mean=mean), pulse, x)
    assert not failed.any()
    np.testing.assert_allclose(state * 2.0 ** (-nu * delay), 25 * x, atol=1.5e-3)
    device = cells.Device(
        domain=cells.LOG_RESISTANCE, response=replace(LINE, a=(4.0, 3.0)), clip_hi=9.0, drift_mean=mean
    )
    state, _, failed = run(device, pulse, x)
    assert not failed.any()
    np.testing.assert_allclose(state + nu * delay * np.log10(2), 4 + 3 * x, atol=1.5e-3)


def test_events_are_new_writes_of_the_same_cells() -> None:
    x = np.full(4000, 0.5, dtype=np.float32)
    pulse = cells.Pulse(step=0.7, spread=0.2, noise=0.2, verify_std=0.1, band=0.3, max_pulses=20)
    one, _, _ = run(QUIET, pulse, x, event=1)
    again, _, _ = run(QUIET, pulse, x, event=1)
    two, _, _ = run(QUIET, pulse, x, event=2)
    assert np.array_equal(one, again)
    assert np.mean(one == two) < 0.01


def test_too_many_pulses_or_events_are_refused() -> None:
    """Counter word 3 holds event * 256 + step / 2: neither may run over."""
    with pytest.raises(ValueError, match="max_pulses"):
        bridge.pulse(cells.Pulse(max_pulses=_core.MAX_PULSES + 1))
    x = np.zeros(1, dtype=np.float32)
    with pytest.raises(ValueError, match="event"):
        run(QUIET, cells.Pulse(), x, event=2**24)
