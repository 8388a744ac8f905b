"""Limits of a device: rows, pictures, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import memristore as ms
from memristore import devices
from memristore.cli import app
from memristore.limits import Gaussian, Laplacian, capacity, opta, report


def test_rows() -> None:
    device = devices.get("awgn/20")
    rows = report.rows(device, (0, "1 year"), (0.5, 2.0), (Gaussian(), Laplacian(std=0.1)))
    assert len(rows) == 8
    assert [row["at_seconds"] for row in rows[::4]] == [0.0, 31536000.0]
    for row in rows:
        source = Gaussian() if row["source"]["type"] == "gaussian" else Laplacian()
        assert row["bits_per_value"] == row["capacity_bits"] * row["cells_per_value"]
        assert row["sdr_db"] == pytest.approx(opta(source, row["capacity_bits"], row["cells_per_value"]))
        assert 2 < row["capacity_bits"] < 4
    gaussian = [row for row in rows if row["source"]["type"] == "gaussian"]
    assert all(row["cells_for_sdr"] == pytest.approx(math.log2(10) / row["capacity_bits"]) for row in gaussian)
    with pytest.raises(ms.SpecError, match="at least one time"):
        report.rows(device, ())


def test_command(tmp_path: Path) -> None:
    save_file({"w": Laplacian().sample(20_000).reshape(100, 200).astype(np.float32)}, tmp_path / "net.safetensors")
    words = ["limits", "--device", "awgn/20", "--at", "0", "--at", "1 year", "--cells", "1", "--cells", "2"]
    words += ["--source", "laplacian", "--source", str(tmp_path / "net.safetensors"), "--sdr", "15"]
    words += ["--plot", str(tmp_path / "limits.png")]
    run = CliRunner().invoke(app, [*words, "--json", "-"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert (found["schema"], found["version"], found["sdr_db"]) == ("memristore.limits", 1, 15.0)
    assert len(found["rows"]) == 8
    by_word = {row["source"]["word"]: row["sdr_db"] for row in found["rows"] if row["cells_per_value"] == 2}
    formula, file = by_word.values()
    assert file == pytest.approx(formula, abs=0.3)
    assert (tmp_path / "limits.png").read_bytes()[:4] == b"\x89PNG"
    text = CliRunner().invoke(app, words).stdout
    assert "laplacian values on awgn/20: best SDR in dB" in text
    assert "cells/value for 15 dB" in text


def test_noiseless_cells() -> None:
    run = CliRunner().invoke(app, ["limits", "--device", "ideal", "--at", "0", "--source", "gaussian", "--json", "-"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["rows"]


@pytest.mark.parametrize(("device", "low", "high"), [("awgn/44", 7.0, 7.06), ("awgn/50", 7.9, 8.06)])
def test_cells_that_tell_more_targets_apart_have_more_of_them(device: str, low: float, high: float) -> None:
    """log2 of the range over sqrt(2 pi e) deviations, and a little for the ends: 7.05 and 8.05 bits."""
    assert low < capacity(devices.get(device), 0.0).bits < high


def test_wrong_words() -> None:
    for words, message in (
        (["--source", "cauchy"], "no source is called 'cauchy'"),
        (["--source", "absent.safetensors"], "there is no such file"),
        (["--device", "clay"], "no device is called 'clay'"),
        (["--cells", "0"], "cells_per_value must be"),
        (["--write", "hammer"], "no way to write is called 'hammer'"),
    ):
        run = CliRunner().invoke(app, ["limits", "--at", "0", *words])
        assert run.exit_code == 2
        assert message in run.stderr
