"""Training with weights on a grid: levels, prices, checkpoints, what storing makes of them, the search that uses it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import memristore as ms
from memristore.cli import app
from memristore.errors import SpecError, TensorError
from memristore.evaluate.fit_calibrate import folded
from memristore.evaluate.fit_families import quantised, tensors_of
from memristore.evaluate.fit_finetune import Tuning, one_cycle
from memristore.evaluate.fit_search import Search
from memristore.evaluate.tasks import Images
from memristore.evaluate.tasks.augment import Batches as AugmentedBatches
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
        start = nn.Sequential(nn.Linear(32, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 4))
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
    # Two neighbouring levels differ by the price of the bits between them: rare ones in their row or column are dear.
    steepness = (pull * weight.detach().sign()).double().numpy() * quantizer.steps["0.weight"] / 1e-3
    levels = quantizer.levels(weight.detach(), quantizer.steps["0.weight"]).abs().double().numpy()
    kept = (levels > 0).astype(float)
    mean = (kept.sum() + 0.5) / (kept.size + 1)

    def logit(count: Any, of: int) -> Any:
        share = (count + 4 * mean) / (of + 4)
        return np.log(share / (1 - share))

    own = logit(kept.sum(1, keepdims=True), 32) + logit(kept.sum(0, keepdims=True), 256) + logit(kept.sum(), kept.size)
    base = np.log(mean / (1 - mean))
    ones = ((levels == 1).sum() + 1) / (kept.sum() + 1)
    bits = 1 - np.log2(ones) - (own - 2 * base) / np.log(2)
    assert bits.std() > 0.1
    np.testing.assert_allclose(steepness, np.maximum(bits, 0), atol=1e-4)


def test_a_goal_is_met_from_prices_ten_times_apart(model: nn.Module) -> None:
    before = GridQuantizer(model, 8.0).bits(model)
    for price in (1e-5, 1e-4):
        goal = 0.7 * before
        trained = tuned(model, Batches(), sdr=8.0, epochs=12, price=price, goal=goal, calls=12 * len(Batches()))
        assert trained.history[-1]["bits"] == pytest.approx(goal, rel=0.1)
        assert trained.history[0]["bits"] > 1.1 * goal
        assert accuracy(trained.model) > 0.8


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


def test_another_grid_does_not_continue_a_run(model: nn.Module, tmp_path: Path) -> None:
    run = functools.partial(tuned, model, Batches(), epochs=1, checkpoint=tmp_path / "run.pt")
    run(sdr=6.0)
    for other in ({"sdr": 9.0}, {"sdr": 6.0, "price": 1e-4}, {"sdr": 6.0, "threshold": 0.55}):
        with pytest.raises(SpecError, match="another"):
            run(resume=True, **other)


def test_steps_of_wide_kernels_are_those_of_all_taps() -> None:
    """Corners, edges and centres differ in spread: regular samples would see one tap only."""
    torch.manual_seed(1)
    kernel = nn.Conv2d(128, 128, 3)
    with torch.no_grad():
        kernel.weight.normal_().mul_(torch.tensor([[0.5, 1, 0.5], [1, 2, 1], [0.5, 1, 0.5]]))
    quantizer = GridQuantizer(kernel, 8.0)
    weight = kernel.weight.detach()
    error = (quantizer(kernel)["weight"].detach() - weight).square().mean()
    assert 10 * float(torch.log10(weight.var() / error)) == pytest.approx(8.0, abs=0.3)
    sparse = nn.Linear(600, 600)
    with torch.no_grad():
        sparse.weight.zero_()
        sparse.weight[:, 1].normal_()
    assert bool(GridQuantizer(sparse, 8.0)(sparse)["weight"].isfinite().all())
    with torch.no_grad():
        sparse.weight.fill_(0.5)
    with pytest.raises(SpecError, match="no tensor"):
        GridQuantizer(sparse, 8.0)


def test_modules_used_twice_and_half_precision() -> None:
    torch.manual_seed(2)
    shared = nn.Linear(32, 32)
    twice = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(32, 4))
    before = shared.weight.detach().clone()
    trained = tuned(twice, Batches(), epochs=1)
    assert isinstance(trained.model[0].weight, nn.Parameter)  # type: ignore[index]
    assert trained.model[0] is trained.model[2]  # type: ignore[index]
    assert not torch.equal(trained.model[0].weight, before)  # type: ignore[index]
    assert torch.equal(copy.deepcopy(trained.model)[0].weight, trained.model[0].weight)  # type: ignore[index]
    tied = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 4))
    tied[1].weight = tied[0].weight
    both = tuned(tied, Batches(), epochs=1).model
    assert both[0].weight is both[1].weight  # type: ignore[index]
    assert not torch.equal(both[1].weight, tied[1].weight)  # type: ignore[index]
    half = nn.Linear(1024, 512).half()
    assert bool(GridQuantizer(half, 8.0, price=1e-5).penalty(half).isfinite())


def test_bad_input_is_refused(model: nn.Module) -> None:
    for wrong in (
        {"sdr": 0.0},
        {"sdr": [("a", "b")]},
        {"sdr": [3]},
        {"price": -1.0},
        {"threshold": 0.4},
        {"goal": 100.0},
        {"calls": 10},
        {"goal": -1.0, "calls": 5},
        {"goal": 9.0, "calls": 5, "price": 0},
    ):
        with pytest.raises(SpecError, match="quantized"):
            GridQuantizer(model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="no tensor"):
        GridQuantizer(nn.BatchNorm1d(4))
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(TensorError, match=r"0.weight.*not finite"):
        GridQuantizer(broken)


def test_a_grid_can_be_gone_on_with(model: nn.Module) -> None:
    first = GridQuantizer(model, 5.0)
    trained = copy.deepcopy(model)
    first.settle(trained)
    again = GridQuantizer(trained, steps=first.steps)
    assert again.steps == first.steps
    assert again.bits(trained) == first.bits(trained)
    again.settle(trained)
    assert torch.equal(trained[0].weight, first(model)["0.weight"])  # type: ignore[index]
    one = GridQuantizer(model, steps={"3.weight": 0.1})
    assert one.steps == {"3.weight": float(np.float32(0.1))}
    for wrong, message in (({"0.bias": 0.1}, "0.bias"), ({"3.weight": 0.0}, "3.weight"), ({}, "no tensor")):
        with pytest.raises(SpecError, match=message):
            GridQuantizer(model, steps=wrong)


def test_a_round_for_as_many_cells_keeps_the_grid(model: nn.Module) -> None:
    seen: list[dict[str, float]] = []

    class Looking(Tuning):
        def _train(self, quantizer: GridQuantizer, batches: Any, number: int) -> None:
            seen.append(dict(quantizer.steps))
            super()._train(quantizer, batches, number)

    base = ms.StorageSpec(device="pcm-ibm-90nm", retention="1 year")
    search = Search(
        model, Agreement(), None, divergence=None, at=base.retention_seconds, trials=1, seed=0, progress=False,
        report=lambda line: None, threads=0,
    )  # fmt: skip
    tensors = tensors_of(model, base)
    start = search.point(quantised(base, tensors, {t.name: 0.0 for t in tensors}, "plain"), 14.0)
    settings = ms.Finetune(loader=lambda r: Batches(seed=5 + r), rounds=4, price=0.1, rate=0.01)
    tuning = Looking(search, base, tensors, {t.name: 1.0 for t in tensors}, settings)
    # Shares of the bound, one for each ratio of the vectors: near misses ask for as many cells again, a hit for fewer.
    shares = iter([2.0] * 3 + [1.5] * 3 + [0.1, 5.0])
    (found,) = tuning.run(start, lambda point: next(shares, 5.0))
    assert len(seen) == 4
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert found.name.startswith("fine-tuned on a grid, round 3")
    assert found.cells < start.cells


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
    found = ms.fit(model, device, judge, "1 year", max_drop=0.0, **given)  # type: ignore[arg-type]
    assert found.drop <= 0.0
    assert found.evaluation.scheme.startswith("fine-tuned on a grid")
    assert found.spec.bits == ms.Densest()
    plain = [row for row in found.front if not row.scheme.startswith("fine-tuned")]
    enough = [row.cells_per_weight for row in plain if row.clean - row.results[0].mean <= 0.0]
    assert found.cells_per_weight < 0.9 * min(enough)
    assert 0 < found.limit_cells < found.cells_per_weight
    # What is handed on is the network that was judged.
    stored = ms.store(found.network, found.spec, seed=5)
    again = copy.deepcopy(found.network)
    again.load_state_dict(stored.load(at="1 year"))  # type: ignore[union-attr]
    assert accuracy(again) == pytest.approx(found.evaluation.results[0].mean)  # type: ignore[arg-type]


def test_fit_with_fine_tuning_keeps_a_budget(model: nn.Module) -> None:
    batches = list(Batches(512).inputs.chunk(2))
    settings = ms.Finetune(loader=lambda r: list(Batches(seed=5 + r)) * 6, rounds=2, price=0.1, rate=0.01)
    found = ms.fit(
        model, "pcm-ibm-90nm", Agreement(), "1 year", budget=1.45, batches=batches, trials=1, baselines=False,
        progress=False, finetune=settings,
    )  # fmt: skip
    assert found.cells_per_weight <= 1.45
    assert found.evaluation.scheme.startswith("fine-tuned on a grid")


def test_fine_tuning_needs_a_network_and_data(model: nn.Module) -> None:
    for wrong, message in (
        ({"loader": 3}, "loader"),
        ({"loader": list, "rounds": 0}, "rounds"),
        ({"loader": list, "goal": 0.0}, "goal"),
        ({"loader": list, "price": 0.0}, "price"),
    ):
        with pytest.raises(SpecError, match=message):
            ms.Finetune(**wrong)  # type: ignore[arg-type]
    fit = functools.partial(ms.fit, retention="1 year", budget=2.0, baselines=False, progress=False, trials=1)
    good = ms.Finetune(loader=lambda r: Batches())
    batches = [Batches(64).inputs]
    for network, given, settings, message in (
        (model, None, good, "give batches"),
        (model.state_dict(), batches, good, "give the network"),
        (nn.BatchNorm1d(32), batches, good, "no tensor of two"),
        (model, batches, ms.Finetune(loader=lambda r: iter(Batches())), "need a length"),
    ):
        with pytest.raises(SpecError, match=message):
            fit(network, batches=given, finetune=settings)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 400])
def test_the_rate_rises_and_falls(steps: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    course = one_cycle(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step()
    assert min(rates) > 0
    assert max(rates) <= 2.0
    assert steps < 10 or rates[-1] < 0.1 * max(rates)


def test_channels_that_say_nothing_are_folded_away() -> None:
    """A kernel of zeros: variance 0 would make its scale huge, and coarse levels of all other scales."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    with torch.no_grad():
        network[0].weight[2].zero_()
        network[0].bias.zero_()
    images = torch.randn(64, 3, 8, 8)
    network[1].momentum = None
    network(images)
    folded_network = folded(network.eval())
    assert float(folded_network[1].weight.detach().abs().max()) < 100  # type: ignore[index]
    assert torch.allclose(folded_network(images).detach(), network(images).detach(), atol=1e-5)


