"""Sensitivities against the exact diagonals of small networks, which torch.func gives.

Estimates are random but seeded: a test that passes once always passes. Correlations are stated with the number of
draws; the noise of Hutchinson's estimator for a value is the root of the sum of squared off-diagonal entries of its row
over the number of draws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from memristore.allocate.sensitivity import average, fisher, hessian, kl, per_tensor, side_information
from memristore.errors import SpecError

Batches = list[tuple[Tensor, Tensor]]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense() -> tuple[nn.Module, Batches]:
    """6-8-4 with tanh: 92 parameters, 64 samples in batches of 20, 20, 20 and 4."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    x = draw(64, 6)
    labels = (x[:, :4] + 0.5 * draw(64, 4, seed=1)).argmax(1)
    return model, list(zip(x.split(20), labels.split(20), strict=True))


class Normed(nn.Module):
    """A convolution, batch norm with statistics of its own, dropout and a linear layer: 80 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        maps = torch.tanh(self.norm(self.conv(x)))
        return self.out(self.drop(maps.mean((2, 3))))


def normed() -> tuple[nn.Module, Batches]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Normed()
    with torch.no_grad():
        model.norm.running_mean.copy_(draw(4))
        model.norm.running_var.copy_(1 + draw(4, seed=2).square())
        model.norm.weight.copy_(1 + 0.3 * draw(4, seed=3))
    x = draw(40, 1, 6, 6)
    return model, list(zip(x.split(16), (torch.arange(40) % 3).split(16), strict=True))


def whole(batches: Batches) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def second_derivatives(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Exact, by reverse over reverse: torch.func.hessian warns of its own use of torch.jit."""
    return torch.func.jacrev(torch.func.grad(function))


