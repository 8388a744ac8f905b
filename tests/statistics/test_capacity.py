"""Capacities against closed forms and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from memristore import devices
from memristore.array import OneShot, ProgramAndVerify
from memristore.errors import SpecError
from memristore.limits import blahut_arimoto, capacity, mutual_information
from memristore.mapping.levels import Levels

DAY = 86400.0


def h(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p) if 0 < p < 1 else 0.0


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.11, 0.5])
def test_closed_forms(p: float) -> None:
    """Binary symmetric, binary erasure, Z: 1 - h(p), 1 - p, log2(1 + (1 - p) p^(p / (1 - p)))."""
    symmetric = blahut_arimoto([[1 - p, p], [p, 1 - p]], 1e-7)
    assert symmetric.bits == pytest.approx(1 - h(p), abs=1e-7)
    erasure = blahut_arimoto([[1 - p, p, 0], [0, p, 1 - p]], 1e-7)
    assert erasure.bits == pytest.approx(1 - p, abs=1e-7)
    z = blahut_arimoto([[1, 0], [p, 1 - p]], 1e-7)
    wanted = math.log2(1 + (1 - p) * (p ** (p / (1 - p)) if p else 1.0))
    assert z.bits == pytest.approx(wanted, abs=2e-7)
    assert z.gap <= 1e-7
    assert z.inputs.sum() == pytest.approx(1.0)


def test_noiseless_and_useless() -> None:
    assert blahut_arimoto(np.eye(8)).bits == pytest.approx(3.0)
    assert blahut_arimoto(np.full((4, 5), 0.2)).bits == pytest.approx(0.0, abs=1e-9)
    # Rows that repeat, or that mix others, add nothing.
    rows = np.concatenate([np.eye(4), np.eye(4)[:2], np.full((1, 4), 0.25)])
    assert blahut_arimoto(rows, 1e-6).bits == pytest.approx(2.0, abs=1e-6)


def test_binary_input_white_noise() -> None:
    """+-1 in white noise of spread 1, against the integral of the definition; the density is cut into 2000 bins."""
    edges = np.linspace(-9, 9, 2001)
    rows = np.stack([np.diff(ndtr(edges - mean)) for mean in (-1.0, 1.0)])
    y = np.linspace(-12, 12, 200_001)
    density = np.exp(-0.5 * (y - 1) ** 2) / math.sqrt(2 * math.pi)
    wanted = 1 - float((density * np.log2(1 + np.exp(-2 * y))).sum() * (y[1] - y[0]))
    assert blahut_arimoto(rows / rows.sum(axis=1, keepdims=True), 1e-6).bits == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("snr", [0.3, 1.0, 4.0])
def test_gaussian_input_white_noise(snr: float) -> None:
    """1/2 log2(1 + SNR) within 1e-6. Bins of width w cost up to w^2 / (24 ln 2) bits: 6e-7 here."""
    spread = math.sqrt(snr)
    step = 0.2 * min(1.0, spread)
    x = np.arange(-7 * spread, 7 * spread + step, step)
    inputs = np.exp(-0.5 * np.square(x / spread))
    reach = x[-1] + 7
    edges = np.linspace(-reach, reach, math.ceil(2 * reach / 0.0032))
    rows = np.diff(ndtr(edges - x[:, None]), axis=1)
    found = mutual_information(rows / rows.sum(axis=1, keepdims=True), inputs / inputs.sum())
    assert found == pytest.approx(0.5 * math.log2(1 + snr), abs=1e-6)


def test_two_inputs_in_white_noise() -> None:
    """+-1, equally likely, in white noise of spread 1, within 1e-6 of the integral."""
    edges = np.linspace(-9, 9, 12_001)
    rows = np.stack([np.diff(ndtr(edges - mean)) for mean in (-1.0, 1.0)])
    y = np.linspace(-12, 12, 200_001)
    density = np.exp(-0.5 * (y - 1) ** 2) / math.sqrt(2 * math.pi)
    wanted = 1 - float((density * np.log2(1 + np.exp(-2 * y))).sum() * (y[1] - y[0]))
    assert mutual_information(rows / rows.sum(axis=1, keepdims=True), [0.5, 0.5]) == pytest.approx(wanted, abs=1e-6)


def test_information_of_given_inputs() -> None:
    rows = [[0.9, 0.1], [0.1, 0.9]]
    assert mutual_information(rows, [0.5, 0.5]) == pytest.approx(1 - h(0.1), abs=1e-12)
    assert mutual_information(rows, [0.2, 0.8]) == pytest.approx(h(0.2 * 0.9 + 0.8 * 0.1) - h(0.1), abs=1e-12)
    assert mutual_information(rows, [1.0, 0.0]) == 0.0
    best = capacity(devices.get("pcm-ibm-90nm"), DAY)
    assert best.inputs.shape == best.targets.shape
    for bad in ([0.5, 0.4], [1.0], [1.5, -0.5], [math.nan, 1.0]):
        with pytest.raises(SpecError, match="probabilities"):
            mutual_information(rows, bad)


def test_a_number_of_levels() -> None:
    """Capacity grows with the levels, to near that of the whole range; each at least what equally likely levels carry.

    Levels are placed for equal likelihood, so that 16 of them need not carry more than 8 with a free choice of input.
    """
    device, year = devices.get("pcm-ibm-90nm"), 365.25 * DAY
    most, before = capacity(device, year), 0.0
    for count in (2, 4, 8, 16):
        found = capacity(device, year, levels=count)
        design = Levels(count=count, placement="information").design(device, OneShot(), year)
        assert found.targets.tolist() == [float(t) for t in design.targets]
        assert found.bits > (before if count < 16 else 0.97 * most.bits)
        assert design.at(year).mutual_information - 2e-3 <= found.bits <= min(most.bits + 1e-3, math.log2(count) + 1e-9)
        before = found.bits
    with pytest.raises(SpecError):
        capacity(device, year, levels=5)


# Blahut-Arimoto on Gaussian conditionals of the measured levels; the monotone branch where the device is that.
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pcm-partial-reset", 2.29),
        ("pcm-partial-reset/all-levels", 2.64),
        *(
            (f"pcm-partial-set/device-{k}-all-levels", c)
            for k, c in enumerate((2.72, 2.66, 2.83, 2.67, 2.83, 2.69, 2.84))
        ),
    ],
)
def test_measured_devices(name: str, wanted: float) -> None:
    assert capacity(devices.get(name), 0.0).bits == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize(
    ("at", "wanted"), [(0.0, 2.87), (DAY, 2.56), (30.4 * DAY, 2.40), (365.25 * DAY, 2.30), (3652.5 * DAY, 2.21)]
)
def test_ibm_90nm_over_time(at: float, wanted: float) -> None:
    """The figures compared with come from samples, 8000 of each of 96 targets, which puts them some 0.02 bit high."""
    assert capacity(devices.get("pcm-ibm-90nm"), at).bits == pytest.approx(wanted, abs=0.03)


def test_finer_tables_change_little() -> None:
    for name in ("pcm-partial-reset", "pcm-ibm-90nm"):
        device = devices.get(name)
        finer = capacity(device, DAY, levels=np.linspace(0, 1, 257))
        assert capacity(device, DAY).bits == pytest.approx(finer.bits, abs=0.005)


def test_levels_stay_below_capacity_and_near_it() -> None:
    device = devices.get("pcm-ibm-90nm")
    most = capacity(device, 365.25 * DAY).bits
    design = Levels(count=8, placement="information").design(device, OneShot(), 365.25 * DAY)
    channel = design.at(365.25 * DAY)
    assert 0.95 * most < 3 * channel.information <= channel.mutual_information < most
    own = capacity(device, 365.25 * DAY, levels=design.targets)
    assert channel.mutual_information <= own.bits + 1e-3 <= most + 2e-3


def test_more_effort_carries_more() -> None:
    device = devices.get("pcm-ibm-90nm")
    one = capacity(device, 0.0).bits
    assert capacity(device, 0.0, copies=2).bits > one + 0.2
    assert capacity(device, 0.0, ProgramAndVerify()).bits > one
    assert capacity(device.replace(stuck_low=0.01), 0.0).bits < one - 0.01
    assert capacity(device, 0.0, levels=[0.5]).bits == pytest.approx(0.0, abs=1e-9)


def test_what_is_refused() -> None:
    device = devices.get("ideal")
    for bad in ([[0.5, 0.4]], [[1.5, -0.5]], [1.0], np.zeros((0, 3)), [[math.nan, 1.0]]):
        with pytest.raises(SpecError):
            blahut_arimoto(bad)
    for given in ({"at": -1.0}, {"at": 0.0, "copies": 0}, {"at": 0.0, "levels": [2.0]}, {"at": 0.0, "tolerance": 0.0}):
        with pytest.raises(SpecError):
            capacity(device, **given)