def test_batches_are_shifted_and_repeat() -> None:
    images = Images(torch.arange(2 * 3 * 64.0).reshape(2, 3, 8, 8), torch.tensor([0, 1]))
    made = functools.partial(AugmentedBatches, data=images, count=10, batch=4, reach=1, flip=True, seed=3)
    first, again, other = list(made(epoch=1)), list(made(epoch=1)), list(made(epoch=2))
    assert [len(y) for _, y in first] == [4, 4, 2]
    assert len(made()) == 3
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))
    still = AugmentedBatches(data=images, count=6, batch=6)
    ((x, y),) = list(still)
    assert torch.equal(x, images.images[y])
    bytes_ = Images(images.images.to(torch.uint8), images.labels, (1.0, 2.0, 3.0), (0.5, 0.5, 0.5))
    ((x, y),) = list(AugmentedBatches(data=bytes_, count=6, batch=6))
    assert torch.equal(x, (images.images.to(torch.uint8).float()[y] - torch.tensor([1.0, 2, 3])[:, None, None]) * 0.5)


def test_the_command_names_what_it_lacks(tmp_path: Path) -> None:
    from memristore.evaluate.weights import write_weights

    file = tmp_path / "net.safetensors"
    write_weights(nn.Linear(8, 8).state_dict(), file)
    refused = CliRunner().invoke(app, ["fit", str(file), "--budget", "2", "--finetune", "100"])
    assert refused.exit_code == 2
    assert "name a task" in refused.output
