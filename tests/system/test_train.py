"""Training through the channel: gradients, masks, checkpoints, mixed precision, distillation, the choice of a size."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

import memristore as ms
from memristore.errors import FileError, SpecError, TensorError
from memristore.train import Distill, channel, distill, elastic, prune_and_finetune, robust_finetune

RECIPES = {
    "plain": {},
    "protected": {"protect": (ms.Sparsity(when="always"), ms.Sign(), ms.AdaptiveRange()), "mapper": ms.Companded()},
    "differential": {"mapper": ms.Differential(), "code": ms.Repetition(planes=2)},
    "residual": {"protect": (ms.Sign(),), "code": ms.Residual(planes=2)},
    "verify": {"write": ms.ProgramAndVerify(), "protect": (ms.Sign(),), "levels": ms.Levels(count=2)},
    "ideal": {"device": "ideal"},
    "log-resistance": {"device": "pcm-partial-reset", "protect": (ms.Sign(),)},
    "pruned": {"compress": (ms.Prune(sparsity=0.5),), "protect": (ms.Sparsity(), ms.Sign())},
    "digital": {"compress": (ms.RateDistortion(sdr=20.0),)},
    "exact": {"exact": ("*.bias",)},
}


class Net(nn.Module):
    """Convolution, batch norm, a tied pair of linear layers, dropout."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.Linear(144, width)
        self.square = nn.Linear(width, width, bias=False)
        self.again = nn.Linear(width, width, bias=False)
        self.again.weight = self.square.weight
        self.last = nn.Linear(width, 3)
        self.drop = nn.Dropout(0.1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.conv(images))).flatten(1)
        hidden = self.again(torch.relu(self.square(torch.relu(self.wide(self.drop(maps))))))
        return self.last(hidden)


def net(width: int = 16, seed: int = 0) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(width)


class Batches:
    """Images whose class is the brightest third; batches in the order of a generator of their own."""

    def __init__(self, count: int = 192, size: int = 32) -> None:
        draw = torch.Generator().manual_seed(7)
        self.labels = torch.randint(3, (count,), generator=draw)
        self.images = torch.randn(count, 1, 8, 8, generator=draw)
        for i, label in enumerate(self.labels.tolist()):
            self.images[i, 0, :, 3 * label : 3 * label + 2] += 0.8
        self.size = size
        self.generator = torch.Generator().manual_seed(8)

    def __len__(self) -> int:
        return (len(self.labels) + self.size - 1) // self.size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in torch.randperm(len(self.labels), generator=self.generator).split(self.size):
            yield self.images[chosen], self.labels[chosen]


def accuracy(model: nn.Module) -> float:
    data = Batches()
    with torch.inference_mode():
        return float((model.eval()(data.images).argmax(1) == data.labels).float().mean())


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Dropout and tests' own tensors come from torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
ADAM = functools.partial(torch.optim.Adam, lr=0.01)
quietly = functools.partial(robust_finetune, progress=False, refresh=10)
SPEC = ms.StorageSpec(protect=(ms.Sign(),), retention="1 year")


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("case", RECIPES)
@pytest.mark.parametrize("gradient", ["pathwise", "straight-through"])
def test_gradients_are_finite(case: str, gradient: str) -> None:
    model, spec = net(), ms.StorageSpec(**{"retention": "1 day", **RECIPES[case]})
    drawn = channel(spec, gradient=gradient)
    weights = drawn(model)
    exact = set() if case != "exact" else {n for n, _ in model.named_parameters() if n.endswith(".bias")}
    assert set(weights) == {n for n, _ in model.named_parameters(remove_duplicate=False)} - exact
    assert weights["again.weight"] is weights["square.weight"]
    probes = {n: torch.randn_like(w) for n, w in weights.items() if n != "again.weight"}
    sum((weights[n] * p).sum() for n, p in probes.items()).backward()
    for name, probe in probes.items():
        found = model.get_parameter(name).grad
        assert found is not None
        assert bool(found.isfinite().all())
        # The whole chain is the identity to gradients; so is a digital stage or perfect cells, whatever was asked.
        if gradient == "straight-through" or case == "digital":
            assert torch.equal(found, probe)
        elif case == "ideal" and model.get_parameter(name).numel() >= 64:
            assert float((found - probe).abs().max()) < 0.05
    loss = functional_call(model, weights, (torch.randn(5, 1, 8, 8),)).square().sum()
    assert bool(loss.isfinite())


