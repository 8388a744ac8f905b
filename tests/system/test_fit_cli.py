"""The search for the cheapest recipe on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import memristore as ms
from memristore.cli import app
from memristore.cli.fit import _finetune, _task
from memristore.evaluate import tasks
from memristore.evaluate.weights import read_weights, write_weights
from memristore.train import prune_and_finetune

YEAR = "1 year"


def test_command_line(tmp_path: Path) -> None:
    file, out, plot, document = (tmp_path / name for name in ("net.safetensors", "spec.json", "fit.png", "fit.json"))
    write_weights(nn.Linear(48, 48).state_dict(), file)
    words = ["fit", str(file), "--retention", YEAR, "--no-baselines", "--trials", "2"]
    options = ["--out", str(out), "--plot", str(plot), "--json", str(document)]
    result = CliRunner().invoke(app, [*words, "--budget", "1.5", *options])
    assert result.exit_code == 0, result.output
    assert "cells per weight" in result.output
    assert plot.exists()
    assert json.loads(document.read_text())["cells_per_weight"] <= 1.5
    stored = CliRunner().invoke(app, ["store", str(file), "--spec", str(out), "--out", str(tmp_path / "net.cells")])
    assert stored.exit_code == 0, stored.output
    for wrong, message in (
        ([], "--max-drop"),
        (["--max-drop", "1"], "--budget"),
        (["--budget", "1", "--max-drop", "1"], "one of them"),
        (["--budget", "1", "--holdout", "0.5"], "held out"),
        (["--budget", "1", "--network", "resnet32"], "give --task"),
        (["--budget", "1", "--goal", "0.5"], "go with --finetune"),
        (["--budget", "1", "--rounds", "2"], "go with --finetune"),
    ):
        refused = CliRunner().invoke(app, [*words, *wrong])
        assert refused.exit_code == 2
        assert message in refused.output


def test_a_file_of_a_task_with_images_held_out_on_the_command_line(tmp_path: Path) -> None:
    """The file's weights are judged and stored, not those of the task's own network."""
    task = tasks.get("digits").load()
    clean = [task.metric(task.model)]
    file, document, kept = tmp_path / "pruned.safetensors", tmp_path / "fit.json", tmp_path / "kept.safetensors"
    pruned = prune_and_finetune(task.model, ms.Prune(sparsity=0.8), lambda model, step: None, steps=1)
    write_weights(pruned.state_dict(), file)
    clean.append(task.metric(pruned))
    assert clean[1] < clean[0]
    words = ["fit", str(file), "--task", "digits", "--budget", "1", "--holdout", "0.25", "--images", "50"]
    words += ["--trials", "1", "--no-baselines", "--json", str(document), "--weights", str(kept)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "the search did not see" in " ".join(result.output.split())
    found = json.loads(document.read_text())
    # Accuracies are shares of 149 and of 447 images.
    means = (found["holdout"]["results"][0]["mean"], found["rows"][0]["results"][0]["mean"])
    for mean, count in zip(means, (149, 447), strict=True):
        assert mean * count == pytest.approx(round(mean * count))
    assert 149 * found["holdout"]["clean"] + 447 * found["rows"][0]["clean"] == pytest.approx(596 * clean[1])
    assert sum(int((t == 0).sum()) for t in read_weights(kept).values() if t.dim() > 1) > 0.7 * 2000


def test_the_tasks_own_network_teaches(tmp_path: Path) -> None:
    own = tasks.get("digits").load()
    file = tmp_path / "pruned.safetensors"
    pruned = prune_and_finetune(own.model, ms.Prune(sparsity=0.8), lambda model, step: None, steps=1)
    write_weights(pruned.state_dict(), file)
    given, teaching = _task(str(file), "digits", None, None, needed=True)
    assert given is not None
    settings = _finetune(str(file), teaching, 64, 1, None, 0)
    assert settings is not None
    assert settings.teacher is not None
    assert own.metric(settings.teacher) == own.metric(own.model) > own.metric(given.model)
    # A task's network by itself is its own teacher.
    given, teaching = _task("digits", None, None, None, needed=True)
    assert given is teaching


def test_a_file_of_another_network_than_the_tasks(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    write_weights(nn.Linear(48, 48).state_dict(), file)
    holed = tmp_path / "holed.safetensors"
    write_weights({"weight": torch.tensor([[1.0, torch.nan]])}, holed)
    for given, task, message in (
        (file, ["--task", "digits"], "do not fit the network of digits"),
        (tmp_path / "absent.pt", ["--task", "digits"], "no such file"),
        (tmp_path / "absent.pt", [], "no such file, nor a task"),
        ("cifra10", [], "no such file, nor a task"),
        ("digits", ["--task", "digits"], "is a task itself"),
        (file, ["--task", "letters"], "no task is called 'letters'"),
        (holed, ["--task", "digits"], "weight holds values that are not finite"),
    ):
        refused = CliRunner().invoke(app, ["fit", str(given), *task, "--max-drop", "2"])
        assert refused.exit_code == 2
        assert message in " ".join(refused.output.split())
