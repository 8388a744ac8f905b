"""Recipes for reads over a span of time: windows for all of it, bits for the worst of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import memristore as ms
from memristore.array import channel
from memristore.cli import app
from memristore.mapping.mapper import Mapper

HOUR, DECADE = 3600.0, 315360000.0


def laplace(n: int = 100_000) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(12).laplace(size=n).astype(np.float32))


def over_time(spec: ms.StorageSpec, values: torch.Tensor) -> list[float]:
    """SDR after an hour, a month, ten years, of one array, the same cells for every recipe."""
    made = ms.store({"w": values}, spec, seed=5, trace=False)
    errors = [(made.load(at=at)["w"] - values).double().square().mean() for at in ("1 hour", "30 days", "10 years")]
    return [float(10 * torch.log10(values.double().var() / error)) for error in errors]


@pytest.mark.parametrize("mapper", [ms.Linear(), ms.Companded(at="30 days")])
def test_early_reads_gain_more_than_late_ones_lose(mapper: Mapper) -> None:
    """n = 100,000; the same cells and ages throughout, so that differences scatter by 0.02 dB only."""
    values = laplace()
    late, early, both = (
        over_time(ms.StorageSpec(mapper=mapper, retention=retention, first_read=first), values)
        for retention, first in (("10 years", None), ("1 hour", None), ("10 years", "1 hour"))
    )
    assert both[0] > late[0] + 0.12
    assert both[2] > early[2] + 0.04
    assert both[2] > late[2] - 0.15
    assert sum(both) > max(sum(late), sum(early)) - 0.02


def test_bits_are_sized_for_the_end() -> None:
    one, span = ms.StorageSpec(protect=(ms.Sign(),)), ms.StorageSpec(protect=(ms.Sign(),), first_read="1 hour")
    assert one.bit_format(100_000) == span.bit_format(100_000)
    assert span.retention_seconds == DECADE
    assert not ms.store({"w": laplace(500)}, span, seed=0).read(at="10 years").report.beyond_retention


def test_a_span_of_one_time_is_that_time() -> None:
    values = laplace(20_000)
    for protect, code in (((), ms.Uncoded()), ((ms.Sign(), ms.AdaptiveRange()), ms.Residual(planes=2))):
        specs = [ms.StorageSpec(protect=protect, code=code, first_read=first) for first in (None, "10 years")]
        first, again = (ms.store({"w": values}, s, seed=1).load(at="1 day")["w"] for s in specs)
        assert torch.equal(first, again)
    # Cells that do not change give the same windows at all times.
    specs = [ms.StorageSpec(device="awgn/12", first_read=first) for first in (None, 0)]
    first, again = (ms.store({"w": values}, s, seed=1).load(at="1 day")["w"] for s in specs)
    assert torch.equal(first, again)


def test_ages() -> None:
    spec = ms.StorageSpec(retention="10 years")
    assert spec.judged_at == (DECADE,)
    span = ms.StorageSpec(retention="10 years", first_read="1 hour")
    ages = span.judged_at
    assert len(ages) == 5
    assert (ages[0], ages[-1]) == (HOUR, DECADE)
    octaves = [span.cell.log2_age(age) for age in ages]
    assert np.allclose(np.diff(octaves), octaves[1] - octaves[0])
    assert ms.StorageSpec(first_read=0).judged_at[0] == 0.0


def test_windows_are_those_of_the_least_mean_log_error() -> None:
    values, device = laplace(30_000).numpy(), ms.devices.get("pcm-ibm-90nm")
    channels = [channel(device, ms.OneShot(), at) for at in (0.0, HOUR, DECADE)]
    mapper = ms.Companded()
    found = mapper.window_over(values, channels)
    each = [mapper.window(values, c) for c in channels]
    assert found in each
    assert len(set(each)) > 1
    assert mapper.window_over(values, channels[:1]) == each[0]
    constant = np.full(100, 2.0, np.float32)
    assert mapper.window_over(constant, channels).constant


def test_dict_form_and_files(tmp_path: Path) -> None:
    span = ms.StorageSpec(first_read="1 hour", retention="1 year")
    assert ms.StorageSpec.from_dict(json.loads(json.dumps(span.to_dict()))) == span
    assert "reads from 1 hour to 1 year" in repr(span)
    # Recipes written before there was such a field.
    old = {k: v for k, v in span.to_dict().items() if k != "first_read"}
    assert ms.StorageSpec.from_dict(old) == ms.StorageSpec(retention="1 year")
    made = ms.store({"w": laplace(3000)}, span, seed=0)
    made.save(tmp_path / "w.cells")
    again = ms.StoredModel.open(tmp_path / "w.cells")
    assert again.spec == span
    assert torch.equal(again.load(at="1 day")["w"], made.load(at="1 day")["w"])
    torch.save({"w": laplace(3000)}, tmp_path / "w.pt")
    words = ["store", str(tmp_path / "w.pt"), "-o", str(tmp_path / "c.cells"), "--first-read", "1 hour", "--json", "-"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["spec"]["first_read"] == "1 hour"


@pytest.mark.parametrize("bad", ["soon", -1.0, math.nan, "20 years"])
def test_what_is_refused(bad: object) -> None:
    with pytest.raises(ms.SpecError):
        ms.StorageSpec(retention="10 years", first_read=bad)
