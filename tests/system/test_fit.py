"""The search for the cheapest recipe: bounds are kept, families compete, results travel."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memristore as ms
from memristore.allocate import sensitivity
from memristore.errors import SpecError
from memristore.evaluate import Comparison
from memristore.evaluate.fit_families import (
    LEAST_SDR,
    SMALL_SDR,
    Tensor,
    analog_families,
    gains_of,
    quantised,
    ratios,
    sparsities,
    tensors_of,
)
from memristore.evaluate.fit_hunt import Hunt
from memristore.evaluate.fit_measure import LEVELS, Costs
from memristore.evaluate.fit_search import Divergence, Remembered, Search
from memristore.evaluate.sdr import Sdr
from memristore.storage import prepare
from memristore.train import prune_and_finetune

DEVICE, YEAR = "pcm-ibm-90nm", "1 year"
BASE = ms.StorageSpec(device=DEVICE, retention=YEAR)


def network(n: int = 48) -> nn.Sequential:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 10))
    with torch.no_grad():
        model[0].weight.mul_(4)
    return model.eval()


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(6)
    return [torch.randn(64, 48) for _ in range(2)]


class Agreement:
    """Share of answers that are those of the network."""

    name, unit = "agreement", "fraction"

    def __init__(self, model: nn.Module, seed: int = 7) -> None:
        torch.manual_seed(seed)
        self.x, self.calls = torch.randn(1000, 48), 0
        self.wanted = model(self.x).argmax(1)

    def __call__(self, model: nn.Module) -> float:
        self.calls += 1
        with torch.inference_mode():
            return float((model(self.x).argmax(1) == self.wanted).float().mean())


@pytest.fixture(scope="module")
def fitted() -> ms.FitResult:
    model = network()
    return ms.fit(
        model, DEVICE, Agreement(model), YEAR, max_drop=0.08, batches=inputs(), holdout=Agreement(model, seed=8),
        trials=2, progress=False,
    )  # fmt: skip


def fitted_copy(found: ms.FitResult) -> nn.Module:
    copy = network()
    copy.load_state_dict(ms.store(found.network, found.spec, seed=11).load(at=YEAR))
    return copy


def test_the_bound_is_kept_with_fewer_cells_than_every_plain_format(fitted: ms.FitResult) -> None:
    assert 0 <= fitted.drop <= 0.08
    assert fitted.evaluation.results[0].at_seconds == 31_536_000
    assert fitted.evaluation.results[0].trials == 2
    formats = {row.scheme: row.cells_per_weight for row in fitted.front if row.scheme.split(",")[0] in ("fp32", "int8")}
    assert len(formats) == 6
    # Tables, scales and reference cells weigh on a network of 2,842 weights.
    assert min(formats.values()) > 1.5 * fitted.cells_per_weight
    # The plain quantiser is placed by the same metric and is never beaten by a dearer winner.
    plain = [row for row in fitted.front if row.scheme.startswith("quantised, equal SDR")]
    enough = [row.cells_per_weight for row in plain if row.clean - row.results[0].mean <= 0.08]
    assert enough
    assert min(enough) >= fitted.cells_per_weight
    assert 0 < fitted.limit_cells < fitted.cells_per_weight


def test_the_recipe_stores_the_network_and_gives_what_it_promised(fitted: ms.FitResult) -> None:
    model = network()
    again = ms.StorageSpec.from_dict(json.loads(json.dumps(fitted.spec.to_dict())))
    stored = ms.store(model, again, seed=11)
    assert stored.cells_per_weight == pytest.approx(fitted.cells_per_weight, rel=1e-6)
    judge = Agreement(model)
    copy = network()
    copy.load_state_dict(stored.load(at=YEAR))
    # Bits come back as they were on any array.
    assert judge(copy) == pytest.approx(fitted.evaluation.results[0].mean)


def test_the_result_is_judged_by_data_that_the_search_did_not_see(fitted: ms.FitResult) -> None:
    assert fitted.holdout is not None
    unseen = Agreement(network(), seed=8)
    result = fitted.holdout.results[0]
    assert (fitted.holdout.scheme, fitted.holdout.clean) == (fitted.evaluation.scheme, 1.0)
    assert result.mean == pytest.approx(unseen(fitted_copy(fitted)))
    assert result.mean != fitted.evaluation.results[0].mean
    assert any("did not see" in line and "points below" in line for line in fitted.sentences())
    assert fitted.to_dict()["holdout"]["results"][0]["mean"] == result.mean


def test_the_front_travels_as_json_and_picture(fitted: ms.FitResult, tmp_path: Path) -> None:
    document = json.loads(fitted.to_json(tmp_path / "fit.json"))
    assert document["schema"] == "memristore.fit"
    assert document["best"] in {row["scheme"] for row in document["rows"]}
    rows = Comparison.from_dict(document | {"schema": "memristore.evaluation"})
    assert len(rows) == len(fitted.front)
    fitted.plot(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    assert fitted.evaluation.scheme in {row.scheme for row in fitted.pareto}
    means = [row.results[0].mean for row in fitted.pareto]
    assert means == sorted(means)
    assert any("int8" in sentence for sentence in fitted.sentences())
    # Every family was judged in full, or it is said why not.
    judged = {row.scheme for row in fitted.front}
    for family in analog_families(BASE, {"0.weight": 1.0}):
        why = dict(fitted.left_out).get(family.name, "")
        assert any(s.startswith(family.name) for s in judged) or "takes" in why or "loses" in why


def test_a_budget_is_kept_and_more_of_it_is_better() -> None:
    model = network()
    found = [
        ms.fit(model, DEVICE, retention=YEAR, budget=cells, trials=2, baselines=False, progress=False)
        for cells in (1.2, 2.4)
    ]
    for result, cells in zip(found, (1.2, 2.4), strict=True):
        assert 0.97 * cells < result.cells_per_weight <= cells
        assert result.evaluation.metric.unit == "dB"
    # Six decibels for a bit, two bits a cell: 14 dB for 1.2 cells.
    gained = found[1].evaluation.results[0].mean - found[0].evaluation.results[0].mean
    assert gained == pytest.approx(14, abs=2)


def test_no_recipe_meets_the_bound() -> None:
    model = network()
    with pytest.raises(SpecError, match=r"no recipe of those searched takes 0.001 cells.*closest, quantised"):
        ms.fit(model, DEVICE, retention=YEAR, budget=0.001, progress=False)
    # An exact copy has 200 dB, quantised values never do.
    with pytest.raises(SpecError, match=r"no recipe loses at most 1 dB.*closest, quantised.*loses"):
        ms.fit(model, DEVICE, retention=YEAR, max_drop=1.0, progress=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give max_drop"),
        ({"max_drop": 0.1, "budget": 1.0}, "give max_drop"),
        ({"max_drop": -0.1}, "max_drop must be"),
        ({"budget": 0.0}, "budget must be"),
        ({"budget": 1.0, "trials": 0}, "trials must be"),
        ({"budget": 1.0, "batches": []}, "at least one"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ms.fit(network(), DEVICE, retention=YEAR, progress=False, **given)


def test_batches_need_a_network() -> None:
    with pytest.raises(SpecError, match="need a network"):
        ms.fit(network().state_dict(), DEVICE, retention=YEAR, budget=1.0, batches=inputs(), progress=False)


def test_water_filling_equalises_the_loss_of_each_value() -> None:
    """Distortion times sensitivity is the same for all tensors that are neither clipped nor vectors."""
    tensors = [Tensor("a", "a", 1000, 4.0, 2), Tensor("b[0]", "b[0]", 3000, 0.25, 2), Tensor("c", "c", 10, 1.0, 1)]
    weights = {"a": 2.0, "b[0]": 0.5, "c": 1.0}
    rules = ratios(tensors, gains_of(tensors, weights, 1.0), 20.0)
    found = dict(rules)
    assert found["*"] == SMALL_SDR
    loss_a = weights["a"] * tensors[0].variance * 10 ** (-found["a"] / 10)
    loss_b = weights["b[0]"] * tensors[1].variance * 10 ** (-found["b[[]0]"] / 10)
    assert loss_a == pytest.approx(loss_b, rel=1e-3)
    assert (1000 * found["a"] + 3000 * found["b[[]0]"]) / 4000 == pytest.approx(20.0, abs=2e-3)
    assert min(dict(ratios(tensors, gains_of(tensors, weights, 1.0), -20.0)).values()) >= LEAST_SDR
    equal = dict(ratios(tensors, gains_of(tensors, None, None), 20.0))
    assert equal["a"] == equal["b[[]0]"] == 20.0


@pytest.mark.parametrize(("share", "found"), [(0.0, [0.3, 0.5]), (0.5, [0.65, 0.75]), (0.9, [0.93, 0.95])])
def test_pruning_takes_its_share_of_what_is_left(share: float, found: list[float]) -> None:
    model = network()
    if share:
        model = prune_and_finetune(model, ms.Prune(sparsity=share), lambda model, step: None, steps=1)
    tensors = tensors_of(model, BASE)
    assert sparsities(tensors) == pytest.approx(found, abs=2e-4)
    for sparsity in sparsities(tensors):
        family = quantised(BASE, tensors, gains_of(tensors, None, None), "", sparsity)
        prune = family.spec(40.0).compress[0]
        state = prepare(model, replace(BASE, compress=(prune,))).decode_clean()
        zeros = sum(int((state[name] == 0).sum()) for name in ("0.weight", "2.weight"))
        assert zeros == pytest.approx(sparsity * (48 * 48 + 480), abs=2)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_next_to_nothing_is_not_pruned_further(left: int) -> None:
    state = {"w": torch.zeros(300, 100), "b": torch.randn(4096)}
    state["w"][0, :left] = 1.0
    assert sparsities(tensors_of(state, BASE)) == []
    found = ms.fit(state, DEVICE, retention=YEAR, budget=4.0, trials=1, baselines=False, progress=False)
    assert found.cells_per_weight <= 4.0


def test_a_budget_that_only_analog_cells_meet() -> None:
    """Vectors take 35 dB or more as bits, and a cell for each value else."""
    torch.manual_seed(3)
    state = {"w": torch.randn(16, 16), "norm.weight": torch.randn(8000)}
    found = ms.fit(state, DEVICE, retention=YEAR, budget=1.5, trials=1, baselines=False, progress=False)
    assert found.cells_per_weight <= 1.5
    assert found.spec.compress == ()
    assert dict(found.left_out)["quantised, equal SDR"].startswith("takes more")


def test_sensitivities_that_no_sample_touched_are_not_zero() -> None:
    tensors = [Tensor("a", "a", 100, 1.0, 2), Tensor("b", "b", 100, 1.0, 2)]
    gains = gains_of(tensors, {"a": 1.0, "b": 0.0}, 1.0)
    assert gains["b"] == pytest.approx(-30.0)


def test_divergence_is_the_sensitivities_prediction_for_small_errors() -> None:
    """Second order: KL = sum of s * e**2 over independent errors; 20 draws, spread under 15 %."""
    model = network()
    batches = inputs()
    divergence = Divergence(model, batches)
    clean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    assert divergence(clean) == pytest.approx(0.0, abs=1e-7)
    weights = dict(sensitivity.per_tensor(sensitivity.kl(model, batches, draws=32, progress=False)))
    name, size, deviation = "2.weight", clean["2.weight"].numel(), 0.01
    torch.manual_seed(8)
    noise = [deviation * torch.randn(clean[name].shape) for _ in range(20)]
    found = sum(divergence({**clean, name: clean[name] + e}) for e in noise) / 20
    assert found == pytest.approx(weights[name] * size * deviation**2, rel=0.15)


def test_same_weights_are_judged_once() -> None:
    model = network()
    judge = Agreement(model)
    remembered = Remembered(judge)
    assert remembered(model) == remembered(network()) == 1.0
    assert judge.calls == 1
    with torch.no_grad():
        model[0].bias.add_(1e-3)
    remembered(model)
    assert judge.calls == 2


def search(model: nn.Module) -> Search:
    return Search(
        model, Sdr(model), None, divergence=None, at=31_536_000.0, trials=2, seed=0, progress=False,
        report=lambda line: None, threads=0,
    )  # fmt: skip


def test_knobs_fill_cells_and_meet_bounds() -> None:
    model = network()
    looked, tensors = search(model), tensors_of(model, BASE)
    family = quantised(BASE, tensors, gains_of(tensors, None, 0.0), "equal error")
    filled = looked.filling(family, 1.5, 40.0)
    assert filled is not None
    assert filled.cells <= 1.5 < looked.point(family, filled.knob + 0.5).cells
    assert looked.filling(family, 0.01, 20.0) is None
    placed = looked.least(family, 40.0, 180.0, full=True)
    assert placed is not None
    # 20 dB over all weights, biases with their 35 dB included.
    assert looked.judge(placed, full=True).results[0].mean == pytest.approx(20.0, abs=0.3)
    assert looked.least(family, 40.0, 1.0, full=False) is None


def test_analog_families_are_recipes_that_store() -> None:
    model = network(24)
    looked = search(model)
    weights = {"0.weight": 1.0, "2.weight": 5.0}
    families = list(analog_families(BASE, weights))
    assert len({family.name for family in families}) == len(families) == 16
    for family in families[::3]:
        low, high = looked.point(family, family.low), looked.point(family, 2.0)
        assert high.cells > low.cells or family.low == family.high
        assert ms.StorageSpec.from_dict(low.spec.to_dict()) == low.spec
        assert math.isfinite(looked.judge(low, full=False).results[0].mean)


class Strict(Agreement):
    """Nothing but the network's very answers will do."""

    stricter = True

    def __call__(self, model: nn.Module) -> float:
        return float(super().__call__(model) == 1.0)


