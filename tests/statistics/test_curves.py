"""Shannon-Kotel'nikov maps against a table of spirals over white noise, by a chain of its own and on devices.

The table (double spirals of Archimedes, Gaussian source, mean power limited, nearest point): SDR in dB at channel
signal-to-noise ratios of 5 to 30 dB. Cells limit states, not mean power, so the curves are judged twice: over white
noise with limited power, in plain numpy, where the table must be met within 0.5 dB; and on cells, where ``awgn/SNR``
names the ratio of a target uniform over the range, against floors 0.3 dB below what was measured.

n = 6000 values in the chain: standard error of an SDR 0.08 dB; n = 60,000 on devices: 0.03 dB, 0.2 dB where single
jumps from arm to arm matter. A false alarm is beyond 4 sigma; an arm too many or a wrong prior costs more than 1 dB.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import memristore as ms
from memristore.mapping import Density, PlaneParams, fold
from memristore.mapping.spread import PlaneCurve

CSNR = (5, 10, 15, 20, 25, 30)
# At 25 and 30 dB the table says 43.2 and 53.0, which takes arms 8.5 and 8.8 steps of the noise apart. In 40,000 draws
# no jump to the next arm is seen there; in 4,000,000 draws jumps bring these spirals down to 37.6 and 42.9 dB. What is
# asked for instead is the best pitch with jumps counted, less 0.5 dB.
ONE_IN_TWO = dict(zip(CSNR, (7.5, 14.9, 23.8, 32.5, 42.2, 51.0), strict=True))
TWO_IN_ONE = dict(zip(CSNR, (1.8, 3.5, 5.8, 8.4, 11.1, 13.7), strict=True))
#: Arms and reach in standard deviations of the best spiral for each ratio.
SPIRALS = {5: (2, 4.3), 10: (3, 3.6), 15: (5, 4.3), 20: (8, 5.0), 25: (13, 5.0), 30: (20, 5.0)}
IBM, PARTIAL = ms.devices.get("pcm-ibm-90nm"), ms.devices.get("pcm-partial-reset")


def db(ratio: float) -> float:
    return float(10 * np.log10(ratio))


def normal(n: int, seed: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def sdr(values: np.ndarray, at="0 s", seed: int = 5, **spec) -> float:
    made = ms.store({"w": torch.from_numpy(values)}, ms.StorageSpec(retention=at, **spec), seed=seed, trace=False)
    read = made.load(at=at)["w"].numpy()
    return db(values.var(dtype=np.float64) / np.square(read - values, dtype=np.float64).mean())


@pytest.mark.parametrize("csnr", CSNR)
def test_spirals_over_white_noise(csnr):
    rng, n = np.random.default_rng(csnr), 6000
    arms, reach = SPIRALS[csnr]
    corners = PlaneCurve("spiral", arms, 1).points(1.0, 1.0)
    along = np.append(0.0, np.cumsum(np.hypot(*np.diff(corners, axis=0).T)))

    def place(x):
        at = (np.clip(x, -reach, reach) / reach + 1) * 0.5 * along[-1]
        return np.stack([np.interp(at, along, part) for part in corners.T])

    x = rng.standard_normal(n)
    scale = np.sqrt(10 ** (csnr / 10) / place(rng.standard_normal(200_000)).var(axis=1).mean())
    seen = scale * place(x) + rng.standard_normal((2, n))
    grid = np.linspace(-reach, reach, int(3 * scale * along[-1]) + 200)
    points, prior = scale * place(grid), -0.5 * grid**2
    decoded = np.empty(n)
    for start in range(0, n, 500):
        part = seen[:, start : start + 500]
        log = prior - 0.5 * ((part[0][:, None] - points[0]) ** 2 + (part[1][:, None] - points[1]) ** 2)
        mass = np.exp(log - log.max(axis=1, keepdims=True))
        decoded[start : start + 500] = mass @ grid / mass.sum(axis=1)
    assert db(1 / np.square(decoded - x).mean()) > ONE_IN_TWO[csnr] - 0.5


@pytest.mark.parametrize("csnr", CSNR)
def test_folded_pairs_over_white_noise(csnr):
    """The product's descent with a price on power, so that it draws curves for limited power; the rest is numpy."""
    half = 3.8 * 10 ** (csnr / 20)
    u = np.linspace(-half, half, 8 * int(min(max(6 * half, 24), 400) / 8))
    prior = PlaneParams(-4.5, 9.0, Density.fit(np.sort(normal(32768)), -4.5, 4.5))
    x, mass, within = fold._bins(prior)
    x = 9.0 * x - 4.5
    pairs, weight = np.stack([np.repeat(x, x.size), np.tile(x, x.size)]), np.outer(mass, mass).reshape(-1)
    read = np.arange(-half - 5, half + 5, 0.4)
    likelihood = np.exp(-0.5 * np.square(read - u[:, None]))
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    ideal = fold._start(("spiral", 1.9 if csnr < 25 else 1.3), u.size, 0.0, 1.0)
    near = np.argmin(0.5 * np.square(ideal).sum(axis=0) - pairs.T @ ideal, axis=1)
    low, high = -5.0, 1.5
    for _ in range(9):
        price = 10 ** (0.5 * (low + high)) * np.square(u / half)
        made = fold._descend(u, likelihood, pairs, weight, near, within, price=price)
        more = made.mass @ np.square(u) > 10 ** (csnr / 10)
        low, high = (0.5 * (low + high), high) if more else (low, 0.5 * (low + high))
    rng = np.random.default_rng(csnr)
    source = rng.standard_normal((2, 4000)).astype(np.float32)
    cost = made.offset - (source[0][:, None] * made.centre[0] + source[1][:, None] * made.centre[1])
    sent = u[np.argmin(cost, axis=1)]
    # Power by the curve's own masses, since the source sampled has another by chance.
    scale = np.sqrt(10 ** (csnr / 10) / (made.mass @ np.square(u)))
    assert abs(db(scale**2)) < 0.25
    got = sent + rng.standard_normal(4000)
    chance = np.exp(-0.5 * np.square(got[:, None] - u))
    decoded = (chance @ made.moment.T / (chance @ made.mass)[:, None]).T
    assert db(1 / np.square(decoded - source).mean()) > TWO_IN_ONE[csnr] - 0.5


