"""Automatic choice of a recipe: does what is asked, keeps what it predicts, and says why."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save_file
from typer.testing import CliRunner

import memristore as ms
from memristore.cli import app
from memristore.limits import Gaussian, Laplacian, capacity, opta
from memristore.prediction import automatic


def measured(values: np.ndarray, spec: ms.StorageSpec) -> tuple[float, float]:
    made = ms.store({"w": torch.from_numpy(values)}, spec, seed=4, trace=False)
    read = made.load(at=spec.retention)["w"].numpy()
    error = np.square(read - values, dtype=np.float64).mean()
    return float(10 * np.log10(values.var(dtype=np.float64) / error)), made.cells_per_weight


@pytest.mark.parametrize(
    ("device", "source", "wanted"),
    [
        ("pcm-ibm-90nm", Gaussian(), {"cells": 2.2}),
        ("pcm-partial-reset", Laplacian(), {"sdr": 20.0}),
        ("awgn/12", Laplacian(), {}),
    ],
    ids=["cells", "sdr", "best"],
)
def test_choices_keep_what_they_promise(device: str, source: Gaussian | Laplacian, wanted: dict[str, float]) -> None:
    """131,072 values in one array of another key: one sigma 0.05 dB, on pcm-ibm-90nm 0.1 dB; 0.3 dB are allowed."""
    choice = ms.auto(source, device, "1 year", **wanted)
    best = choice.best
    assert choice.spec == best.spec
    assert best in choice.candidates
    values = source.sample(automatic.DRAWN).astype(np.float32)
    sdr, cells = measured(values, choice.spec)
    assert abs(best.sdr_db - sdr) < 0.3
    assert best.cells_per_value == pytest.approx(cells, abs=1e-4)
    others = choice.candidates
    if "cells" in wanted:
        able = [c for c in others if c.cells_per_value <= wanted["cells"]]
        assert best.sdr_db == max(c.sdr_db for c in able)
        assert cells <= wanted["cells"]
    elif "sdr" in wanted:
        assert best.cells_per_value == min(c.cells_per_value for c in others if c.sdr_db >= wanted["sdr"])
        assert best.sdr_db >= wanted["sdr"]
    else:
        assert best.efficiency == max(c.efficiency for c in others)
    assert len(others) == 42
    limit = opta(source, capacity(choice.spec.cell, 31536000.0).bits, best.cells_per_value)
    assert choice.limit_db == pytest.approx(limit)
    assert all(c.efficiency < 1 for c in others)
    # The digital line stands at the same cells or the same SDR.
    assert choice.digital is not None
    if "sdr" in wanted:
        assert choice.digital.sdr_db == pytest.approx(wanted["sdr"], abs=0.1)
    else:
        assert choice.digital.cells_per_value == pytest.approx(best.cells_per_value, rel=0.02)
    assert choice.digital.efficiency > 0.8


def test_it_says_why() -> None:
    values = Gaussian().sample(21_200)
    choice = ms.auto(values, "awgn/12", cells=3.0)
    why = choice.why.splitlines()
    assert why[0].startswith(choice.best.words)
    assert "most SDR with at most 3 cells per value" in why[0]
    assert [line.split()[0] for line in why[1:]] == ["With", "With", "With", "The"]
    assert why[0] in repr(choice)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(choice.table())
    text = console.export_text()
    assert all(f"{c.cells_per_value:.3f}" in text for c in choice.candidates)
    again = ms.auto(values, ms.devices.get("awgn/12"), cells=3.0, threads=1)
    assert again.to_dict() == choice.to_dict()
    assert ms.StorageSpec.from_dict(json.loads(json.dumps(choice.to_dict()))["spec"]) == choice.spec


def test_what_is_refused() -> None:
    values = Gaussian().sample(21_200)
    for arguments, message in (
        ({"cells": 2.0, "sdr": 20.0}, "not both"),
        ({"sdr": 150.0}, "reaches 150 dB"),
        ({"sdr": -1.0}, "sdr"),
        ({"cells": math.nan}, "cells"),
        ({"at": "soon"}, "soon"),
    ):
        with pytest.raises(ms.SpecError, match=message):
            ms.auto(values, "awgn/12", **arguments)
    for bad in (np.zeros(50), [], [1.0, math.inf, 2.0], [math.nan, 1.0], ["a", "b"]):
        with pytest.raises(ms.TensorError):
            ms.auto(bad, "awgn/12")
    with pytest.raises(ms.SpecError, match="device"):
        ms.auto(values, 12)


def test_command(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    state = {"a": 0.1 * rng.standard_normal((100, 200)), "b": 7 * rng.standard_normal((30, 40)), "bias": np.ones(30)}
    save_file({name: values.astype(np.float32) for name, values in state.items()}, tmp_path / "net.safetensors")
    where = tmp_path / "choice.json"
    run = CliRunner().invoke(
        app, ["auto", str(tmp_path / "net.safetensors"), "--device", "awgn/12", "--cells", "2.2", "--json", str(where)]
    )
    assert run.exit_code == 0, run.output
    assert "most SDR with at most 2.2 cells per value" in run.stdout
    found = json.loads(where.read_text())
    assert (found["schema"], found["version"]) == ("memristore.auto", 1)
    assert found["best"]["cells_per_value"] <= 2.2 * 1.001
    assert len(found["candidates"]) == 42
    # The document is a recipe that other commands take.
    words = ["store", str(tmp_path / "net.safetensors"), "--spec", str(where), "--out", str(tmp_path / "net.cells")]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    for words, message in (
        (["auto"], "give a model, or --source"),
        (["auto", "digits", "--source", "gaussian"], "give a model, or --source"),
        (["auto", str(tmp_path / "net.safetensors"), "--device", "awgn/12", "--cells", "0.2"], "no recipe takes"),
    ):
        run = CliRunner().invoke(app, words)
        assert run.exit_code == 2
        assert message in run.stderr
