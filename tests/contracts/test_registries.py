"""Every device, code and mapper keeps its promises; a new one is tested by existing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import memristore as ms
from memristore import devices
from memristore.allocate import allocators
from memristore.codes import bit_codes, codes
from memristore.compress import compressors
from memristore.mapping import mappers
from memristore.protect import protections

REGISTRIES = {"codes": codes, "bit codes": bit_codes, "mappers": mappers, "protections": protections,
              "compressors": compressors, "allocators": allocators}  # fmt: skip


@pytest.mark.parametrize("kind", REGISTRIES)
def test_parts_go_to_dicts_and_back(kind):
    registry = REGISTRIES[kind]
    assert registry.names()
    for name in registry.names():
        part = registry[name](**registry[name].examples[0])
        data = part.to_dict()
        assert data["type"] == name
        assert registry.from_dict(data) == part
        with pytest.raises(ms.SpecError, match="unknown key 'bogus'"):
            registry.from_dict(data | {"bogus": 1})
        with pytest.raises(ms.SpecError, match="version"):
            registry.from_dict(data | {"version": 99})
        assert type(part).__doc__
    with pytest.raises(ms.SpecError, match="there are"):
        registry["absent"]
    with pytest.raises(ms.SpecError, match="'type'"):
        registry.from_dict({"kind": "absent"})


@pytest.mark.parametrize("name", devices.names())
def test_devices_are_complete_data(name):
    device = devices.get(name)
    assert device.name == name
    assert device.citation
    assert device.title
    assert devices.device_from_dict(device.to_dict()) == device
    x = np.linspace(0, 1, 101, dtype=np.float32)
    for curve in (device.response, device.write, device.cell, device.drift_mean, device.drift_std, device.read):
        ours = curve(x)
        assert np.all(np.isfinite(ours))
        # float32 kernels: 1e-5 of the curve's own size.
        assert np.allclose(curve.core()(x), ours, rtol=2e-5, atol=1e-5 * max(1e-3, float(np.abs(ours).max())))
    assert np.all(device.write(x) >= 0)
    assert np.all(device.cell(x) >= 0)
    for at in (0.0, 1.0, 86400.0, 3.15e8):
        assert math.isfinite(device.log2_age(at))
        assert device.read_scale(at) >= 0
        device.read_time(at)


def combinations():
    """Every code and mapper on every device; its variants, which are of one kind, with the plainest ones."""
    for name in (n for n in devices.names() if not n.endswith("all-levels")):
        for mapper, code in itertools.product(mappers.names(), codes.names()):
            if "/" not in name or (mapper, code) == ("linear", "uncoded"):
                yield name, mapper, code


@pytest.mark.parametrize(("name", "mapper", "code"), list(combinations()))
def test_every_code_and_mapper_stores_on_every_device(name, mapper, code):
    values = torch.linspace(-1, 1, 2000)
    spec = ms.StorageSpec(device=name, mapper=mappers[mapper](), code=codes[code](), retention="1 year")
    made = ms.store({"w": values}, spec, seed=0)
    wide = mappers[mapper].cells_per_symbol * codes[code]().planes
    (row,) = [r for r in made.ledger() if r.kind == "data"]
    assert row.cells == wide * values.numel()
    read = made.load(at="1 day")["w"]
    # Storing must beat forgetting: error below the variance of the values.
    assert (read - values).square().mean() < 0.7 * values.var()
    assert torch.equal(made.load(at="1 day", names=["w"])["w"], read)


def test_a_response_that_is_not_monotone_is_refused_by_linear_maps():
    with pytest.raises(ms.SpecError, match="not monotone"):
        ms.store({"w": torch.randn(50)}, ms.StorageSpec(device="pcm-partial-reset/all-levels"), seed=0)


def test_device_errors(tmp_path):
    with pytest.raises(ms.DeviceError, match="no device is called 'x'"):
        devices.get("x")
    with pytest.raises(ms.DeviceError, match="no variant"):
        devices.get("pcm-partial-set/device-9")
    with pytest.raises(ms.DeviceError, match="signal-to-noise"):
        devices.get("awgn/loud")
    path = tmp_path / "mine.toml"
    path.write_text("name = [")
    with pytest.raises(ms.DeviceError, match="TOML"):
        devices.get(str(path))
    path.write_text('schema = "memristore.device"\nversion = 1\nname = "mine"\nbogus = 1\n')
    with pytest.raises(ms.DeviceError, match="unknown key bogus"):
        devices.get(str(path))
    with pytest.raises(ms.DeviceError, match="cannot read"):
        devices.get(str(tmp_path / "absent.toml"))


def test_a_users_device_file_is_enough(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        """
schema = "memristore.device"
version = 1
name = "mine"
title = "A device of mine"
technology = "RRAM"
citation = "measured here"
mark = "computed"
domain = "conductance"
state_range = [1.0, 50.0]
clip = [0.0, inf]
[response]
form = "table"
values = [1.0, 10.0, 30.0, 50.0]
[write]
form = "poly"
values = [0.5, 1.0]
"""
    )
    values = torch.randn(5000)
    spec = ms.StorageSpec(device=str(path), protect=(ms.Sign(),))
    made = ms.store({"w": values}, spec, seed=0)
    assert ms.StorageSpec.from_dict(spec.to_dict()) == spec
    made.save(tmp_path / "w.cells")
    path.unlink()
    again = ms.StoredModel.open(tmp_path / "w.cells")
    assert torch.equal(again.load()["w"], made.load()["w"])
    assert (made.load()["w"] - values).square().mean() < 0.02


def test_program_and_verify_needs_pulse_data():
    with pytest.raises(ms.SpecError, match="no pulse data"):
        ms.StorageSpec(device="pcm-partial-reset", write=ms.ProgramAndVerify())
    spec = ms.StorageSpec(
        device="pcm-partial-reset",
        write=ms.ProgramAndVerify(
            start=4.96, step=0.5, spread=0.2, noise=0.02, verify_std=0.01, band=0.03, max_pulses=50
        ),
    )
    values = torch.randn(3000)
    read = ms.store({"w": values}, spec, seed=0).load()["w"]
    assert (read - values).square().mean() < 0.02


@pytest.mark.parametrize(
    "bad",
    [
        {"device": 3},
        {"code": "uncoded"},
        {"protect": ms.Sign},
        {"decoder": "guess"},
        {"compensation": "sometimes"},
        {"retention": "soon"},
        {"allocation": ms.PerLayer(mean=2.0)},
        {"allocation": 2},
    ],
    ids=str,
)
def test_bad_specs(bad):
    with pytest.raises((ms.SpecError, ms.DeviceError)):
        ms.StorageSpec(**bad)


def test_unknown_keys_of_a_spec_raise():
    with pytest.raises(ms.SpecError, match="unknown key 'devise'"):
        ms.StorageSpec.from_dict({"devise": "ideal"})