def test_the_gradient_is_that_of_the_chain() -> None:
    """Device without noise, one window: the derivative of decode(read(write(v))) by differences."""
    device = ms.devices.get("pcm-ibm-90nm").replace(
        write=ms.devices.Curve(), drift_std=ms.devices.Curve(), read=ms.devices.Curve()
    )
    spec = ms.StorageSpec(device=device, decoder="inverse", compensation=None, retention="1 day", mapper=ms.Companded())
    values = torch.randn(2000, generator=torch.Generator().manual_seed(1)).requires_grad_()
    drawn = channel(spec, refresh=10)
    drawn({"w": values})["w"].sum().backward()
    with torch.no_grad():
        # Five windows' knots are 1e-3 apart: a difference over less would see single precision.
        up, down = (drawn({"w": values + step})["w"] for step in (2e-3, -2e-3))
    slope = (up - down) / 4e-3
    inner = (values.detach().abs() < 2.0) & (values.detach().abs() > 0.05)
    assert values.grad is not None
    error = (values.grad - slope)[inner].abs() / slope[inner].abs().clamp(min=0.05)
    assert float(error.median()) < 0.02
    assert float(slope[inner].median()) < 0.8


def test_draws_differ_and_repeat() -> None:
    model = net()
    a, b = channel(SPEC, seed=3), channel(SPEC, seed=3)
    first, second = a(model)["wide.weight"], a(model)["wide.weight"]
    assert not torch.equal(first, second)
    assert torch.equal(first, b(model)["wide.weight"])
    assert not torch.equal(first, channel(SPEC, seed=4)(model)["wide.weight"])
    assert torch.equal(channel(SPEC)(model, strength=0.0)["wide.weight"], model.wide.weight)
    full = channel(SPEC, seed=5)(model)["wide.weight"] - model.wide.weight
    half = channel(SPEC, seed=5)(model, strength=0.5)["wide.weight"] - model.wide.weight
    assert torch.allclose(half, 0.5 * full, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_many_kinds(dtype: torch.dtype) -> None:
    tensors = {
        "w": torch.randn(40, 30).to(dtype).t(),
        "scalar": torch.tensor(0.5, dtype=dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
        "constant": torch.full((7,), 0.25, dtype=dtype),
        "count": torch.tensor(3),
    }
    out = channel(SPEC)(tensors)
    assert set(out) == {"w", "scalar", "constant"}
    assert all(out[n].dtype == dtype and out[n].shape == tensors[n].shape for n in out)
    assert torch.allclose(out["constant"].float(), torch.full((7,), 0.25))
    # One cell per value leaves about 15 dB after a year; 1200 values do not miss that by a factor of three.
    assert float((out["w"] - tensors["w"]).float().square().mean()) < 0.1
    assert not torch.equal(out["w"], tensors["w"])


def test_bad_input_is_refused() -> None:
    with pytest.raises(SpecError, match="StorageSpec"):
        channel("pcm-ibm-90nm")
    with pytest.raises(SpecError, match="gradient"):
        channel(SPEC, gradient="none")
    with pytest.raises(SpecError, match="refresh"):
        channel(SPEC, refresh=0)
    with pytest.raises(SpecError, match="strength"):
        channel(SPEC)(net(), strength=2.0)
    with pytest.raises(TensorError, match="finite"):
        channel(SPEC)({"w": torch.tensor([1.0, float("nan")])})
    for wrong, message in (
        ({"noise": "loud"}, "noise"),
        ({"noise_schedule": "steep"}, "noise_schedule"),
        ({"kl": 2.0}, "kl"),
        ({"clip": 0.0}, "clip"),
        ({"amp": torch.int8}, "amp"),
        ({"freeze_norm": 2.0}, "freeze_norm"),
        ({"resume": True}, "checkpoint"),
        ({"epochs": -1}, "epochs"),
    ):
        with pytest.raises(SpecError, match=message):
            quietly(net(), SPEC, Batches(), **wrong)
    with pytest.raises(SpecError, match="no batches"):
        quietly(net(), SPEC, [])
    with pytest.raises(SpecError, match="no labels"):
        quietly(net(), SPEC, [torch.zeros(4, 1, 8, 8)])
    with pytest.raises(SpecError, match="pair"):
        quietly(net(), SPEC, [{"images": 3}])
    with pytest.raises(SpecError, match="loss became"):
        quietly(net(), SPEC, Batches(), optimizer=functools.partial(torch.optim.SGD, lr=1e12), noise=None, epochs=9)


def test_fine_tuning_makes_a_network_stand_noise() -> None:
    """Mean accuracy of 8 arrays at a signal-to-noise ratio of 3 dB: at least 8 points more, 20 were seen.

    The spread between arrays is about 6 points, the standard error of the difference 3.
    """
    spec = ms.StorageSpec(device="awgn/3")
    torch.manual_seed(0)
    model = quietly(net(), spec, Batches(), epochs=8, optimizer=SGD, noise=None).model
    before = copy.deepcopy(model.state_dict())
    slow = functools.partial(torch.optim.SGD, lr=0.02, momentum=0.9)
    options = {"epochs": 10, "optimizer": slow, "teacher": model}
    tuned = quietly(model, spec, Batches(), clip=2.5, metric=accuracy, **options)
    still = quietly(model, spec, Batches(), noise=None, **options)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert [line["epoch"] for line in tuned.history] == list(range(1, 11))
    assert all(0 <= line["noisy"] <= 1 and line["loss"] > 0 and 0 <= line["accuracy"] <= 1 for line in tuned.history)

    def stored(model: nn.Module) -> float:
        prepared = ms.prepare(model, spec)
        reads = [prepared.program(seed=s).load_into(copy.deepcopy(model)) for s in range(8)]
        return sum(accuracy(m) for m in reads) / 8

    assert stored(tuned.model) > stored(still.model) + 0.08


def test_pruned_weights_stay_zero_and_weights_are_clipped() -> None:
    model = prune_and_finetune(net(), ms.Prune(sparsity=0.8), lambda m, step: None, steps=1)
    spec = ms.StorageSpec(protect=(ms.Sparsity(), ms.Sign()), retention="1 day")
    tuned = quietly(model, spec, Batches(), epochs=2, optimizer=torch.optim.Adam, clip=2.0).model
    for (name, p), q in zip(model.named_parameters(), tuned.parameters(), strict=True):
        if p.dim() >= 2:
            assert bool((q[p == 0] == 0).all()), name
            assert not torch.equal(p, q)
            kept = q[q != 0]
            # Clipping at 2 standard deviations leaves a spread that is a little smaller.
            assert float(kept.detach().abs().max()) < 2.6 * float(kept.detach().std())
    free = quietly(model, spec, Batches(), epochs=1, optimizer=SGD, keep_zeros=False, noise=None).model
    assert int((free.wide.weight == 0).sum()) < int((model.wide.weight == 0).sum())


def test_batch_norm_may_keep_its_statistics() -> None:
    model = quietly(net(), SPEC, Batches(), epochs=1, optimizer=SGD, noise=None).model
    kept = quietly(model, SPEC, Batches(), epochs=2, optimizer=SGD, freeze_norm=0.0).model
    assert torch.equal(kept.norm.running_var, model.norm.running_var)
    assert not torch.equal(kept.norm.weight, model.norm.weight)
    late = quietly(model, SPEC, Batches(), epochs=2, optimizer=SGD, freeze_norm=0.5).model
    assert int(late.norm.num_batches_tracked) == int(model.norm.num_batches_tracked) + 6


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("optimizer", [SGD, functools.partial(torch.optim.AdamW, lr=0.01)])
def test_a_resumed_run_ends_like_an_undisturbed_one(tmp_path: Path, optimizer) -> None:
    run = functools.partial(
        quietly, net(), SPEC, epochs=4, optimizer=optimizer, teacher=net(seed=1), clip=3.0,
        scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=24),
    )  # fmt: skip
    torch.manual_seed(1)
    whole = run(Batches(), checkpoint=tmp_path / "whole.pt")

    class Breaks(Batches):
        rounds = 0

        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            self.rounds += 1
            for i, batch in enumerate(super().__iter__()):
                if self.rounds == 3 and i == 2:
                    raise StoppedError
                yield batch

    path = tmp_path / "sub" / "broken.pt"
    torch.manual_seed(1)
    with pytest.raises(StoppedError):
        run(Breaks(), checkpoint=path)
    torch.manual_seed(2)
    resumed = run(Batches(), checkpoint=path, resume=True)
    assert same(whole.model, resumed.model)
    assert whole.history == resumed.history
    assert same(run(Batches(), checkpoint=path, resume=True).model, whole.model)
    assert not same(run(Batches(), seed=5).model, whole.model)
    with pytest.raises(SpecError, match="another clip"):
        run(Batches(), checkpoint=path, resume=True, clip=2.0)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileError, match="checkpoint"):
        run(Batches(), checkpoint=path, resume=True)
    torch.save({"schema": "another"}, path)
    with pytest.raises(FileError, match="not a checkpoint"):
        run(Batches(), checkpoint=path, resume=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype) -> None:
    tuned = quietly(net(), SPEC, Batches(), epochs=6, optimizer=SGD, amp=dtype, teacher=net(seed=2), kl=0.1)
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in tuned.model.parameters())
    assert tuned.history[-1]["loss"] < tuned.history[0]["loss"]
    assert accuracy(tuned.model) > 0.6


