"""Training with weights on a grid: levels, prices, checkpoints, what storing makes of them, the search that uses it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import memristore as ms
from memristore.cli import app
from memristore.errors import SpecError, TensorError
from memristore.train import GridQuantizer, quantized_finetune

SGD = functools.partial(torch.optim.SGD, lr=0.02, momentum=0.9)
tuned = functools.partial(quantized_finetune, optimizer=SGD, progress=False)


class Batches:
    """Vectors whose class is the largest of four sums."""

    def __init__(self, count: int = 4096, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(count, 32, generator=draw)
        self.labels = self.inputs.reshape(count, 4, 8).sum(2).argmax(1)

    def __len__(self) -> int:
        return 32

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from zip(self.inputs.chunk(32), self.labels.chunk(32), strict=True)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        start = nn.Sequential(nn.Linear(32, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 4))
    spec, adam = ms.StorageSpec(), functools.partial(torch.optim.Adam, lr=0.01)
    return ms.train.robust_finetune(
        start, spec, Batches(), epochs=12, noise=None, optimizer=adam, progress=False
    ).model  # fmt: skip


def accuracy(model: nn.Module) -> float:
    test = Batches(2000, seed=1)
    with torch.inference_mode():
        return float((model.eval()(test.inputs).argmax(1) == test.labels).float().mean())


def test_steps_leave_the_ratio_asked_for(model: nn.Module) -> None:
    quantizer = GridQuantizer(model, [["0.*", 6.0], ["3.*", 15]])
    seen = quantizer(model)
    assert set(seen) == {"0.weight", "3.weight"}
    for name, ratio in (("0.weight", 6.0), ("3.weight", 15.0)):
        weight = dict(model.named_parameters())[name].detach()
        error = (seen[name].detach() - weight).square().mean()
        found = 10 * torch.log10(weight.var(correction=0) / error)
        # The error of few values jumps with the step; it is met from above.
        assert ratio - 0.01 < float(found) < ratio + 1.0
    half = quantizer(model, 0.5)["0.weight"] - dict(model.named_parameters())["0.weight"]
    whole = seen["0.weight"] - dict(model.named_parameters())["0.weight"]
    assert torch.allclose(2 * half, whole, atol=1e-6)


def test_gradients_pass_straight_through_and_the_price_pulls_to_zero(model: nn.Module) -> None:
    copied = copy.deepcopy(model)
    quantizer = GridQuantizer(copied, 8.0, price=1e-3)
    quantizer(copied)["0.weight"].sum().backward()
    weight = dict(copied.named_parameters())["0.weight"]
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones_like(weight))
    weight.grad = None
    quantizer.penalty(copied).backward()
    pull = weight.grad
    assert pull is not None
    assert torch.equal(pull.sign(), weight.detach().sign())
    # Two neighbouring levels differ by the price of the bits between them.
    steepness = float(pull.abs().max()) * quantizer.steps["0.weight"] / 1e-3
    levels = quantizer.levels(weight.detach(), quantizer.steps["0.weight"]).abs()
    zero, one = int((levels == 0).sum()), int((levels == 1).sum())
    assert steepness == pytest.approx(1 + float(torch.log2(torch.tensor((zero + 1) / (one + 1)))), rel=1e-4)


def test_training_makes_up_for_a_coarse_grid_and_storing_keeps_it(model: nn.Module) -> None:
    rounded = copy.deepcopy(model)
    quantizer = GridQuantizer(model, 3.0)
    quantizer.settle(rounded)
    trained = tuned(model, Batches(), sdr=3.0, epochs=15, teacher=model)
    assert trained.history[-1]["bits"] > 0
    # 2,000 test vectors: the standard error of a difference is below one point; ten were seen.
    assert accuracy(trained.model) > accuracy(rounded) + 0.03
    for name in ("0.weight", "3.weight"):
        weight = dict(trained.model.named_parameters())[name].detach()
        step = quantizer.steps[name]
        assert torch.equal(weight, torch.round(weight / step) * step)
    recipe = ms.StorageSpec(compress=(ms.RateDistortion(sdr=35.0),), bits=ms.Densest(), retention="1 year")
    back = ms.store(trained.model, recipe, seed=1).load(at="1 year")
    assert torch.equal(back["0.weight"], trained.model.state_dict()["0.weight"])


def test_a_price_saves_bits_and_zeros_stay(model: nn.Module) -> None:
    pruned = ms.train.prune_and_finetune(model, ms.Prune(sparsity=0.5), lambda m, step: None, steps=1)
    free = tuned(pruned, Batches(), price=0.0, epochs=8)
    dear = tuned(pruned, Batches(), price=2e-4, epochs=8)
    assert dear.history[-1]["bits"] < 0.93 * free.history[-1]["bits"]
    assert bool((dear.model[0].weight[pruned[0].weight == 0] == 0).all())  # type: ignore[index]


def test_a_resumed_run_ends_like_an_undisturbed_one(model: nn.Module, tmp_path: Path) -> None:
    run = functools.partial(tuned, model, epochs=4)
    whole = run(Batches())

    class BrokenError(Exception):
        pass

    class Breaks(Batches):
        rounds = 0

        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            self.rounds += 1
            if self.rounds == 3:
                raise BrokenError
            yield from super().__iter__()

    with pytest.raises(BrokenError):
        run(Breaks(), checkpoint=tmp_path / "run.pt")
    resumed = run(Batches(), checkpoint=tmp_path / "run.pt", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    assert whole.history == resumed.history


def test_bad_input_is_refused(model: nn.Module) -> None:
    for wrong in ({"sdr": 0.0}, {"sdr": [("a", "b")]}, {"sdr": [3]}, {"price": -1.0}, {"threshold": 0.4}):
        with pytest.raises(SpecError, match="quantized"):
            GridQuantizer(model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="no tensor"):
        GridQuantizer(nn.BatchNorm1d(4))
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(TensorError, match=r"0.weight.*not finite"):
        GridQuantizer(broken)


class Agreement:
    """Share of answers that are right."""

    name, unit = "accuracy", "fraction"

    def __call__(self, model: nn.Module) -> float:
        return accuracy(model)


def test_fit_with_fine_tuning_takes_fewer_cells(model: nn.Module) -> None:
    batches = list(Batches(512).inputs.chunk(2))
    settings = ms.Finetune(loader=lambda r: list(Batches(seed=5 + r)) * 6, rounds=3, price=0.1, rate=0.01)
    given = {"batches": batches, "trials": 2, "baselines": False, "progress": False, "finetune": settings}
    judge, device = Agreement(), "pcm-ibm-90nm"
    found = ms.fit(model, device, judge, "1 year", max_drop=0.02, **given)  # type: ignore[arg-type]
    assert found.drop <= 0.02
    assert found.evaluation.scheme.startswith("fine-tuned on a grid")
    plain = [row for row in found.front if not row.scheme.startswith("fine-tuned")]
    enough = [row.cells_per_weight for row in plain if row.clean - row.results[0].mean <= 0.02]
    assert found.cells_per_weight < 0.9 * min(enough)
    assert 0 < found.limit_cells < found.cells_per_weight
    # What is handed on is the network that was judged.
    stored = ms.store(found.network, found.spec, seed=5)
    again = copy.deepcopy(found.network)
    again.load_state_dict(stored.load(at="1 year"))  # type: ignore[union-attr]
    assert accuracy(again) == pytest.approx(found.evaluation.results[0].mean)  # type: ignore[arg-type]


def test_fit_with_fine_tuning_keeps_a_budget(model: nn.Module) -> None:
    """Without training 1.1 cells leave a tenth less."""
    batches = list(Batches(512).inputs.chunk(2))
    settings = ms.Finetune(loader=lambda r: list(Batches(seed=5 + r)) * 6, rounds=2, price=0.1, rate=0.01)
    found = ms.fit(
        model, "pcm-ibm-90nm", Agreement(), "1 year", budget=1.1, batches=batches, trials=1, baselines=False,
        progress=False, finetune=settings,
    )  # fmt: skip
    assert found.cells_per_weight <= 1.1
    untrained = [row for row in found.front if not row.scheme.startswith("fine-tuned") and row.cells_per_weight <= 1.1]
    assert found.evaluation.results[0].mean > max(row.results[0].mean for row in untrained) + 0.02


def test_fine_tuning_needs_a_network_and_data(model: nn.Module) -> None:
    for wrong, message in (({"loader": 3}, "loader"), ({"loader": list, "rounds": 0}, "rounds")):
        with pytest.raises(SpecError, match=message):
            ms.Finetune(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="give batches"):
        ms.fit(model, retention="1 year", budget=2.0, baselines=False, progress=False, trials=1,
               finetune=ms.Finetune(loader=lambda r: Batches()))  # fmt: skip


def test_the_command_names_what_it_lacks(tmp_path: Path) -> None:
    from memristore.evaluate.weights import write_weights

    file = tmp_path / "net.safetensors"
    write_weights(nn.Linear(8, 8).state_dict(), file)
    refused = CliRunner().invoke(app, ["fit", str(file), "--budget", "2", "--finetune", "100"])
    assert refused.exit_code == 2
    assert "name a task" in refused.output