ON_CELLS = {5: (11.6, 2.8), 10: (16.5, 4.4), 15: (23.3, 6.0), 20: (31.0, 7.9), 25: (39.6, 10.1), 30: (48.6, 12.3)}


@pytest.mark.parametrize("snr", CSNR)
def test_on_cells_with_white_noise(snr):
    # Levels are given, since a search for them takes longer than all the rest.
    values, spec = normal(60_000), {"device": f"awgn/{snr}", "levels": ms.Levels(count=2)}
    wide = sdr(values, code=ms.ShannonKotelnikov(), **spec)
    assert wide > ON_CELLS[snr][0] - (0.4 if snr < 20 else 1.0)
    assert wide > sdr(values, code=ms.Repetition(planes=2), **spec) + 3
    assert sdr(values, code=ms.ShannonKotelnikov(ratio="2:1"), **spec) > ON_CELLS[snr][1] - 0.3


@pytest.mark.parametrize(
    ("device", "at", "more"), [(IBM, "1 day", 6.5), (IBM, "1 year", 5.7), (PARTIAL.with_read_share(0.3), 0, 7.5)]
)
def test_on_phase_change_cells(device, at, more):
    """Against repetition in as many cells, with the better of two mappers, signs protected."""
    values, spec = normal(60_000), {"device": device, "protect": (ms.Sign(),)}
    plain = max(
        sdr(values, at, code=ms.Repetition(planes=2), mapper=mapper, **spec)
        for mapper in (ms.Linear(), ms.Companded(at=at))
    )
    assert sdr(values, at, code=ms.ShannonKotelnikov(), **spec) > plain + more - 0.5


def test_falls_back_to_repetition_and_says_so():
    values = normal(3000)
    made = {
        always: ms.store({"w": torch.from_numpy(values)}, ms.StorageSpec(
            device="ideal", code=ms.ShannonKotelnikov(always=always)), seed=0)
        for always in (False, True)
    }  # fmt: skip
    items = {always: [r.items for r in m.ledger() if r.stream.endswith("planes")] for always, m in made.items()}
    assert items == {False: [72], True: [144]}
    error = {k: np.square(m.load()["w"].numpy() - values).mean() for k, m in made.items()}
    assert error[False] < 1e-10 < error[True] < 1e-6


