"""Monte Carlo evaluation, its statistics, tables, pictures and documents."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import memristore as ms
from memristore.errors import FileError, SpecError, TensorError
from memristore.evaluate import Comparison, Evaluation, Metric, Result, evaluate, tasks
from memristore.evaluate.comparison import print_table
from memristore.evaluate.demo import BEST, FP32, NAIVE, PRUNED, RESIDUAL, Demo, schemes
from memristore.evaluate.sdr import Sdr
from memristore.evaluate.tasks.data import TaskData
from memristore.rng import key

SPEC = ms.StorageSpec(protect=(ms.Sign(),))
DAY, YEAR = 86400.0, 31536000.0


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    """The real task; the folder is shared by all files of tests, so that training happens once."""
    return tasks.get("digits").load(cache_dir=tmp_path_factory.getbasetemp() / "networks", progress=False)


@pytest.fixture
def layer() -> nn.Linear:
    model = nn.Linear(16, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    return model


def total(model: nn.Module) -> float:
    """A metric that sees every weight."""
    return float(sum(parameter.detach().abs().sum() for parameter in model.parameters()))


def row(scheme: str = "a", values: tuple[float, ...] = (0.9, 0.8, 0.85), cells: float = 2.0, **more: Any) -> Evaluation:
    metric = Metric(name="accuracy", unit="fraction")
    results = tuple(Result(at_seconds=at, values=values) for at in (0.0, DAY, YEAR))
    given: dict[str, Any] = {"scheme": scheme, "metric": metric, "cells_per_weight": cells, "results": results}
    return Evaluation(**{**given, "clean": 0.95, "compressed": 0.94, "memristore": "0", "isa": "scalar", **more})


def test_statistics() -> None:
    result = Result(at_seconds=DAY, values=(1.0, 2.0, 3.0))
    assert result.mean == 2.0
    assert result.std == 1.0
    # Student's t with two degrees of freedom: 4.302653.
    assert result.ci95 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (result.worst, result.trials) == (1.0, 3)
    assert Result(at_seconds=0, values=(1.0, 2.0), higher_is_better=False).worst == 2.0


def test_one_trial_has_no_interval() -> None:
    result = Result(at_seconds=0, values=(0.5,))
    assert (result.mean, result.worst, result.std, result.ci95) == (0.5, 0.5, None, None)
    assert result.to_dict()["ci95"] is None
    with pytest.raises(SpecError, match="at least one trial"):
        Result(at_seconds=0, values=())


def test_trials(layer: nn.Linear) -> None:
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    stored = ms.store(layer, SPEC, seed=7)
    found = evaluate(stored, layer, total, at=["1 day", 0], trials=3, progress=False, keep=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert [result.at_seconds for result in found.results] == [DAY, 0.0]
    assert found.clean == total(layer)
    assert found.compressed == pytest.approx(found.clean)
    assert found.cells_per_weight == stored.cells_per_weight
    assert found.metric == Metric(name="total")
    assert len(found.stored) == 3
    # Trial 0 is the array given; trial k is another array with the derived seed, each read by its own event.
    again = ms.prepare(layer, SPEC)
    for trial in range(3):
        array = stored if trial == 0 else again.program(seed=key(7, "trial", trial))
        for index, at in enumerate((DAY, 0.0)):
            probe = nn.Linear(16, 16)
            array.load_into(probe, at=at, event=2 * trial + index)
            assert found.at(at).values[trial] == total(probe)
    assert len(set(found.at("1 day").values)) == 3
    # What is prepared once, and the number of threads, change nothing.
    same = evaluate(stored, layer, total, at=["1 day", 0], trials=3, prepared=again, threads=1, progress=False)
    assert same == found
    with pytest.raises(KeyError):
        found.at("1 year")


def test_reproducible(layer: nn.Linear) -> None:
    stored = ms.store(layer, SPEC, seed=0)
    first, second = (evaluate(stored, layer, total, at=["1 year"], trials=2, progress=False) for _ in range(2))
    assert first == second


def test_bit_errors_are_counted(layer: nn.Linear) -> None:
    faulty = ms.devices.get("pcm-ibm-90nm").replace(stuck_low=0.02, stuck_high=0.02)
    with pytest.warns(UserWarning, match="block error"):
        stored = ms.store(
            layer,
            ms.StorageSpec(device=faulty, protect=(ms.Sign(),), bits=ms.Secded(), levels=ms.Levels(count=8)),
            seed=1,
        )
    found = evaluate(stored, layer, total, at=0, trials=1, progress=False)
    report = stored.read(at=0, event=0).report
    (result,) = found.results
    assert result.bits_raw_errors == report.bits_raw_errors > 0
    assert (result.words_corrected, result.words_failed) == (report.words_corrected, report.words_failed)


def test_weights_that_a_file_had_sorted_are_the_same_network() -> None:
    """Files of weights sort tensors by name; what lies in which cell follows from the order."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)).eval()
    given = dict(sorted(model.state_dict().items()))
    assert list(given) != list(model.state_dict())
    stored = ms.store(given, SPEC, seed=3)
    metric = Sdr(model)
    found, wanted = (evaluate(stored, m, metric, at="1 year", trials=3, progress=False) for m in (model, given))
    assert found.results == wanted.results
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    with pytest.raises(SpecError, match="not those that were stored"):
        evaluate(stored, model, metric, at="1 year", trials=3, progress=False)