def test_noise_of_ones_own_and_schedules() -> None:
    seen = []

    def noise(model: nn.Module, strength: float) -> dict[str, torch.Tensor]:
        seen.append(strength)
        return {n: p + 0.01 for n, p in model.named_parameters()}

    quietly(net(), SPEC, Batches(), epochs=2, noise=noise, noise_schedule=lambda done: 1 - done)
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == 1.0
    assert len(seen) == 12
    seen.clear()
    quietly(net(), SPEC, lambda epoch: list(Batches())[: epoch + 1], epochs=3, noise=noise)
    assert seen == pytest.approx([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_distillation() -> None:
    teacher = quietly(net(), SPEC, Batches(), epochs=8, optimizer=SGD, noise=None).model
    mode = teacher.train().training
    images = [images for images, _ in Batches()]
    clean = distill(teacher, net(6, 3), images, kl=1.0, epochs=20, optimizer=ADAM, progress=False)
    assert teacher.training == mode
    agree = (clean.model(torch.cat(images)).argmax(1) == teacher.eval()(torch.cat(images)).argmax(1)).float().mean()
    assert float(agree) > 0.75
    assert clean.history[-1]["accuracy"] is None
    options = {"epochs": 2, "optimizer": ADAM, "progress": False}
    student = Distill(student=lambda: net(6, 3), options=options)
    torch.manual_seed(4)
    through = student.apply(teacher, Batches(), SPEC)
    torch.manual_seed(4)
    direct = distill(teacher, net(6, 3), Batches(), SPEC, **options)
    assert same(through.model, direct.model)
    with pytest.raises(SpecError, match="recipe"):
        student.apply(teacher, Batches())
    with pytest.raises(SpecError, match="recipe"):
        distill(teacher, net(6), Batches(), noise="channel", **options)
    with pytest.raises(SpecError, match="torch module"):
        Distill(student=lambda: 3, through_channel=False).apply(teacher, Batches())


def test_the_best_size_for_a_budget() -> None:
    family = {w: quietly(net(w), SPEC, Batches(), epochs=4, optimizer=SGD, noise=None).model for w in (4, 16)}
    twice = ms.StorageSpec(protect=(ms.Sign(),), code=ms.Repetition(planes=2), retention="1 year")
    free = elastic(family.__getitem__, [SPEC, twice], accuracy, sizes=(4, 16), trials=2)
    cells = {(m.name, m.recipe): m.cells for m in free.members}
    assert len(cells) == 4
    assert free.member.mean == max(m.mean for m in free.members)
    assert free.model is family[int(free.member.name)]
    budget = (cells["4", 1] + cells["16", 0]) / 2
    tight = elastic(list(family.values()), [SPEC, twice], accuracy, budget=budget, trials=2)
    assert tight.member.name == "0"
    assert tight.member.cells <= budget
    assert [m.fits for m in tight.members] == [True, True, False, False]
    assert tight.table().row_count == 4
    stored = ms.store(tight.model, tight.spec, seed=0)
    assert stored.ledger().total == tight.member.cells
    with pytest.raises(SpecError, match="takes"):
        elastic(family, SPEC, accuracy, budget=10)
    for wrong in ({}, [], net):
        with pytest.raises(SpecError, match="elastic"):
            elastic(wrong, SPEC, accuracy)
    with pytest.raises(SpecError, match="several"):
        elastic(net(), SPEC, accuracy)
    with pytest.raises(SpecError, match="NaN"):
        elastic([net()], SPEC, lambda model: float("nan"))