@pytest.mark.parametrize("stricter", [False, True])
def test_a_quick_measure_that_is_stricter_does_not_leave_analog_recipes_out(stricter: bool) -> None:
    model = network()
    quick = Strict(model)
    quick.stricter = stricter
    search = Search(
        model, Agreement(model), quick, divergence=None, at=BASE.retention_seconds, trials=2, seed=0, progress=False,
        report=lambda line: None, threads=0,
    )  # fmt: skip
    hunt = Hunt(search, BASE, None, 0.1, None)
    tensors = tensors_of(model, BASE)
    dear = search.point(quantised(BASE, tensors, gains_of(tensors, None, None), "plain"), 60.0)
    found = hunt._analog_for_drop(dear, 0.1)
    if stricter:
        assert found.cells < dear.cells
        assert search.holds(found, 0.1, full=True)
    else:
        # It is believed, until the full metric asks for more cells.
        assert found is dear
        assert "loses 100.00 points" in "".join(hunt.left_out.values())


def test_measured_costs_put_bits_where_errors_cost_most() -> None:
    bits = np.outer([1000.0, 1000.0], [0.7, 1.3, 2.2, 3.2])
    errors = 10 ** (-np.array(LEVELS) / 10)
    costs = Costs(("a", "b"), np.stack([100 * errors, errors]), bits)
    rules = dict(costs.rules(1e-4))
    # A hundred times the loss for the same error: 20 dB more.
    assert rules["a"] - rules["b"] == pytest.approx(20.0, abs=1.0)
    assert dict(costs.rules(1e-5))["b"] > rules["b"]