def exact(model: nn.Module, of: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> dict[str, Tensor]:
    """Half the diagonal that `of` finds, given the network as a function (flat parameters) -> (inputs -> outputs)."""
    model.eval()
    values = {n: p.detach() for n, p in model.named_parameters()}
    flat = torch.cat([v.flatten() for v in values.values()])

    def network(parameters: Tensor) -> Callable[[Tensor], Tensor]:
        parts = parameters.split([v.numel() for v in values.values()])
        state = {n: part.reshape(v.shape) for part, (n, v) in zip(parts, values.items(), strict=True)}
        buffers = {n: b.clone() for n, b in model.named_buffers()}
        return lambda x: functional_call(model, {**state, **buffers}, (x,))

    found = 0.5 * of(network, flat)
    parts = found.split([v.numel() for v in values.values()])
    return {n: part.reshape(v.shape) for part, (n, v) in zip(parts, values.items(), strict=True)}


def exact_hessian(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    x, y = whole(batches)
    return exact(
        model, lambda net, flat: second_derivatives(lambda p: functional.cross_entropy(net(p)(x), y))(flat).diagonal()
    )


def exact_fisher(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    x, y = whole(batches)
    return exact(
        model,
        lambda net, flat: (
            torch.func.jacrev(lambda p: functional.cross_entropy(net(p)(x), y, reduction="none"))(flat).square().mean(0)
        ),
    )


def exact_kl(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    """The second derivative of the KL divergence itself."""
    x, _ = whole(batches)

    def of(net: Callable[[Tensor], Callable[[Tensor], Tensor]], flat: Tensor) -> Tensor:
        clean = net(flat)(x).log_softmax(1)
        return second_derivatives(lambda p: (clean.exp() * (clean - net(p)(x).log_softmax(1))).sum(1).mean())(
            flat
        ).diagonal()

    return exact(model, of)


def joined(values: dict[str, Tensor], names: dict[str, Tensor]) -> np.ndarray:
    return torch.cat([values[n].flatten() for n in names]).double().numpy()


def correlation(found: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    return float(np.corrcoef(joined(found, true), joined(true, true))[0, 1])


@pytest.mark.parametrize("make", [dense, normed])
def test_exact_diagonals(make: Callable[[], tuple[nn.Module, Batches]]) -> None:
    model, batches = make()
    for ours, true in (
        (fisher(model, batches, exact=True), exact_fisher(model, batches)),
        (kl(model, batches, exact=True), exact_kl(model, batches)),
        (hessian(model, batches, gauss_newton=True, exact=True), exact_kl(model, batches)),
    ):
        assert np.allclose(joined(ours, true), joined(true, true), rtol=2e-3, atol=1e-6)
        assert all(ours[name].shape == p.shape for name, p in model.named_parameters())


@pytest.mark.parametrize("make", [dense, normed])
def test_estimates_correlate_with_the_exact_diagonals(make: Callable[[], tuple[nn.Module, Batches]]) -> None:
    """256 draws for each of 3 or 4 batches; correlation over all parameters, at least 0.95."""
    model, batches = make()
    assert correlation(hessian(model, batches, samples=256), exact_hessian(model, batches)) > 0.95
    assert correlation(fisher(model, batches, draws=256), exact_fisher(model, batches)) > 0.95
    assert correlation(kl(model, batches, draws=256), exact_kl(model, batches)) > 0.95
    newton = hessian(model, batches, gauss_newton=True, samples=256)
    assert correlation(newton, exact_kl(model, batches)) > 0.95
    means = kl(model, batches, draws=256, granularity="tensor")
    true = average(exact_kl(model, batches), "tensor")
    assert np.allclose(joined(means, true), joined(true, true), rtol=0.2)


def test_gauss_newton_of_another_loss() -> None:
    model, batches = dense()
    pairs = [(x, draw(len(x), 4, seed=5)) for x, _ in batches]
    found = hessian(model, pairs, functional.mse_loss, gauss_newton=True, exact=True)
    x, _ = whole(batches)

    def of(net: Callable[[Tensor], Callable[[Tensor], Tensor]], flat: Tensor) -> Tensor:
        # The mean over 4 outputs of squares has the Hessian 2 / 4 in each output.
        return 0.5 * torch.func.jacrev(lambda p: net(p)(x))(flat).square().sum(1).mean(0)

    true = exact(model, of)
    assert np.allclose(joined(found, true), joined(true, true), rtol=1e-3, atol=1e-7)


def test_gauss_newton_of_scores_with_positions() -> None:
    """cross_entropy wants classes on axis 1 and averages over the positions behind them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        line, unfold = nn.Linear(4, 6), nn.Unflatten(1, (3, 4))
    x = draw(10, 12)
    positions = nn.Sequential(unfold, line, Swapped())
    found = hessian(positions, [(x, torch.zeros(10, 3, dtype=torch.int64))], gauss_newton=True, exact=True)
    flat = kl(line, [x.reshape(30, 4)], exact=True)
    assert torch.allclose(found["1.weight"], flat["weight"], rtol=1e-3, atol=1e-7)


class Swapped(nn.Module):
    """Last two axes exchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_batch_norm_statistics_are_weights() -> None:
    """Against finite differences of the exact gradients' network: float64, steps of 1e-3 and 1e-2."""
    model, batches = normed()
    model.double().eval()
    x, y = whole(batches)
    x = x.double()
    pairs = [(x, y)]
    second = hessian(model, pairs, samples=1000, granularity="value")
    answers = kl(model, pairs, exact=True)

    def shifted(name: str, index: int, step: float) -> Tensor:
        state = {n: t.clone() for n, t in model.state_dict().items()}
        state[name][index] += step
        return functional_call(model, state, (x,)).log_softmax(1).detach()

    for name in ("norm.running_mean", "norm.running_var"):
        for index in range(4):
            step = 1e-2
            up, mid, down = (shifted(name, index, s) for s in (step, 0.0, -step))
            loss = [float(functional.nll_loss(z, y)) for z in (up, mid, down)]
            curve = 0.5 * (loss[0] - 2 * loss[1] + loss[2]) / step**2
            assert float(second[name][index]) == pytest.approx(curve, rel=0.25, abs=2e-3)
            moved = [float((mid.exp() * (mid - z)).sum(1).mean()) for z in (up, down)]
            assert float(answers[name][index]) == pytest.approx(sum(moved) / 2 / step**2, rel=0.02)


def test_sensitivity_predicts_the_loss_of_noise() -> None:
    """White noise on all parameters, 400 draws: mean KL within 10 % of the prediction (standard error 2 %)."""
    model, batches = dense()
    x, _ = whole(batches)
    half = kl(model, batches, exact=True)
    clean = model(x).log_softmax(1).detach()
    size, total = 0.03, 0.0
    for trial in range(400):
        state = {n: p.detach() + size * draw(*p.shape, seed=trial * 10 + i) for i, (n, p) in
                 enumerate(model.named_parameters())}  # fmt: skip
        noisy = functional_call(model, state, (x,)).log_softmax(1).detach()
        total += float((clean.exp() * (clean - noisy)).sum(1).mean()) / 400
    assert total == pytest.approx(size**2 * sum(float(s.sum()) for s in half.values()), rel=0.1)


def test_the_network_is_left_alone_and_the_seed_decides() -> None:
    model, batches = normed()
    model.train()
    model.norm.eval()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        first = hessian(model, batches, samples=2, seed=3)
        assert all(torch.equal(t, fisher(model, batches, seed=3)[n]) for n, t in fisher(model, batches, seed=3).items())
        again, other = (hessian(model, batches, samples=2, seed=seed) for seed in (3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert model.training
    assert not model.norm.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(t, again[n]) for n, t in first.items())
    assert not all(torch.equal(t, other[n]) for n, t in first.items())
    assert set(first) == {n for n in before if n not in ("calls", "norm.num_batches_tracked")}


class Branching(nn.Module):
    """Looks at values, which vmap refuses; has a parameter that is not used, tied ones and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x))) if float(x.sum()) < 1e9 else x


def test_networks_that_vmap_refuses() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Branching()
    batches = [(draw(12, 5), torch.arange(12) % 5)]
    found = fisher(model, batches, exact=True)
    assert set(found) == {"first.weight", "first.bias", "second.bias", "unused"}
    assert float(found["unused"].sum()) == 0
    total = torch.zeros(5, 5)
    for x, y in zip(*batches[0], strict=True):
        loss = functional.cross_entropy(model(x[None]), y[None])
        total += torch.autograd.grad(loss, model.first.weight)[0].square()
    assert torch.allclose(found["first.weight"], total / 24, rtol=1e-4, atol=1e-8)


def test_language_models_sum_over_positions() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 6)
    x = draw(10, 3, 4)
    found = kl(model, [x], draws=2000)
    flat = kl(model, [x.reshape(30, 4)], exact=True)
    # A position is a sample of the flat network, and a sample has three of them.
    assert float(found["weight"].mean()) == pytest.approx(3 * float(flat["weight"].mean()), rel=0.05)
    with pytest.raises(SpecError, match=r"outputs of shape \(batch, classes\)"):
        kl(model, [x], exact=True)


def test_granularities() -> None:
    values = {"w": torch.arange(24.0).reshape(4, 3, 2), "b": torch.tensor([1.0, 3.0]), "s": torch.tensor(2.0)}
    assert torch.equal(average(values, "value")["w"], values["w"])
    assert average(values, "tensor")["w"].unique().tolist() == [11.5]
    assert average(values, "channel")["w"][:, 0, 0].tolist() == [2.5, 8.5, 14.5, 20.5]
    assert average(values, "channel")["s"].item() == 2
    blocks = average(values, "block", block=10)["w"]
    assert blocks.shape == (4, 3, 2)
    assert blocks.flatten()[[0, 9, 10, 19, 20, 23]].tolist() == [4.5, 4.5, 14.5, 14.5, 21.5, 21.5]
    shapes = {name: tuple(t.shape) for name, t in values.items()}
    counts = {"value": 27, "block": 3 + 1 + 1, "channel": 4 + 2 + 1, "tensor": 3}
    for granularity, count in counts.items():
        assert side_information(shapes, granularity, options=5, block=10) == 3 * count
    assert side_information(shapes, "value", options=1) == 0
    assert per_tensor(values) == (("w", 11.5), ("b", 2.0), ("s", 2.0))
    assert per_tensor({"w": torch.tensor([-1.0])}) == (("w", 0.0),)
    with pytest.raises(SpecError, match="granularity must be one of"):
        average(values, "layer")
    with pytest.raises(SpecError, match="integer of at least 1"):
        average(values, "block", block=0)


def test_what_cannot_be_is_refused() -> None:
    model, batches = dense()
    with pytest.raises(SpecError, match="gave no samples"):
        fisher(model, [])
    with pytest.raises(SpecError, match="pairs of tensors"):
        fisher(model, [batches[0][0]])
    with pytest.raises(SpecError, match="pairs of tensors"):
        hessian(model, [{"x": 1}])
    with pytest.raises(SpecError, match="gauss_newton=True"):
        hessian(model, batches, exact=True)
    with pytest.raises(SpecError, match="samples must be"):
        hessian(model, batches, samples=0)
    with pytest.raises(SpecError, match="no floating parameters"):
        kl(nn.Flatten(), batches)
    with pytest.raises(SpecError, match="first axis runs over the samples"):
        kl(nn.Sequential(nn.Flatten(0), nn.Linear(120, 3)), [draw(20, 6)])