def test_bits_in_a_cell_are_those_of_all_areas(layer: nn.Linear) -> None:
    """Weights that protect themselves take five cells for two bits here; their few scales are not the measure."""
    spec = ms.StorageSpec(compress=(ms.ZeroSpace(),), levels=ms.Levels(count=4), retention="1 year")
    stored = ms.store(layer, spec, seed=0)
    found = evaluate(stored, layer, total, at=0, trials=1, progress=False)
    sizes = [(a.payload_bytes, a.format.net_bits_per_cell) for a in (stored.bits, stored.in_place)]
    assert sizes[1][0] > sizes[0][0] > 0
    assert found.net_bits_per_cell == pytest.approx(sum(n for n, _ in sizes) / sum(n / net for n, net in sizes))
    assert found.net_bits_per_cell != pytest.approx(sizes[0][1], rel=0.05)


def test_clean_may_be_given(layer: nn.Linear) -> None:
    spec = ms.StorageSpec(compress=(ms.Prune(sparsity=0.5),))
    stored = ms.store(layer, spec, seed=0)
    found = evaluate(stored, layer, total, at=0, trials=1, clean=100.0, progress=False)
    assert found.clean == 100.0
    assert found.compressed < total(layer)


def test_metric_says_what_it_is(digits: TaskData) -> None:
    stored = ms.store(digits.model, SPEC, seed=0)
    found = evaluate(stored, digits.model, digits.metric, at=0, trials=2, progress=False)
    assert found.metric == Metric(name="accuracy", unit="fraction")
    assert found.results[0].mean > digits.metric(digits.model) - 0.05
    assert f"{100 * found.clean:.2f}" in print_table(found.table())


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda model: "good", "returned str"),
        (lambda model: None, "returned NoneType"),
        (lambda model: True, "returned bool"),
        (lambda model: torch.tensor(1.0), r"returned Tensor; end it with \.item\(\)"),
        (lambda model: float("nan"), "returned nan for the original network"),
        (lambda model: float("-inf"), "must be a finite number"),
    ],
)
def test_metrics_that_are_none(layer: nn.Linear, metric: Any, message: str) -> None:
    stored = ms.store(layer, SPEC, seed=0)
    with pytest.raises(SpecError, match=message):
        evaluate(stored, layer, metric, at=0, trials=1, progress=False)


