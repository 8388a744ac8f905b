"""Levels in simulated cells against what their design promises: error rates, information, calibrated ratios.

Each case reads n = 160,000 to 640,000 coded bits. Rates must lie within 5 standard errors of the prediction plus 3 % of
it (the quadrature's own error): false alarm below 1e-6 per case, and a rate 6 % off is seen where 1e4 errors are.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from memristore import devices
from memristore.array import OneShot, ProgramAndVerify
from memristore.errors import SpecError
from memristore.mapping.level_labels import GROUPS, labels
from memristore.mapping.level_reads import SAMPLES
from memristore.mapping.levels import LevelDesign, Levels

YEAR = 365.25 * 86400
KEY, FIRST = 0xC0FFEE, 1 << 48


def random_words(bits: int, n: int, rows: int, seed: int = 1) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(0, 2, (bits * rows, n), dtype=np.uint8)
    return np.packbits(raw, axis=1, bitorder="little")


def read(design: LevelDesign, at: float, believed: float | None = None, n: int = 4001, cells: int = 160_000) -> tuple:
    """Bits written, ratios read, wrong hard bits."""
    levels = design.levels
    words = random_words(levels.bits, n, max(1, cells // (n * levels.cells)))
    told = at if believed is None else believed
    ratios, errors = design.store(words, n, key=KEY, first=FIRST, at=at, believed=told, event=1, soft=True)
    return np.unpackbits(words, axis=1, bitorder="little")[:, :n], ratios, errors


def measured_information(bits: np.ndarray, ratios: np.ndarray) -> float:
    seen = np.zeros((2, 255))
    np.add.at(seen, (bits.ravel(), ratios.ravel().astype(int) + 127), 1.0 / bits.size)

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log2(p[p > 0])).sum())

    return 1.0 + entropy(seen.sum(axis=0)) - entropy(seen)


def agree(design: LevelDesign, at: float, *, unseen: float = 0.0) -> None:
    bits, ratios, errors = read(design, at)
    channel = design.at(at)
    n, p = bits.size, channel.raw_error
    # The two or three bits of a wrong group count together: twice the variance of independent bits.
    slack = 5 * math.sqrt(2 * n * p) + 0.03 * n * p + 8
    assert n * (p - unseen) - slack <= errors <= n * p + slack
    assert measured_information(bits, ratios) == pytest.approx(channel.information, abs=0.004)


@pytest.mark.parametrize("at", [0.0, YEAR])
@pytest.mark.parametrize("name", ["pcm-ibm-90nm", "pcm-partial-reset/all-levels", "pcm-partial-set/pooled", "awgn/17"])
@pytest.mark.parametrize("count", GROUPS)
def test_errors_and_information_are_as_predicted(name: str, count: int, at: float) -> None:
    agree(Levels(count=count).design(devices.get(name), OneShot(), YEAR), at)


@pytest.mark.parametrize("copies", [2, 5])
@pytest.mark.parametrize("count", [4, 6])
def test_means_of_copies(copies: int, count: int) -> None:
    agree(Levels(count=count).design(devices.get("pcm-ibm-90nm"), OneShot(), YEAR, copies), YEAR)


@pytest.mark.parametrize("at", [0.0, YEAR])
def test_program_and_verify(at: float) -> None:
    """What the simulated cells did not show is allowed for: 3 / SAMPLES."""
    design = Levels(count=6).design(devices.get("pcm-ibm-90nm"), ProgramAndVerify(), YEAR)
    agree(design, at, unseen=3.0 / SAMPLES)
    assert design.at(at).raw_error > 3.0 / SAMPLES


@pytest.mark.parametrize("copies", [1, 3])
def test_stuck_cells_are_part_of_the_prediction(copies: int) -> None:
    device = devices.get("pcm-ibm-90nm").replace(stuck_low=0.004, stuck_high=0.002)
    design = Levels(count=4).design(device, OneShot(), 86400.0, copies)
    agree(design, 86400.0)
    channel, sound = (
        design.at(0.0),
        Levels(count=4).design(device.replace(stuck_low=0.0, stuck_high=0.0), OneShot(), 0.0),
    )
    assert channel.raw_error > channel.noise_error
    assert channel.noise_error == pytest.approx(sound.at(0.0).noise_error, rel=0.5, abs=2e-3)
    if copies == 1:
        # A stuck cell is wrong for about half of its bits.
        assert channel.raw_error - channel.noise_error == pytest.approx(0.003, rel=0.15)
        assert channel.information < sound.at(0.0).information - 0.003


@pytest.mark.parametrize("count", [3, 8])
def test_ratios_are_calibrated(count: int) -> None:
    """P(0 | ratio) = 1 / (1 + exp(-ratio / 8)), by classes of ratios, within 5 standard errors + 3 %."""
    design = Levels(count=count, placement="information").design(devices.get("pcm-ibm-90nm"), OneShot(), YEAR)
    bits, ratios, _ = read(design, YEAR, cells=400_000)
    value, zero = ratios.ravel().astype(int), bits.ravel() == 0
    for low in range(-40, 40, 4):
        here = (value >= low) & (value < low + 4)
        n = int(here.sum())
        if n < 200:
            continue
        p = float((1.0 / (1.0 + np.exp(-value[here] / 8.0))).mean())
        assert abs(zero[here].mean() - p) < 5 * math.sqrt(p * (1 - p) / n) + 0.03 * min(p, 1 - p) + 1e-3


def test_decisions_follow_drift() -> None:
    """Cells a year old, read with decisions for new cells: most levels but the lowest are wrong."""
    design = Levels(count=4).design(devices.get("pcm-ibm-90nm"), OneShot(), YEAR)
    assert read(design, YEAR)[2] < 0.005 * 320_000
    assert read(design, YEAR, believed=0.0)[2] > 0.2 * 320_000
    assert design.at(YEAR) is design.at(YEAR * 1.01)
    assert design.at(YEAR) is not design.at(0.0)


def test_the_worse_end_counts() -> None:
    design = Levels(count=4).design(devices.get("pcm-ibm-90nm"), OneShot(), YEAR)
    ends = [design.at(at) for at in (0.0, YEAR)]
    channel = design.channel()
    assert channel.raw_error == max(c.raw_error for c in ends)
    assert channel.information == min(c.information for c in ends)
    assert design.channel(0.0).raw_error < channel.raw_error


def test_two_levels_of_white_noise_have_the_closed_form_far_out() -> None:
    """P = Q(range / (2 sigma)), kept down to 1e-80."""
    from scipy.special import ndtr

    for snr_db in (6.0, 12.0, 21.0):
        device = devices.get(f"awgn/{snr_db}")
        wanted = float(ndtr(-0.5 / device.write(0.0)))
        found = Levels(count=2).design(device, OneShot(), 0.0).at(0.0).raw_error
        assert found == pytest.approx(wanted, rel=1e-6 if snr_db < 20 else 0.05)


# Raw error of the best Gray-labelled levels of the measured cells, recomputed from the data of Zarcone et al., Sci.
# Rep. 10, 6831 (2020), with levels at the measured voltages: placing between them must do at least as well.
@pytest.mark.parametrize(
    ("name", "count", "best"),
    [
        ("pcm-partial-reset/all-levels", 4, 6.3e-5), ("pcm-partial-reset/all-levels", 8, 6.8e-2),
        ("pcm-partial-set/device-4", 4, 4.5e-5), ("pcm-partial-set/device-4", 8, 3.8e-2),
        ("pcm-partial-set/pooled", 2, 1.3e-15), ("pcm-partial-set/pooled", 3, 8e-4),
        ("pcm-partial-set/pooled", 4, 1.6e-2),
    ],
)  # fmt: skip
def test_measured_cells(name: str, count: int, best: float) -> None:
    found = Levels(count=count).design(devices.get(name), OneShot(), 0.0).at(0.0).raw_error
    assert best / 5 < found < best


@pytest.mark.parametrize("name", ["pcm-ibm-90nm", "pcm-partial-reset/all-levels"])
@pytest.mark.parametrize("count", [4, 8])
def test_placements_do_what_they_are_for(name: str, count: int) -> None:
    at = {
        placement: Levels(count=count, placement=placement).design(devices.get(name), OneShot(), YEAR).channel()
        for placement in ("error", "information", "uniform")
    }
    assert at["error"].raw_error <= min(c.raw_error for c in at.values()) * 1.001
    assert at["information"].information >= max(c.information for c in at.values()) - 2e-3
    assert at["error"].raw_error < 0.8 * at["uniform"].raw_error
    natural = Levels(count=count, labelling="natural").design(devices.get(name), OneShot(), YEAR).channel()
    assert natural.raw_error > at["error"].raw_error


@pytest.mark.parametrize("count", GROUPS)
@pytest.mark.parametrize("labelling", ["gray", "natural"])
def test_labels_are_distinct_and_gray_ones_neighbourly(count: int, labelling: str) -> None:
    cells, bits = GROUPS[count]
    level_of = labels(count, labelling)
    assert level_of.shape == (2**bits, cells)
    assert level_of.max() == count - 1 or cells == 2
    assert len({tuple(row) for row in level_of.tolist()}) == 2**bits
    if labelling == "gray":
        for i, one in enumerate(level_of.astype(int)):
            for j, other in enumerate(level_of.astype(int)):
                if np.abs(one - other).sum() == 1:
                    assert (i ^ j).bit_count() == 1


def test_ideal_cells_return_every_bit() -> None:
    for count in GROUPS:
        design = Levels(count=count).design(devices.get("ideal"), OneShot(), YEAR)
        words = random_words(design.levels.bits, 77, 5)
        got, errors = design.store(words, 77, key=1, first=3, at=YEAR, believed=YEAR, event=0)
        assert errors == 0
        np.testing.assert_array_equal(got, words)
        assert design.channel().raw_error == 0.0
        assert design.channel().information == pytest.approx(1.0, abs=1e-4)
        transitions = design.at(0.0).transitions
        np.testing.assert_allclose(transitions, np.eye(count), atol=1e-12)
        assert design.at(0.0).mutual_information == pytest.approx(math.log2(count))


def test_what_is_refused() -> None:
    for bad in ({"count": 5}, {"count": 1}, {"count": 17}, {"count": 4.0}, {"labelling": "x"}, {"placement": "best"}):
        with pytest.raises(SpecError):
            Levels(**bad)
    device = devices.get("ideal")
    with pytest.raises(SpecError, match="copies"):
        Levels().design(device, OneShot(), 0.0, 0)
    with pytest.raises(SpecError, match="retention"):
        Levels().design(device, OneShot(), -1.0)
    design = Levels(count=8).design(device, OneShot(), 0.0)
    where = {"key": 1, "first": 0, "at": 0.0, "believed": 0.0, "event": 0}
    with pytest.raises(SpecError, match="superblocks"):
        design.store(np.zeros((4, 2), np.uint8), 16, **where)
    with pytest.raises(SpecError, match="shape"):
        design.store(np.zeros((3, 3), np.uint8), 16, **where)
    assert Levels.from_dict(Levels(count=6).to_dict()) == Levels(count=6)