@pytest.mark.parametrize("mapper", [ms.Linear(), ms.Companded(), ms.Differential()], ids=lambda m: m.name)
@pytest.mark.parametrize(
    "code", [ms.ShannonKotelnikov(), ms.ShannonKotelnikov(planes=3), ms.ShannonKotelnikov(ratio="2:1", planes=2)]
)
def test_whole_path(tmp_path, code, mapper):
    net = {"w": torch.from_numpy(normal(2001)).reshape(3, 667), "c": torch.full((70,), 0.5), "b": torch.randn(65) * 3}
    for at in ("1 day", "1 year"):
        spec = ms.StorageSpec(device=IBM, code=code, mapper=mapper, protect=(ms.Sign(),))
        made = ms.store(net, spec, seed=3)
        read = made.load(at=at)
        assert torch.equal(read["c"], net["c"])
        for name in ("w", "b"):
            wrong = (read[name] - net[name]).square().mean() / net[name].var()
            assert wrong < (0.15 if code.ratio == "2:1" else 0.05)
        assert torch.equal(made.load(at=at, names=["b"], threads=1)["b"], read["b"])
        two = ms.store(net, spec, seed=3, threads=2).load(at=at, threads=2)
        assert all(torch.equal(two[k], read[k]) for k in net)
        made.save(tmp_path / "w.cells")
        again = ms.StoredModel.open(tmp_path / "w.cells")
        assert all(torch.equal(again.load(at=at)[k], read[k]) for k in net)
        assert again.cells_per_weight == made.cells_per_weight
    wide = mapper.cells_per_symbol * code.planes
    cells = {r.tensor: (r.items, r.cells) for r in made.ledger() if r.kind == "data"}
    assert cells["w"] == (2001, wide * (1001 if code.ratio == "2:1" else 2001))
    assert cells["b"] == (65, wide * (33 if code.ratio == "2:1" else 65))
    assert cells["c"] == (70, 0)


@pytest.mark.parametrize("ratio", ["1:2", "2/1"])
def test_small_and_odd_streams(ratio):
    code = ms.ShannonKotelnikov(ratio=ratio)
    for values in ([], [1.0], [1.0, 2.0], [-1.0, 0.0, 1e30], [1.0, 1.0, 1.0], [0.0, 1e-40]):
        given = torch.tensor(values)
        read = ms.store({"w": given, "x": torch.ones(40)}, ms.StorageSpec(device=IBM, code=code), seed=0).load()["w"]
        assert read.shape == given.shape
        assert torch.isfinite(read).all()
    for kept in (torch.float16, torch.bfloat16, torch.float64):
        assert ms.store({"w": torch.randn(99).to(kept)}, ms.StorageSpec(code=code), seed=0).load()["w"].dtype == kept


def test_settings():
    for bad in ({"ratio": "1:3"}, {"ratio": 2}, {"planes": 1}, {"planes": 17}, {"curve": "hilbert"}, {"always": 1}):
        with pytest.raises(ms.SpecError):
            ms.ShannonKotelnikov(**bad)
    code = ms.ShannonKotelnikov()
    assert code.planes == 2
    assert code.with_planes(5).planes == 5
    assert code.with_planes(1) == ms.Repetition(planes=1)
    assert ms.ShannonKotelnikov(ratio="2/1") == ms.ShannonKotelnikov(ratio="2:1", planes=1)
    # Any side information gives a curve.
    for lo in (-1e30, -3.0, 0.0, 0.4, 7.9, 1e30):
        assert 1 <= PlaneCurve.from_params(PlaneParams(lo, 1.0, Density())).arms <= 64
    net = {"a": torch.randn(400), "b": torch.randn(300)}
    spec = ms.StorageSpec(device=IBM, code=code, allocation=ms.Sensitive(sensitivity={"a": 9.0, "b": 1.0}, mean=2.5))
    assert ms.store(net, spec, seed=0).load(at="1 day")["b"].shape == (300,)
