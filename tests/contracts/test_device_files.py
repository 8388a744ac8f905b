"""What a device file may say: ageing over time, facts, branches; and that a device reads back from its file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tomllib

import memristore as ms
from memristore import DeviceError, devices
from memristore.devices.ageing import AgedAt
from memristore.devices.curve import Curve
from memristore.devices.writing import to_toml

DAY = 86400.0


def flat(value: float) -> Curve:
    return Curve(form="table", values=(value, value))


def aged(*series: AgedAt, t0: float = 10.0) -> devices.Device:
    return devices.get("ideal").replace(
        name="aged", ageing=series, relaxation_t0=t0, state_range=(0.0, 10.0),
        response=Curve(form="poly", values=(0.0, 10.0)), clip=(-math.inf, math.inf),
    )  # fmt: skip


@pytest.mark.parametrize("name", devices.names())
def test_files_read_back(name: str, tmp_path: Path) -> None:
    device = devices.get(name)
    path = tmp_path / "again.toml"
    device.save(str(path))
    assert devices.get(str(path)) == device
    assert tomllib.loads(to_toml(device))["name"] == name


@pytest.mark.parametrize("name", devices.names())
def test_reads_follow_the_model_at_any_time(name: str) -> None:
    """What kernels read against the quadrature: n = 20,000, spread within 4 %, eight standard errors."""
    device = devices.get(name)
    cells = ms.CellArray(device, 20_000, seed=11)
    cells.program(np.full(20_000, 0.6, dtype=np.float32))
    for at in (0.0, 3e4, 1e8):
        mean, std = devices.moments.one_shot(device, at).at_targets(0.6)
        seen = cells.read(at=at).astype(np.float64)
        assert seen.mean() == pytest.approx(
            float(mean), abs=6 * float(std) / math.sqrt(20_000) + 2e-6 * abs(float(mean))
        )
        assert seen.std() == pytest.approx(float(std), rel=0.04, abs=1e-6)


def test_between_times() -> None:
    """Straight lines in ln(1 + t / t0): of the shift and of the variance."""
    device = aged(
        AgedAt(at=100.0, shift=flat(-1.0), spread=flat(0.2)), AgedAt(at=1000.0, shift=flat(-2.0), spread=flat(0.4))
    )

    def moments(at: float) -> tuple[float, float]:
        cells = ms.CellArray(device, 50_000, seed=3)
        cells.program(np.full(50_000, 0.5, dtype=np.float32))
        seen = cells.read(at=at)
        return float(seen.mean()) - 5.0, float(seen.std())

    assert moments(0.0) == (0.0, pytest.approx(0.0, abs=1e-6))
    share = math.log1p(3.0) / math.log1p(10.0)
    middle = 10.0 * math.exp(0.5 * (math.log1p(10.0) + math.log1p(100.0))) - 10.0
    for at, shift, variance in (
        (30.0, -share, share * 0.04), (100.0, -1.0, 0.04), (middle, -1.5, 0.1), (1000.0, -2.0, 0.16), (1e9, -2.0, 0.16),
    ):  # fmt: skip
        found = moments(at)
        assert found[0] == pytest.approx(shift, abs=0.01)
        assert found[1] == pytest.approx(math.sqrt(variance), rel=0.02)


def test_a_store_over_time() -> None:
    """A device whose states shift: reference cells tell the age, and values come back."""
    import torch

    values = torch.linspace(-1, 1, 3000)
    for name in ("sonos-40nm", "nand-mlc", "rram-neurram"):
        spec = ms.StorageSpec(device=name, protect=(ms.Sign(),), retention="1 year")
        made = ms.store({"w": values}, spec, seed=0)
        for at in ("1 hour", "3 days", "1 year"):
            assert float((made.load(at=at)["w"] - values).square().mean()) < 0.02 * float(values.var())


def test_torch_follows_the_kernels() -> None:
    """The surrogate for training reads series as the kernels do: n = 50,000, two per cent of spread."""
    import torch

    from memristore.train.cells import Cells

    device = devices.get("sonos-40nm")
    x = torch.full((50_000,), 0.5)
    theirs = Cells(device, ms.OneShot(), x, torch.Generator().manual_seed(1)).read(2.5 * DAY)
    cells = ms.CellArray(device, 50_000, seed=1)
    cells.program(x.numpy())
    ours = cells.read(at=2.5 * DAY)
    assert float(theirs.mean()) == pytest.approx(float(ours.mean()), abs=0.05 * float(ours.std()))
    assert float(theirs.std()) == pytest.approx(float(ours.std()), rel=0.03)


def test_facts_are_told() -> None:
    facts = {fact.what: fact for fact in devices.get("pcm-hermes-14nm").facts}
    assert facts["endurance"].mark == "sourced"
    assert "writes" in str(facts["endurance"])
    assert devices.get("pcm-hermes-14nm/2-devices").devices_per_cell == 2


FILE = """
schema = "memristore.device"
version = 1
name = "mine"
title = "mine"
technology = "RRAM"
citation = "here"
mark = "computed"
domain = "conductance"
state_range = [1.0, 50.0]
response = { form = "poly", values = [1.0, 49.0] }
"""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("ageing = 3", "list of tables"),
        ("ageing = [{ at = -1.0 }]", "positive time"),
        ("ageing = [{ at = 1.0, width = 2 }]", "unknown key width"),
        ("ageing = [{ at = 10.0 }, { at = 1.0 }]", "must rise"),
        ("ageing = [{ at = 10.0 }]\nrelaxation_mean = [0.0, 1.0]", "not both"),
        ("branch = [0.5, 0.2]", "branch"),
        ("devices_per_cell = 0", "devices_per_cell"),
        ("data_until = -1.0", "data_until"),
        ("facts = 3", "a table of quantities"),
        ('facts = { weight = { low = 1, high = 1, mark = "sourced", source = "x" } }', "unknown quantity"),
        ('facts = { endurance = { low = 2, high = 1, mark = "sourced", source = "x" } }', "low <= high"),
        ('facts = { endurance = { low = 1, high = 1, mark = "guess", source = "x" } }', "unknown mark"),
        ('facts = { endurance = { low = 1, high = 1, mark = "sourced", source = "" } }', "source"),
        ("facts = { endurance = { low = 1 } }", "each takes"),
    ],
)
def test_bad_files(tmp_path: Path, more: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE + more + "\n")
    with pytest.raises(DeviceError, match=message):
        devices.get(str(path))


def test_crosssim_parameters() -> None:
    error = {"enable": True, "model": "NormalProportionalDevice", "magnitude": 0.05}
    noise = {"enable": True, "model": "NormalIndependentDevice", "magnitude": 0.01}
    params = {"Rmin": 1e4, "Rmax": 1e6, "programming_error": error, "read_noise": noise}
    device = ms.from_crosssim(params, name="mine")
    assert device.state_range == (1.0, 100.0)
    assert device.write([0.0, 0.5, 1.0]) == pytest.approx([0.05, 2.525, 5.0])
    assert device.read(0.3) == pytest.approx(1.0)
    milo = {"Rmin": 1e6 / 225, "Rmax": 1e6 / 50, "programming_error": error | {"model": "RRAMMilo"}}
    found = ms.from_crosssim(milo | {"read_noise": noise | {"enable": False}})
    built_in = devices.get("rram-ihp")
    x = np.linspace(0, 1, 11)
    assert np.allclose(found.write(x), built_in.write(x), rtol=1e-6)
    assert np.allclose(found.response(x), built_in.response(x))
    for bad, message in (
        ({"Rmin": 1e4}, "'Rmax' is missing"),
        (params | {"Rmin": 1e6, "Rmax": 1e4}, "Rmin the smaller"),
        (params | {"programming_error": error | {"model": "Clay"}}, "'Clay' cannot be imported"),
        (milo | {"Rmin": 1e3, "read_noise": noise}, "up to 225 uS"),
    ):
        with pytest.raises(DeviceError, match=message):
            ms.from_crosssim(bad)


def test_only_noise_models_are_imported() -> None:
    with pytest.raises(DeviceError, match="no noise model"):
        ms.from_aihwkit(object())
