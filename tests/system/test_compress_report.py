"""What `compression_report` and `memristore compress` say is what streams hold and decoders give."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import memristore as ms
from memristore.cli import app
from memristore.compress import compressors
from memristore.evaluate.rates import compressed, rates
from memristore.evaluate.sdr import Sdr


class Mixed(nn.Module):
    """Linear, conv, depthwise, embedding, tied and one-dimensional tensors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(200, 24)
        self.conv = nn.Conv2d(8, 16, 3)
        self.depthwise = nn.Conv2d(32, 32, 3, groups=32)
        self.norm = nn.BatchNorm2d(32)
        self.linear = nn.Linear(64, 48)
        self.head = nn.Linear(24, 200, bias=False)
        self.head.weight = self.embedding.weight


PARTS = [
    pytest.param(compressors[name].from_dict({"type": name, **example}), id=f"{name}-{i}")
    for name in compressors.names()
    for i, example in enumerate(compressors[name].examples)
]


@pytest.mark.parametrize("part", PARTS)
def test_the_report_is_what_a_decoder_gets_and_gives(part: ms.compress.Compressor) -> None:
    model = Mixed()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    prepared = compressed(model, part)
    rows = rates(model, prepared)
    total = rows[-1]
    assert total.analog_values == sum(len(s) for s in prepared.payload.analog_streams())
    assert sum(total.bits.values()) == sum(len(s) for s in prepared.payload.bit_streams())
    # Streams are all that the decoder has: cells that are ideal give what the report says.
    stored = prepared.program(seed=0)
    read = stored.load()
    distinct = {name: tensor for name, tensor in model.state_dict().items() if name != "head.weight"}
    sdr = Sdr(distinct)(read)
    assert min(sdr, 60) == pytest.approx(min(total.sdr_db, 60), abs=0.05)
    assert read["head.weight"] is read["embedding.weight"] or torch.equal(read["head.weight"], read["embedding.weight"])
    assert torch.equal(read["norm.running_mean"], before["norm.running_mean"])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert read[name].shape == tensor.shape
    assert {row.tensor for row in rows} == set(before) - {"head.weight"} | {"total"}
    assert total.weights == stored.weights == sum(row.weights for row in rows[:-1])
    # Both the compressors' promises: less than fp32, and better than nothing (magnitude pruning of 90 % included).
    assert total.bits_per_weight <= 32.1 + 40 * (part.name == "identity")
    assert total.sdr_db > 0.2  # of random weights, of which low ranks keep little


def test_entropy_and_exact_rows() -> None:
    model = Mixed()
    plain, coded = (ms.compression_report(model, ms.Uniform(sdr=20.0), entropy=e)[-1] for e in (False, True))
    assert coded.bits_per_weight < plain.bits_per_weight
    assert coded.sdr_db == plain.sdr_db
    rows = ms.compression_report(model.state_dict(), ms.Raw())
    assert all(math.isinf(row.sdr_db) for row in rows)
    assert rows[-1].to_dict()["sdr_db"] is None
    assert rows[-1].bits_per_weight == pytest.approx(32, abs=0.1)
    assert ms.compression_report({"w": torch.ones(3)}, [])[-1].analog_values == 3
    with pytest.raises(ms.SpecError):
        ms.compression_report(model, "quantize")
    state = {"counts": torch.arange(4), "mask": torch.tensor([float("nan"), 1.0]), "w": torch.randn(9)}
    with pytest.raises(ms.TensorError):
        ms.compression_report(state, ms.Raw())


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["compress", *map(str, words)])
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_the_command(tmp_path: Path) -> None:
    listed = json.loads(run("--list", "--json", "-"))
    assert [row["name"] for row in listed["compressors"]] == compressors.names()
    assert all(row["what"] and row["source"] for row in listed["compressors"])
    assert "low-rank" in run("--list")
    path = tmp_path / "w.safetensors"
    save_file({k: v.clone() for k, v in Mixed().state_dict().items()}, path)
    words = (path, "--method", "rate-distortion", "--set", 'sdr=[["*.bias", 40], ["*", 18]]', "--set", "states=4")
    found = json.loads(run(*words, "--json", "-"))
    assert found["schema"] == "memristore.compress"
    assert found["compress"][0]["states"] == 4
    assert 18 <= found["rows"][-1]["sdr_db"] < 19
    assert "linear.weight" in run(*words, "--tensors")
    assert "SDR" in run(path, "--method", "prune:0.5,quantize:8", "--entropy")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "MODEL"),
        (("digits",), "--method"),
        (("digits", "--method", "shrink"), "no compressor"),
        (("digits", "--method", "quantize", "--set", "bits"), "KEY=VALUE"),
        (("digits", "--method", "quantize", "--set", "width=3"), "unknown key"),
        (("digits", "--method", "prune", "--set", "scope=layer"), "sparsity"),
        (("nowhere.pt", "--method", "raw"), "nowhere.pt"),
    ],
)
def test_wrong_words(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["compress", *words])
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_task_shows_accuracy() -> None:
    found = json.loads(run("digits", "--method", "quantize", "--set", "bits=8", "--json", "-"))
    assert found["accuracy"]["before"] > 0.97
    assert abs(found["accuracy"]["after"] - found["accuracy"]["before"]) < 0.01