def test_a_nan_says_when(layer: nn.Linear) -> None:
    stored = ms.store(layer, SPEC, seed=0)
    calls = iter([1.0, 1.0, 1.0, float("nan")])
    with pytest.raises(SpecError, match="nan in trial 0 after 1 year"):
        evaluate(stored, layer, lambda model: next(calls), at=[0, "1 year"], trials=1, progress=False)


@pytest.mark.parametrize("trials", [0, -1, 1.5, True, "3"])
def test_wrong_trials(layer: nn.Linear, trials: Any) -> None:
    with pytest.raises(SpecError, match="trials"):
        evaluate(ms.store(layer, SPEC, seed=0), layer, total, trials=trials, progress=False)


def test_wrong_times(layer: nn.Linear) -> None:
    stored = ms.store(layer, SPEC, seed=0)
    with pytest.raises(SpecError, match="at least one read time"):
        evaluate(stored, layer, total, at=[], trials=1)
    with pytest.raises(SpecError, match="cannot read the time"):
        evaluate(stored, layer, total, at=["soon"], trials=1)


def test_a_model_that_was_not_stored(layer: nn.Linear) -> None:
    stored = ms.store(layer, SPEC, seed=0)
    with pytest.raises(SpecError, match="not those that were stored"):
        evaluate(stored, nn.Linear(16, 16), total, at=0, trials=2, progress=False)
    with pytest.raises(TensorError, match="does not fit the model"):
        evaluate(stored, nn.Linear(4, 4), total, at=0, trials=1, progress=False)


def test_the_front_door(layer: nn.Linear) -> None:
    stored = ms.store(layer, SPEC, seed=0)
    for _ in range(2):
        assert isinstance(ms.evaluate(stored, layer, total, at=0, trials=1, progress=False), Evaluation)


def test_json_round_trip(tmp_path: Path, layer: nn.Linear) -> None:
    found = evaluate(ms.store(layer, SPEC, seed=3), layer, total, at=[0, "1 day"], trials=2, progress=False)
    text = found.to_json(tmp_path / "result.json")
    document = json.loads(text)
    assert (document["schema"], document["version"]) == ("memristore.evaluation", 1)
    (line,) = document["rows"]
    assert {"scheme", "cells_per_weight", "clean", "results", "spec", "seed", "memristore", "isa"} <= line.keys()
    wanted = {"at_seconds", "mean", "ci95", "std", "worst", "trials"}
    assert all(wanted <= result.keys() for result in line["results"])
    assert line["results"][1]["at_seconds"] == DAY
    assert ms.StorageSpec.from_dict(line["spec"]) == SPEC
    assert line["seed"] == 3
    assert Evaluation.from_json(tmp_path / "result.json") == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other"}, "not a result of memristore"),
        ({"version": 2}, "version 2 is not known"),
        ({"rows": None}, "lacks or garbles"),
        ({"rows": [{}]}, "lacks or garbles"),
        ({"rows": []}, "lacks or garbles"),
    ],
)
def test_other_documents(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(Comparison([row()]).to_dict() | change), encoding="utf-8")
    with pytest.raises(FileError, match=message):
        Comparison.from_json(path)


