"""Devices made of tables of measurements: known cells are found again, real ones carry what is published.

Synthetic cells have normal spreads and fixed seeds. Standard errors: of a spread from n reads 1 / sqrt(2 n), of a
spread between c cells 1 / sqrt(2 c). Tolerances are about four of them and more, so a false alarm among all comparisons
has a probability below 1e-2 for another seed, and none for this one.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import memristore as ms
from memristore import Device, DeviceError, devices, fit_measurements
from memristore.cli import app
from memristore.evaluate.device_plots import measured
from memristore.limits import capacity

VOLTAGES = np.linspace(1.0, 2.0, 21)


PCM = Path(os.environ.get("MEMRISTORE_PCM", Path(__file__).parents[3] / "shared" / "data" / "pcm"))


def partial_reset() -> Path:
    """The raw table of the measured array, where the data folder is."""
    path = PCM / "partial_reset_raw.csv"
    if not path.exists():
        pytest.skip("no measurements: name the folder that holds partial_reset_raw.csv in MEMRISTORE_PCM")
    return path


def table(n: int = 400, **columns: object) -> pd.DataFrame:
    """Log-resistances that rise from 4 to 6 after a dip, spread 0.05."""
    rng = np.random.default_rng(5)
    v = np.repeat(VOLTAGES, n)
    mean = np.where(v < 1.3, 4.3 - (v - 1.0), 4.0 + 2.0 * (v - 1.3) / 0.7)
    return pd.DataFrame({"volt": v, "r_ohm": 10 ** (mean + 0.05 * rng.standard_normal(v.size)), **columns})


def test_measured_array() -> None:
    found = Device.from_measurements(partial_reset())
    assert capacity(found, 0.0).bits == pytest.approx(2.64, abs=0.03)
    assert found.domain == "log-resistance"
    assert found.samples == 380
    # The steep branch of the array, from about where the plateau ends.
    assert 1.0 + 1.95 * found.branch[0] == pytest.approx(2.3, abs=0.15)
    assert found.branch[1] == 1.0
    built_in = devices.get("pcm-partial-reset/all-levels")
    x = np.linspace(0, 1, 40)
    assert np.abs(found.response(x) - built_in.response(x)).max() < 0.02


def test_levels_spread_and_branch(tmp_path: Path) -> None:
    fit = fit_measurements(table(), name="mine", technology="RRAM")
    assert np.allclose(fit.levels.within, 0.05, rtol=4 / math.sqrt(800) + 0.01)
    assert (
        np.abs(fit.levels.mean - np.where(VOLTAGES < 1.3 - 1e-9, 5.3 - VOLTAGES, 4 + 2 * (VOLTAGES - 1.3) / 0.7)).max()
        < 0.015
    )
    low, high = fit.to_dict()["branch"]
    assert (low, high) == (pytest.approx(1.3), pytest.approx(2.0))
    assert fit.device.cell.form == "zero"
    # Linear maps use the branch; a store comes back better than forgetting.
    values = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    import torch

    made = ms.store({"w": torch.from_numpy(values)}, ms.StorageSpec(device=fit.device, protect=(ms.Sign(),)), seed=0)
    assert float((made.load()["w"] - torch.from_numpy(values)).square().mean()) < 0.1
    path = tmp_path / "mine.toml"
    fit.device.save(str(path))
    assert devices.get(str(path)) == fit.device
    with pytest.raises(DeviceError, match=r"\.toml"):
        fit.device.save(str(tmp_path / "mine.txt"))


def test_gross_errors_do_not_decide() -> None:
    """Five reads in a thousand a hundred times too high: a plain spread would be 0.15."""
    data = table(1000)
    data.loc[::200, "r_ohm"] *= 100.0
    fit = fit_measurements(data)
    assert int(fit.levels.outliers.sum()) == pytest.approx(len(data) / 200, abs=5)
    assert np.median(fit.levels.within) == pytest.approx(0.05, rel=0.12)
    assert "outliers" in fit.device.notes


@pytest.mark.parametrize("repeats", [1, 6])
def test_cells_apart_from_writes(repeats: int) -> None:
    """120 cells with offsets of 0.12, writes of 0.04; written once or six times at each level."""
    rng = np.random.default_rng(8)
    offsets = 0.12 * rng.standard_normal(120)
    v, cell = (a.ravel() for a in np.meshgrid(VOLTAGES, np.repeat(np.arange(120), repeats), indexing="ij"))
    state = 4 + 2 * (v - 1) + offsets[cell] + 0.04 * rng.standard_normal(v.size)
    names = np.array([f"cell {k}" for k in cell])
    fit = fit_measurements(pd.DataFrame({"v": v, "cell": names, "r_ohm": 10**state}))
    assert np.allclose(fit.levels.between, offsets.std(ddof=1), rtol=0.15)
    assert fit.levels.within.mean() == pytest.approx(0.04, rel=0.12)
    assert fit.device.cell
    pooled = fit_measurements(pd.DataFrame({"v": v, "r_ohm": 10**state}))
    assert pooled.levels.within.mean() == pytest.approx(math.hypot(0.04, offsets.std()), rel=0.1)


@pytest.mark.parametrize("named", [True, False])
def test_drift(named: bool) -> None:
    """Conductances that fall as (1 + t / 10 s)^-nu, nu from N(0.06, 0.01), reads with 0.5 % noise."""
    rng = np.random.default_rng(9)
    cells, times = 200, np.array([10.0, 1e2, 1e3, 1e4, 1e5])
    targets = np.linspace(2.0, 20.0, 7)
    g0 = targets[:, None] + 0.3 * rng.standard_normal((7, cells))
    nu = 0.06 + 0.01 * rng.standard_normal((7, cells))
    g = g0[:, :, None] * (1 + times / 10.0) ** -nu[:, :, None]
    g = g * (1 + 0.005 * rng.standard_normal(g.shape))
    level, cell, time = (a.ravel() for a in np.meshgrid(targets, np.arange(cells), times, indexing="ij"))
    data = pd.DataFrame({"target_uS": level, "g_uS": g.ravel(), "time_s": time})
    if named:
        data["cell"] = cell
    found = fit_measurements(data)
    device, fit = found.device, found.levels
    u = np.linspace(0.05, 0.95, 7)
    assert np.allclose(device.drift_mean(u), 0.06, atol=0.004)
    assert device.drift_std(u).mean() == pytest.approx(0.01, rel=0.25 if named else 0.6)
    assert device.drift_t0 == 10.0
    assert device.data_until == 1e5
    assert np.allclose(fit.mean, targets, rtol=0.03)
    if named:
        assert np.hypot(fit.within, fit.between).mean() == pytest.approx(0.3, rel=0.15)
        assert (fit.read / targets).mean() == pytest.approx(0.005, rel=0.2)
    # What the device does is what was measured: mean within 1 %, spread within 20 %.
    for k, at in ((0, 10.0), (4, 1e5)):
        cellarray = ms.CellArray(device, 20_000, seed=2)
        cellarray.program(np.full(20_000, 0.5, dtype=np.float32))
        read = cellarray.read(at=at)
        assert read.mean() == pytest.approx(g[3, :, k].mean(), rel=0.015)
        assert read.std() == pytest.approx(g[3, :, k].std(), rel=0.2)
    assert len(measured(found).axes) == 4


def test_states_that_move_the_other_way_are_tables() -> None:
    rng = np.random.default_rng(10)
    times = np.array([1.0, 10.0, 100.0])
    level, cell, time = (a.ravel() for a in np.meshgrid(np.linspace(5, 25, 5), np.arange(100), times, indexing="ij"))
    g = level * (1 + 0.02 * np.log10(time) * 2) + 0.2 * rng.standard_normal(level.size)
    fit = fit_measurements(pd.DataFrame({"x": level, "g_uS": g, "cell": cell, "time": time}))
    assert len(fit.device.ageing) == 3
    assert "tables" in fit.device.notes
    cells = ms.CellArray(fit.device, 20_000, seed=3)
    cells.program(np.full(20_000, 0.5, dtype=np.float32))
    assert cells.read(at=100.0).mean() / cells.read(at=0.0).mean() == pytest.approx(1.08, abs=0.03)


def test_many_write_parameters_are_binned() -> None:
    rng = np.random.default_rng(11)
    x = rng.random(20_000)
    fit = fit_measurements(pd.DataFrame({"x": x, "g_uS": 10 * x + 0.3 * rng.standard_normal(x.size)}))
    assert fit.levels.parameter.size <= 128
    assert fit.levels.within.mean() == pytest.approx(0.3, rel=0.1)
    assert "bins" in fit.device.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot|can be read"),
        ("v,r_ohm\n", "no rows"),
        ("v\n1\n2\n", "no column|can be read"),
        ("v,r_ohm\n1,10\n1,nan\n", "row 3"),
        ("v,r_ohm\n1,10\n1,-5\n", "row 3"),
        ("v,r_ohm\n1,10\n1,inf\n", "row 3"),
        ("v,r_ohm\n1,10\nx,10\n", "row 3"),
        ("v,r_ohm\n1,10\n1,11\n1,12\n", "two write parameters"),
        ("v,r_ohm\n1,10\n1,11\n1,12\n2,10\n", "1 reads at write parameter 2"),
        ("v,r_ohm\n1,10\n1,10\n1,10\n2,10\n2,10\n2,10\n", "do not depend"),
        ("v,r_ohm,time_s\n1,10,5\n1,11,5\n2,12,5\n2,13,5\n", "one time"),
        ("v,r_ohm,time_s\n1,10,-5\n1,11,5\n2,12,5\n2,13,5\n", "row 2"),
        ("v,r_ohm,cell\n1,10,a\n1,11,\n", "names no cell"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DeviceError, match=message):
        fit_measurements(path)


def test_bad_names(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="can be read"):
        fit_measurements(tmp_path / "absent.csv")
    with pytest.raises(DeviceError, match="no column 'amp'"):
        fit_measurements(table(), read="amp")
    with pytest.raises(DeviceError, match="unknown domain"):
        fit_measurements(table(), domain="voltage")


def test_same_table_same_device_from_any_source(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    table().to_csv(path, index=False, sep=";")
    named = fit_measurements(path, name="a", citation="c", title="t").device
    frame = fit_measurements(table(), name="a", citation="c", title="t").device
    assert np.allclose(named.response.values, frame.response.values, rtol=1e-6)
    assert named.name == "a"


def test_command(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    table(50).to_csv(path, index=False)
    words = [
        "measure",
        path,
        "--out",
        tmp_path / "my.toml",
        "--plot",
        tmp_path / "my.png",
        "--json",
        tmp_path / "my.json",
    ]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "bits per cell" in result.stdout
    found = json.loads((tmp_path / "my.json").read_text())
    assert (found["schema"], len(found["levels"])) == ("memristore.measure", 21)
    assert (tmp_path / "my.png").stat().st_size > 10_000
    shown = CliRunner().invoke(app, ["devices", str(tmp_path / "my.toml")])
    assert "Measured cells of cells.csv" in shown.stdout
    wrong = CliRunner().invoke(app, ["measure", str(tmp_path / "none.csv")])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("error: ")
