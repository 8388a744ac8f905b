"""The command line: every command, its JSON documents, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner, Result

import memristore as ms
from memristore.cli import app
from memristore.cli.words import part, parts
from memristore.codes import codes
from memristore.compress import compressors
from memristore.mapping import mappers
from memristore.protect import protections

COMMANDS = ("demo", "store", "info", "read", "evaluate", "compress", "devices", "limits")


@pytest.fixture(autouse=True)
def networks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained networks are shared by all files of tests, so that training happens once."""
    monkeypatch.setenv("MEMRISTORE_CACHE", str(tmp_path_factory.getbasetemp() / "networks"))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def good(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def document(schema: str, *words: object) -> dict[str, Any]:
    """The JSON document of a command; nothing else may be on standard output."""
    found: dict[str, Any] = json.loads(good(*words, "--json", "-"))
    assert (found["schema"], found["version"]) == (schema, 1)
    return found


def bad(message: str, *words: object) -> None:
    """One line on standard error, exit code 2, no traceback."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file({"weight": torch.linspace(-1, 1, 512).reshape(16, 32), "bias": torch.zeros(16)}, path)
    return path


@pytest.fixture
def stored(tmp_path: Path, weights: Path) -> Path:
    path = tmp_path / "cells.safetensors"
    good("store", weights, "--protect", "sign", "--seed", "3", "--out", path)
    return path


def test_help_and_version() -> None:
    text = good("--help")
    assert all(command in text for command in COMMANDS)
    assert good("--version").strip() == f"memristore {ms.__version__}"
    for command in COMMANDS:
        assert "--json" in good(command, "--help")


def test_start_is_quick() -> None:
    slow = "'torch', 'matplotlib', 'sklearn', 'scipy', 'pandas'"
    code = f"import sys, memristore.cli; print([m for m in ({slow}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_store(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "cells.safetensors"
    words = ("--protect", "sign,adaptive-range", "--code", "residual:2", "--compress", "prune:0.5", "--seed", "4")
    more = ("--mapper", "linear:clip=none", "--decoder", "inverse", "--retention", "1 year", "--compensation", "64")
    found = document("memristore.store", "store", weights, "--out", out, *words, *more)
    model = ms.StoredModel.open(out)
    assert model.spec == ms.StorageSpec(
        protect=(ms.Sign(), ms.AdaptiveRange()),
        code=ms.Residual(planes=2),
        compress=(ms.Prune(sparsity=0.5),),
        mapper=ms.Linear(clip=None),
        decoder="inverse",
        retention="1 year",
        compensation=ms.ReferenceCells(count=64),
    )
    assert model.seed == found["seed"] == 4
    assert ms.StorageSpec.from_dict(found["spec"]) == model.spec
    assert found["cells_per_weight"] == model.cells_per_weight
    assert found["cells"] == sum(found["cells_by_kind"].values())


def test_store_with_other_parts(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "cells.safetensors"
    words = ("--write", "program-and-verify:max_pulses=9", "--code", "repetition:1", "--allocation", "per-layer:1.5")
    good("store", weights, "-o", out, "--device", "pcm-ibm-90nm", "--compensation", "none", *words)
    spec = ms.StoredModel.open(out).spec
    assert spec.write == ms.ProgramAndVerify(max_pulses=9)
    assert spec.allocation == ms.PerLayer(mean=1.5)
    assert spec.compensation is None


def test_store_by_a_recipe(tmp_path: Path, weights: Path) -> None:
    spec = ms.StorageSpec(device="awgn/20", code=ms.Repetition(planes=2))
    for number, content in enumerate((spec.to_dict(), {"device": "ideal"}, {"schema": "any", "spec": spec.to_dict()})):
        (tmp_path / "recipe.json").write_text(json.dumps(content), encoding="utf-8")
        out = tmp_path / f"{number}.safetensors"
        good("store", weights, "--spec", tmp_path / "recipe.json", "-o", out)
        wanted = ms.StorageSpec(device="ideal") if number == 1 else spec
        assert ms.StoredModel.open(out).spec == wanted
    bad("exclude each other", "store", weights, "--spec", tmp_path / "recipe.json", "--code", "uncoded", "-o", out)
    (tmp_path / "recipe.json").write_text('{"colour": 1}', encoding="utf-8")
    bad("unknown key 'colour'", "store", weights, "--spec", tmp_path / "recipe.json", "-o", out)
    (tmp_path / "recipe.json").write_text("[]", encoding="utf-8")
    bad("a recipe is a JSON object", "store", weights, "--spec", tmp_path / "recipe.json", "-o", out)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_store_torch_files(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    torch.save(wrap(nn.Linear(8, 4).state_dict()), tmp_path / "net.pt")
    found = document("memristore.store", "store", tmp_path / "net.pt", "-o", tmp_path / "cells.safetensors")
    assert found["weights"] == 36


def test_store_files_that_are_none(tmp_path: Path, weights: Path) -> None:
    out = ("-o", tmp_path / "cells.safetensors")
    bad("nor a task of that name (cifar10, digits, imagenet, mnist)", "store", tmp_path / "absent.pt", *out)
    (tmp_path / "net.onnx").touch()
    bad("the ending must be", "store", tmp_path / "net.onnx", *out)
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:-9])
    bad("cut.safetensors", "store", tmp_path / "cut.safetensors", *out)
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 nothing")
    bad("cannot be read as weights", "store", tmp_path / "cut.pt", *out)
    torch.save([1, 2], tmp_path / "list.pt")
    bad("holds no state_dict", "store", tmp_path / "list.pt", *out)
    torch.save(nn.Linear(2, 2), tmp_path / "code.pt")
    bad("cannot be read as weights", "store", tmp_path / "code.pt", *out)
    bad("there is no folder", "store", weights, "-o", tmp_path / "absent" / "cells.safetensors")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "pcm"), "no device is called 'pcm'"),
        (("--protect", "sign,shield"), "'shield'; there are"),
        (("--code", "residual:many"), "no setting that 'many' could be"),
        (("--code", "residual:0"), "planes must be"),
        (("--compress", "prune"), "sparsity is missing"),
        (("--mapper", "linear:colour=3"), "linear has no setting 'colour'; it has clip"),
        (("--write", "hammer"), "no way to write is called 'hammer'"),
        (("--compensation", "some"), "auto, none or a number"),
        (("--decoder", "magic"), "decoder must be"),
        (("--retention", "long"), "cannot read the time 'long'"),
    ],
)
def test_wrong_words(tmp_path: Path, weights: Path, words: tuple[str, ...], message: str) -> None:
    bad(message, "store", weights, "-o", tmp_path / "cells.safetensors", *words)


def test_words() -> None:
    assert part("residual:3", codes.__getitem__) == ms.Residual(planes=3)
    assert part("linear:3.5", mappers.__getitem__) == ms.Linear(clip=3.5)
    assert part("linear:clip=auto", mappers.__getitem__) == ms.Linear(clip="auto")
    assert part("quantize:8:channel", compressors.__getitem__) == ms.Quantize(bits=8, axis="channel")
    assert part("quantize:bits=4:symmetric=false", compressors.__getitem__) == ms.Quantize(bits=4, symmetric=False)
    assert part("raw:float16", compressors.__getitem__) == ms.Raw(dtype="float16")
    assert parts("", protections.__getitem__) == ()
    assert parts("sparsity, sign", protections.__getitem__) == (ms.Sparsity(), ms.Sign())


@pytest.mark.parametrize("registry", [codes, mappers, protections], ids=["codes", "mappers", "protections"])
def test_every_part_has_a_word(registry: Any) -> None:
    for name in registry.names():
        assert part(name, registry.__getitem__).name == name


def test_info(stored: Path) -> None:
    text = good("info", stored)
    assert "cells per weight" in text
    assert "drift" in text
    assert "parity" in text
    found = document("memristore.info", "info", stored)
    assert found["seed"] == 3
    assert sum(line["cells"] for line in found["ledger"]) == found["cells"]
    assert found["stages"]["decoder"] == "mmse"


def test_info_of_damaged_files(tmp_path: Path, stored: Path, weights: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(stored.read_bytes()[:-5])
    for name in ("cut.safetensors", "absent.safetensors", weights.name):
        bad(name, "info", tmp_path / name)


def test_read(tmp_path: Path, stored: Path, weights: Path) -> None:
    out = tmp_path / "read.safetensors"
    found = document("memristore.read", "read", stored, "--at", "1 year", "--event", "2", "-o", out)
    assert (found["at_seconds"], found["event"]) == (31536000.0, 2)
    assert found["tensors"] == ["bias", "weight"]
    state = load_file(out)
    wanted = ms.StoredModel.open(stored).load(at="1 year", event=2)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert not torch.equal(state["weight"], load_file(weights)["weight"])
    bad("safetensors", "read", stored, "-o", tmp_path / "read.pt")
    bad("cannot read the time", "read", stored, "-o", out, "--at", "later")


def test_devices() -> None:
    text = good("devices")
    found = document("memristore.devices", "devices")["devices"]
    assert [line["name"] for line in found] == ms.devices.names()
    for line in found:
        assert line["name"] in text
        assert line["citation"]
        assert line["mark"] in ("sourced", "computed", "recalled", "definition")
    assert "power law" in good("devices", "pcm-ibm-90nm")
    bad("no device is called 'clay'", "devices", "clay")


def test_json_to_a_file(tmp_path: Path) -> None:
    assert "pcm-ibm-90nm" in good("devices", "--json", tmp_path / "devices.json")
    assert json.loads((tmp_path / "devices.json").read_text("utf-8"))["schema"] == "memristore.devices"
    bad("there is no folder", "devices", "--json", tmp_path / "absent" / "devices.json")
    (tmp_path / "folder").mkdir()
    result = run("devices", "--json", tmp_path / "folder")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_networks_without_weights_have_no_cells_per_weight(tmp_path: Path) -> None:
    save_file({"n": torch.arange(3)}, tmp_path / "n.safetensors")
    cells = tmp_path / "n.cells"
    assert document("memristore.store", "store", tmp_path / "n.safetensors", "-o", cells)["weights"] == 0
    assert document("memristore.info", "info", cells)["file"] == str(cells)


def test_reads_beyond_the_retention_time_are_told(tmp_path: Path, weights: Path) -> None:
    cells, out = tmp_path / "net.cells", tmp_path / "out.safetensors"
    good("store", weights, "--retention", "1 year", "-o", cells)
    assert "is beyond" not in good("read", cells, "--at", "1 year", "-o", out)
    assert "beyond what the bits are sized for, 1 year" in good("read", cells, "--at", "20 years", "-o", out)
    assert document("memristore.read", "read", cells, "--at", "20 years", "-o", out)["beyond_retention"] is True


def test_pictures_of_unknown_formats_are_refused_before_the_work(tmp_path: Path, weights: Path) -> None:
    plot = ("--plot", tmp_path / "picture.xyz")
    for words in (("fit", weights, "--budget", "2"), ("compare", weights), ("evaluate", weights), ("limits",)):
        bad("must end in one of", *words, *plot)


def test_evaluate(tmp_path: Path) -> None:
    cells = tmp_path / "digits.safetensors"
    good("store", "digits", "--protect", "sign,adaptive-range", "-o", cells)
    words = ("--task", "digits", "--at", "0", "--at", "1 year", "--trials", "2")
    found = document("memristore.evaluation", "evaluate", cells, *words, "--plot", tmp_path / "time.png")
    (line,) = found["rows"]
    assert line["scheme"] == "digits"
    assert [result["at_seconds"] for result in line["results"]] == [0.0, 31536000.0]
    assert all(result["trials"] == 2 and result["mean"] > 0.9 for result in line["results"])
    assert line["clean"] > 0.98
    assert (tmp_path / "time.png").read_bytes()[:4] == b"\x89PNG"
    text = good("evaluate", cells, *words)
    assert "1 year" in text
    assert "596 test images" in text


def test_evaluate_what_does_not_fit(tmp_path: Path, stored: Path, weights: Path) -> None:
    bad("does not fit", "evaluate", stored, "--trials", "1")
    bad("no task is called 'letters'", "evaluate", stored, "--task", "letters")
    bad("no data folder given", "evaluate", stored, "--task", "mnist")
    bad("do not fit the network of digits", "evaluate", stored, "--model", weights)
    cells = tmp_path / "digits.safetensors"
    good("store", "digits", "-o", cells)
    other = tmp_path / "other.pt"
    torch.save({name: 2 * tensor for name, tensor in ms.StoredModel.open(cells).load().items()}, other)
    bad("not those that were stored", "evaluate", cells, "--model", other, "--trials", "2")


def test_demo(tmp_path: Path) -> None:
    found = document("memristore.demo", "demo", "--trials", "2", "--out", tmp_path / "a")
    rows = {line["scheme"]: line for line in found["rows"]}
    assert len(rows) == 10
    assert len(found["conclusions"]) == 3
    assert (found["task"], found["device"]) == ("digits", "pcm-ibm-90nm")
    for line in rows.values():
        assert [result["at_seconds"] for result in line["results"]] == [0.0, 86400.0, 31536000.0, 315360000.0]
        assert all({"mean", "ci95", "std", "worst", "trials"} <= result.keys() for result in line["results"])
    year = {name: line["results"][2]["mean"] for name, line in rows.items()}
    clean = found["rows"][0]["clean"]
    assert clean >= 0.98
    assert year["naive linear"] < clean - 0.05
    assert year["+ residual 2"] > clean - 0.01
    assert year["pruned 90 %"] > clean - 0.015
    assert year["fp32 digital"] == clean
    cells = {name: line["cells_per_weight"] for name, line in rows.items()}
    assert cells["fp32 digital"] > 10 * cells["pruned 90 %"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["memristore-demo.png"]


def test_demo_writes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = good("demo", "--trials", "1")
    assert "naive linear" in text
    assert "Written the naive way" in text
    assert "wrote memristore-demo.png and memristore-demo.json" in text
    assert json.loads(Path("memristore-demo.json").read_text("utf-8"))["schema"] == "memristore.demo"
    assert Path("memristore-demo.png").stat().st_size > 10_000
    Path("file").touch()
    bad("cannot be made a folder", "demo", "--trials", "1", "--out", "file/below")


def test_usage_errors() -> None:
    for words in (("store",), ("info",), ("dance",), ("demo", "--trials", "0"), ("demo", "--task")):
        assert run(*words).exit_code == 2


def test_evaluate_more(tmp_path: Path) -> None:
    cells = tmp_path / "digits.safetensors"
    good("store", "digits", "--protect", "sign", "-o", cells)
    words = ("--at", "1 year", "--trials", "1")
    found = document(
        "memristore.attribution", "evaluate", cells, *words, "--attribute", "layer", "--plot", tmp_path / "a.png"
    )
    assert {cost["name"] for cost in found["costs"]} == {"conv1", "conv2", "fc1", "fc2", "fc3"}
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    found = document("memristore.evaluation", "evaluate", cells, *words, "--reads", "2")
    assert len(found["rows"][0]["results"][0]["reads"][0]) == 2
    bad("takes one --at", "evaluate", cells, *words, "--at", "0", "--attribute", "layer")
    bad("by must be one of", "evaluate", cells, *words, "--attribute", "channel")
    bad("trials of at least 5", "evaluate", cells, *words, "--precision", "0.1")
    bad("no data folder given", "evaluate", cells, "--task", "imagenet:resnet18")
    bad("no data folder given", "fit", "imagenet", "--model", "mobilenet_v2", "--max-drop", "1")
