"""Recipes judged without an array, several reads, a wanted precision, clean answers, costs of tensors."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memristore as ms
from memristore.errors import SpecError, TensorError
from memristore.evaluate import Comparison, Result, attribute, evaluate
from memristore.evaluate.comparison import print_table
from memristore.evaluate.probe import Probe
from memristore.evaluate.stopping import arrays_for
from memristore.evaluate.tasks import Accuracy, Expected, Fidelity, Images
from memristore.rng import key

SPEC = ms.StorageSpec(protect=(ms.Sign(),))
YEAR = 31536000.0


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.BatchNorm1d(24), nn.Linear(24, 5)).eval()
        nn.init.uniform_(made[2].weight, 0.5, 1.5)
        nn.init.normal_(made[2].bias, 0.0, 0.1)
        return made


@pytest.fixture
def model() -> nn.Module:
    return network()


@pytest.fixture
def metric(model: nn.Module) -> Accuracy:
    inputs = torch.randn(300, 12, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return Accuracy(Images(inputs, model(inputs).argmax(1)), batch=70)


def total(subject: nn.Module) -> float:
    return float(sum(p.detach().abs().sum() for p in subject.parameters()))


def test_a_recipe_is_judged_like_its_array(model: nn.Module, metric: Accuracy) -> None:
    stored = ms.store(model, SPEC, seed=7)
    by_array = evaluate(stored, model, metric, at=[0, "1 year"], trials=3, progress=False)
    by_recipe = evaluate(SPEC, model, metric, at=[0, "1 year"], trials=3, seed=7, progress=False)
    assert by_recipe == by_array
    assert by_recipe.cells_per_weight == stored.cells_per_weight
    two_bytes = ms.store(model, SPEC, seed=7, cell_bytes=2)
    assert evaluate(two_bytes, model, metric, at=0, trials=2, progress=False).results[0].trials == 2


def test_large_networks_are_programmed_again_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, metric: Accuracy
) -> None:
    """What is done to save memory where a network has more than four million weights changes no number."""
    given: dict[str, Any] = {"at": [0, "1 year"], "trials": 2, "reads": 2, "progress": False}
    plain = evaluate(SPEC, model, metric, **given)
    for module in ("arrays", "memory"):
        monkeypatch.setattr(f"memristore.evaluate.{module}.LARGE", 1)
    assert evaluate(SPEC, model, metric, **given) == plain
    assert evaluate(ms.store(model, SPEC, seed=0), model, metric, **given) == plain


def test_consumed_reads(model: nn.Module) -> None:
    stored = ms.store(model, SPEC, seed=3)
    plain = stored.load(at="1 year", event=4)
    consumed = stored.read(at="1 year", event=4, consume=True).state_dict
    assert all(torch.equal(plain[name], tensor) for name, tensor in consumed.items())
    assert not stored.streams


def test_several_reads(model: nn.Module) -> None:
    found = evaluate(SPEC, model, total, at=[0, "1 year"], trials=2, reads=3, progress=False)
    for index, result in enumerate(found.results):
        assert [len(values) for values in result.reads] == [3, 3]
        assert result.values == tuple(pytest.approx(np.mean(values)) for values in result.reads)
        assert result.worst == min(min(values) for values in result.reads)
        assert result.read_std == pytest.approx(np.sqrt(np.mean([np.var(v, ddof=1) for v in result.reads])))
        # Each read has an event of its own.
        array = ms.store(model, SPEC, seed=key(0, "trial", 1))
        for read in range(3):
            probe = network()
            array.load_into(probe, at=result.at_seconds, event=(3 + read) * 2 + index)
            assert result.reads[1][read] == total(probe)
    assert Comparison.from_dict(json.loads(found.to_json())).evaluations[0] == found
    assert "2 x 3 reads" in print_table(found.table())
    assert list(found.to_dataframe()["trials"]) == [2, 2]


def test_clean_answers(model: nn.Module, metric: Accuracy) -> None:
    fidelity = metric.against(model)
    assert fidelity.clean_value == metric(model) == 1.0
    assert fidelity.measure(model) == {"accuracy": 1.0, "agreement": 1.0, "kl": pytest.approx(0, abs=1e-12)}
    other = network(5)
    found = fidelity.measure(other)
    inputs = metric.test.images
    with torch.inference_mode():
        wanted, given = model(inputs).double().softmax(1), other(inputs).double().log_softmax(1)
    assert found["kl"] == pytest.approx(float((wanted * (wanted.log() - given)).sum(1).mean()), rel=1e-9)
    assert found["agreement"] == found["accuracy"] == metric(other)
    with torch.no_grad():
        other[3].weight.fill_(float("nan"))
    assert fidelity.measure(other)["kl"] == 100.0
    evaluation = evaluate(SPEC, model, metric, at="1 year", trials=2, progress=False)
    (result,) = evaluation.results
    assert set(result.also) == {"agreement", "kl"}
    assert result.also["agreement"] == result.values
    assert 0 < result.mean_of("kl")[0] < 5
    assert "KL, nats" in print_table(evaluation.table())
    assert evaluation.to_dataframe()["kl"][0] == pytest.approx(result.mean_of("kl")[0])
    assert isinstance(fidelity, Fidelity)


def test_expected_accuracy_tells_small_losses_with_few_images(model: nn.Module) -> None:
    """20,000 labels drawn from the network's own probabilities: standard errors of means are at most 0.0036."""
    draw = torch.Generator().manual_seed(4)
    inputs = 3 * torch.randn(20_000, 12, generator=draw)
    with torch.inference_mode():
        scores = model(inputs)
        labels = torch.multinomial(scores.softmax(1), 1, generator=draw)[:, 0]
    whole = Accuracy(Images(inputs, labels))
    expected = Expected(whole, model)
    # It expects of the network itself what that has.
    assert expected(model) == pytest.approx(whole(model), abs=1e-6)
    assert expected.temperature == pytest.approx(1.0, abs=0.1)
    noisy = copy.deepcopy(model)
    with torch.no_grad():
        noisy[0].weight.add_(0.05 * torch.randn(24, 12, generator=draw))
    assert expected(noisy) == pytest.approx(whole(noisy), abs=5 * 0.0036)
    lost: dict[type, list[float]] = {Accuracy: [], Expected: []}
    for start in range(0, 20_000, 250):
        some = Accuracy(Images(inputs[start : start + 250], labels[start : start + 250]))
        for kind, judge in ((Accuracy, some), (Expected, Expected(some, model))):
            lost[kind].append(judge(model) - judge(noisy))
    assert np.std(lost[Expected]) < 0.6 * np.std(lost[Accuracy])
    assert min(lost[Expected]) >= 0

    class Sure(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 3 * model(images)

    sure = Expected(whole, Sure())
    assert sure.temperature == pytest.approx(3 * expected.temperature, rel=1e-3)
    assert sure(noisy) == pytest.approx(expected(noisy), abs=1e-3)
    with torch.no_grad():
        noisy[3].weight.fill_(float("nan"))
    assert 0 <= expected(noisy) <= 1
    with pytest.raises(TensorError, match="not finite"):
        Expected(whole, noisy)


def test_a_wanted_precision(model: nn.Module) -> None:
    first = evaluate(SPEC, model, total, at=[0, "1 year"], trials=5, progress=False)
    wide = max(result.ci95 or 0 for result in first.results)
    found = evaluate(SPEC, model, total, at=[0, "1 year"], trials=5, precision=wide / 1.5, progress=False)
    # The spread of the first five asks for 1.5 squared times as many, rounded up.
    assert [result.trials for result in found.results] == [12, 12]
    assert [result.pilot for result in found.results] == [5, 5]
    assert max(result.ci95 or 0 for result in found.results) <= wide / 1.5
    assert all(a.values == b.values[:5] for a, b in zip(first.results, found.results, strict=True))
    assert Comparison.from_dict(json.loads(found.to_json())).evaluations[0] == found
    enough = evaluate(SPEC, model, total, at=[0, "1 year"], trials=5, precision=2 * wide, progress=False)
    assert enough == first
    most = evaluate(SPEC, model, total, at=0, trials=5, precision=wide / 100, max_trials=7, progress=False)
    assert most.results[0].trials == 7


def test_precision_keeps_its_promise() -> None:
    """Stein's interval covers the mean in at least 95 % of cases, at the width asked for, whatever the variance.

    n = 4,000 runs for each of two deviations. Covered runs are binomial with p >= 0.95: fewer than 94 % have a
    probability of 2e-3 at most, each. Stopping at the first narrow interval, the rule not taken, covers 92.3 % of such
    runs at the larger deviation: that would be seen.
    """
    draw = np.random.default_rng(0)
    for deviation in (0.8, 2.0):
        covered = 0
        for _ in range(4000):
            values = draw.normal(0, deviation, 400)
            n = arrays_for([values[:5]], 1.0, 400)
            result = _result(values[:n])
            assert (result.ci95 or 0) <= 1.0 or n == 400
            covered += abs(result.mean) <= (result.ci95 or 0)
        assert covered / 4000 >= 0.94


def _result(values: np.ndarray) -> Result:
    return Result(at_seconds=0.0, values=tuple(map(float, values)), pilot=5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reads": 0}, "reads must be an integer"),
        ({"precision": 0.0}, "precision must be a number"),
        ({"precision": float("nan")}, "precision must be a number"),
        ({"precision": 0.1, "trials": 4}, "trials of at least 5"),
        ({"max_trials": 0}, "max_trials"),
        ({"trials": 0}, "trials must be"),
    ],
)
def test_plans_that_are_wrong(model: nn.Module, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        evaluate(SPEC, model, total, at=0, progress=False, **given)


def test_metrics_that_measure_wrongly(model: nn.Module) -> None:
    class Odd:
        name = "odd"

        def __call__(self, subject: Any) -> float:
            return 0.0

        def measure(self, subject: Any) -> dict[str, float]:
            return {"other": 1.0}

    with pytest.raises(SpecError, match="must return 'odd'"):
        evaluate(SPEC, model, Odd(), at=0, trials=1, progress=False)


def test_a_metric_may_change_what_it_is_given(model: nn.Module) -> None:
    """Weights and buffers of the network itself stay as they are, and each read starts from its own."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def greedy(subject: nn.Module) -> float:
        value = total(subject)
        with torch.no_grad():
            for tensor in (*subject.parameters(), *subject.buffers()):
                tensor.zero_()
        return value

    found = evaluate(SPEC, model, greedy, at=[0, "1 year"], trials=2, progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert found == evaluate(SPEC, model, _named(total, "greedy"), at=[0, "1 year"], trials=2, progress=False)
    prepared = ms.prepare(model, SPEC)
    again = evaluate(SPEC, model, greedy, at=[0, "1 year"], trials=2, prepared=prepared, progress=False)
    assert again == found


def _named(metric: Any, name: str) -> Any:
    def call(subject: Any) -> float:
        return float(metric(subject))

    call.__name__ = name
    return call


def test_probe(model: nn.Module) -> None:
    probe = Probe(model)
    assert all(
        a.data_ptr() == b.data_ptr() for a, b in zip(model.parameters(), probe.subject.parameters(), strict=True)
    )
    state = {name: tensor.clone() + 1 for name, tensor in model.state_dict().items()}
    probe.load(state)
    assert total(probe.subject) != total(model)
    probe.release()
    assert total(probe.subject) == total(model)
    for wrong, message in (
        ({k: v for k, v in state.items() if k != "0.bias"}, "lacks 0.bias"),
        ({**state, "more": torch.zeros(1)}, "no more"),
        ({**state, "0.bias": torch.zeros(3)}, "0.bias has shape"),
    ):
        with pytest.raises(TensorError, match=message):
            probe.load(wrong)
    # Tied weights stay tied; parametrised ones are reached through their parametrisation.
    tied = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    tied[1].weight = tied[0].weight
    evaluate(SPEC, tied, total, at=0, trials=2, progress=False)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    found = evaluate(SPEC, normed, total, at=0, trials=2, progress=False)
    assert found.compressed == pytest.approx(found.clean)


@pytest.mark.parametrize("by", ["tensor", "layer"])
def test_attribution(tmp_path: Path, model: nn.Module, metric: Accuracy, by: str) -> None:
    """The layer whose weights are kept exactly costs nothing; a layer judged alone is as if only it were read."""
    spec = ms.StorageSpec(protect=(ms.Sign(),), exact=("3.*",))
    found = attribute(spec, model, metric, at="1 year", trials=2, by=by, progress=False)
    names = [cost.name for cost in found.costs]
    assert not any(name.startswith("3") for name in names)
    assert set(names) == ({"0", "2"} if by == "layer" else {"0.weight", "0.bias", "2.weight", "2.bias"})
    assert [cost.cost for cost in found.costs] == sorted((cost.cost for cost in found.costs), reverse=True)
    assert found.exact == (1 if by == "layer" else 5)
    whole = evaluate(spec, model, metric, at="1 year", trials=2, progress=False)
    assert found.together.lost == pytest.approx([1.0 - value for value in whole.results[0].values])
    assert found.together.kl == pytest.approx(whole.results[0].also["kl"])
    name = "0" if by == "layer" else "0.weight"
    cost = next(cost for cost in found.costs if cost.name == name)
    read = ms.store(model, spec, seed=0).load(at="1 year", event=0)
    alone = network()
    alone.load_state_dict({n: t if n.startswith(name) else model.state_dict()[n] for n, t in read.items()})
    assert cost.kl[0] == pytest.approx(metric.against(model).measure(alone)["kl"])
    assert cost.weights == sum(t.numel() for n, t in read.items() if n.startswith(name))
    assert 3 < cost.sdr_db < 40
    assert found.costs[0].name in print_table(found.table())
    found.plot(tmp_path / "costs.png")
    assert (tmp_path / "costs.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads(found.to_json(tmp_path / "costs.json"))["schema"] == "memristore.attribution"


def test_attribution_without_networks_and_noise(model: nn.Module) -> None:
    weights = {"a": torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), "b": torch.ones(3)}
    found = attribute(
        SPEC, weights, lambda state: -float((state["a"] - weights["a"]).square().sum()), trials=1, progress=False
    )
    assert [cost.name for cost in found.costs] == ["a"]
    assert found.costs[0].kl == ()
    assert found.costs[0].lost == found.together.lost
    assert found.costs[0].lost[0] > 0
    found.plot()
    ideal = attribute(ms.StorageSpec(device="ideal", exact=("*",)), model, total, trials=1, progress=False)
    assert (ideal.costs, ideal.together.sdr_db) == ((), 200.0)
    ideal.plot()
    print_table(ideal.table())
    for given, message in (({"by": "channel"}, "by must be one of"), ({"trials": 0}, "trials must be")):
        with pytest.raises(SpecError, match=message):
            attribute(SPEC, model, total, progress=False, **given)
