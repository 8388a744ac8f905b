"""Fine-tuning inside the search: rounds, goals, teachers, what is refused."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import memristore as ms
from memristore.cli import app
from memristore.errors import SpecError
from memristore.evaluate.fit_calibrate import folded
from memristore.evaluate.fit_families import Tensor, quantised, tensors_of
from memristore.evaluate.fit_finetune import Tuning, one_cycle
from memristore.evaluate.fit_search import Point, Search
from memristore.evaluate.tasks import Images
from memristore.evaluate.tasks.augment import Batches as AugmentedBatches
from memristore.evaluate.weights import write_weights
from memristore.train import GridQuantizer
from system.sums import Batches, accuracy, answers, trained

BASE = ms.StorageSpec(device="pcm-ibm-90nm", retention="1 year")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained()


class Agreement:
    """Share of answers that are right."""

    name, unit = "accuracy", "fraction"

    def __call__(self, model: nn.Module) -> float:
        return accuracy(model)


def searched(model: nn.Module) -> tuple[Search, list[Tensor], Point]:
    """What `fit` would search with, and a recipe to begin with."""
    search = Search(
        model, Agreement(), None, divergence=None, at=BASE.retention_seconds, trials=1, seed=0, progress=False,
        report=lambda line: None, threads=0,
    )  # fmt: skip
    tensors = tensors_of(model, BASE)
    return search, tensors, search.point(quantised(BASE, tensors, {t.name: 0.0 for t in tensors}, "plain"), 14.0)


def test_a_round_for_as_many_cells_keeps_the_grid(model: nn.Module) -> None:
    seen: list[dict[str, float]] = []

    class Looking(Tuning):
        def _train(self, quantizer: GridQuantizer, batches: Any, number: int) -> None:
            seen.append(dict(quantizer.steps))
            super()._train(quantizer, batches, number)

    search, tensors, start = searched(model)
    settings = ms.Finetune(loader=lambda r: Batches(seed=5 + r), rounds=4, price=0.1, rate=0.01)
    tuning = Looking(search, BASE, tensors, {t.name: 1.0 for t in tensors}, settings)
    # Shares of the bound, one for each ratio of the vectors: near misses ask for as many cells again, a hit for fewer.
    shares = iter([2.0] * 3 + [1.5] * 3 + [0.1, 5.0])
    (found,) = tuning.run(start, lambda point: next(shares, 5.0))
    assert len(seen) == 4
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert found.name.startswith("fine-tuned on a grid, round 3")
    assert found.cells < start.cells


def test_fit_with_fine_tuning_takes_fewer_cells(model: nn.Module) -> None:
    batches = list(Batches(512).inputs.chunk(2))
    settings = ms.Finetune(loader=lambda r: list(Batches(seed=5 + r)) * 6, rounds=3, price=0.1, rate=0.01)
    given = {"batches": batches, "trials": 2, "baselines": False, "progress": False, "finetune": settings}
    judge, device = Agreement(), "pcm-ibm-90nm"
    found = ms.fit(model, device, judge, "1 year", max_drop=0.0, **given)
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
    again.load_state_dict(stored.load(at="1 year"))
    assert accuracy(again) == pytest.approx(found.evaluation.results[0].mean)


def test_fit_with_fine_tuning_keeps_a_budget(model: nn.Module) -> None:
    batches = list(Batches(512).inputs.chunk(2))
    settings = ms.Finetune(loader=lambda r: list(Batches(seed=5 + r)) * 6, rounds=2, price=0.1, rate=0.01)
    found = ms.fit(
        model, "pcm-ibm-90nm", Agreement(), "1 year", budget=1.45, batches=batches, trials=1, baselines=False,
        progress=False, finetune=settings,
    )  # fmt: skip
    assert found.cells_per_weight <= 1.45
    assert found.evaluation.scheme.startswith("fine-tuned on a grid")


def test_the_teacher_is_who_is_listened_to(model: nn.Module) -> None:
    """A teacher of the opposite opinion, and no labels: its answers are learnt."""
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in list(teacher.parameters())[-2:]:
            parameter.neg_()
    inputs = Batches(512).inputs
    wanted = answers(teacher, inputs)
    agreed = []
    for whom in (None, teacher):
        settings = ms.Finetune(
            loader=lambda r: list(Batches(seed=5 + r)) * 12, price=0.01, rate=0.1, kl=1.0, teacher=whom
        )
        search, tensors, start = searched(model)
        tuning = Tuning(search, BASE, tensors, {t.name: 1.0 for t in tensors}, settings)
        (found,) = tuning.run(start, lambda point: 0.0, start.cells)
        agreed.append(float((answers(found.network, inputs) == wanted).float().mean()))
    assert agreed[0] < 0.1
    assert agreed[1] > 0.6


def test_fine_tuning_needs_a_network_and_data(model: nn.Module) -> None:
    for wrong, message in (
        ({"loader": 3}, "loader"),
        ({"loader": list, "rounds": 0}, "rounds"),
        ({"loader": list, "goal": 0.0}, "goal"),
        ({"loader": list, "price": 0.0}, "price"),
        ({"loader": list, "teacher": model.state_dict()}, "teacher"),
    ):
        with pytest.raises(SpecError, match=message):
            ms.Finetune(**wrong)
    fit = functools.partial(ms.fit, retention="1 year", budget=2.0, baselines=False, progress=False, trials=1)
    good = ms.Finetune(loader=lambda r: Batches())
    batches = [Batches(64).inputs]
    for network, given, settings, message in (
        (model, None, good, "give batches"),
        (model.state_dict(), batches, good, "give the network"),
        (nn.BatchNorm1d(32), batches, good, "no tensor of two"),
        (model, batches, ms.Finetune(loader=lambda r: iter(Batches())), "need a length"),
        (model, batches, ms.Finetune(loader=good.loader, teacher=nn.Linear(32, 99)), r"answers in shape \(\d+, 99\)"),
        (model, batches, ms.Finetune(loader=good.loader, teacher=nn.Linear(5, 4)), "does not take"),
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
    assert float(folded_network[1].weight.detach().abs().max()) < 100
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
    file = tmp_path / "net.safetensors"
    write_weights(nn.Linear(8, 8).state_dict(), file)
    refused = CliRunner().invoke(app, ["fit", str(file), "--budget", "2", "--finetune", "100"])
    assert refused.exit_code == 2
    assert "give --task" in refused.output