def test_unreadable_documents(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"schema": ', encoding="utf-8")
    for name in ("cut.json", "absent.json"):
        with pytest.raises(FileError, match=name):
            Comparison.from_json(tmp_path / name)
    Comparison([row(), row("b")]).to_json(tmp_path / "two.json")
    with pytest.raises(FileError, match="holds 2 rows"):
        Evaluation.from_json(tmp_path / "two.json")


def test_tables() -> None:
    text = str(Comparison([row("plain"), row("digital", (0.95,), 32.0)], "a title"))
    assert "a title" in text
    assert "85.00 ± 12.42" in text
    assert "95.00 " in text
    assert "at once" in text
    assert "1 year" in text
    versus = print_table(Comparison([row("plain"), row("digital", cells=32.0)]).table(baseline="digital"))
    assert "16x" in versus
    single = print_table(row("plain").table())
    assert "plain: 2 cells per weight" in single
    assert "80.00" in single


def test_data_frames() -> None:
    frame = Comparison([row("plain"), row("digital", (0.95,), 32.0)]).to_dataframe()
    assert len(frame) == 6
    assert list(frame["at_seconds"][:3]) == [0.0, DAY, YEAR]
    assert frame["mean"][0] == pytest.approx(0.85)
    assert len(row().to_dataframe()) == 3


def test_comparisons_that_make_no_sense() -> None:
    with pytest.raises(SpecError, match="at least one"):
        Comparison([])
    with pytest.raises(SpecError, match="different metrics"):
        Comparison([row(), row(metric=Metric(name="loss", higher_is_better=False))])
    with pytest.raises(SpecError, match="'cells' or 'time'"):
        Comparison([row()]).plot(against="money")
    with pytest.raises(KeyError):
        Comparison([row()])["b"]


CASES = {
    "wide": [row("a", (0.2, 0.3)), row("b", (0.99, 1.0), 32.0)],
    "perfect": [row("a", (1.0, 1.0), clean=1.0), row("b", (0.1, 0.1), clean=1.0)],
    "narrow": [row("a", (0.94, 0.95)), row("b", (0.95, 0.95), 0.1)],
    "one trial": [row("a", (0.5,))],
    "no accuracy": [row("a", (3.0, 250.0), metric=Metric(name="loss", higher_is_better=False))],
    "many": [row(f"scheme {i}", cells=i + 1.0) for i in range(14)],
}


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
@pytest.mark.parametrize("against", ["cells", "time"])
def test_pictures(tmp_path: Path, rows: list[Evaluation], against: str) -> None:
    path = tmp_path / "picture.png"
    figure = Comparison(rows).plot(path, against=against)
    assert path.read_bytes()[:4] == b"\x89PNG"
    legend = figure.legends[0] if figure.legends else figure.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    if len(rows) > 1 or against == "cells":
        assert [label for label in labels if label != "original network"] == [line.scheme for line in rows]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == (3 if against == "cells" else 1)


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    for name in ("absent/picture.png", "picture.unknown"):
        with pytest.raises(FileError, match="cannot be written"):
            row().plot(tmp_path / name)


def test_time_zero_has_a_place() -> None:
    axes = row().plot().axes[0]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels[0] == "0"
    assert {"1 day", "1 year"} <= set(labels)


def test_demo_schemes() -> None:
    found = schemes()
    assert len(found) == len({scheme.name for scheme in found}) == 9
    for scheme in found:
        assert ms.StorageSpec.from_dict(scheme.spec.to_dict()) == scheme.spec
    assert [scheme.name for scheme in found if scheme.pruned] == [PRUNED]


def test_demo_conclusions() -> None:
    names = [*(scheme.name for scheme in schemes()), BEST]
    values = {NAIVE: 0.30, RESIDUAL: 0.948, PRUNED: 0.91, FP32: 0.95}
    cells = {NAIVE: 1.0, RESIDUAL: 4.4, PRUNED: 0.9, FP32: 36.0}
    rows = [row(name, (values.get(name, 0.90),) * 3, cells.get(name, 9.0)) for name in names]
    demo = Demo(task="digits", description="LeNet-5", device="pcm-ibm-90nm", comparison=Comparison(rows))
    first, second, third = demo.conclusions()
    assert "from 95.0 % to 30.0 % after 1 year" in first
    assert "loses 0.2 points at 4.4" in first
    assert "40 times fewer than fp32" in second
    assert "loses 4.0 points after 1 year" in second
    assert "residual 2, 4.40 cells per weight, 8.2 times fewer than fp32 digital, 2.0 times" in third
    document = json.loads(demo.to_json())
    assert (document["schema"], document["version"]) == ("memristore.demo", 1)
    assert document["conclusions"] == [first, second, third]
    assert Comparison.from_dict(document).evaluations == demo.comparison.evaluations
