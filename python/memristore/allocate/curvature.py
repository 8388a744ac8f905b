"""Curvature of a network's loss, diagonal only: random signs, per-sample gradients, Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vjp, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from memristore import rng
from memristore.allocate.granularity import check_count
from memristore.errors import SpecError

Values = dict[str, Tensor]
#: Mean over a batch of the losses of its samples.
Loss = Callable[[Tensor, Tensor], Tensor]
#: The curvature in the outputs of each sample as a product R R^T: the axes of R's columns, and the map from weights of
#: the columns, shape (batch, *columns), to cotangents of the outputs.
Root = tuple[tuple[int, ...], Callable[[Tensor], Tensor]]
#: From outputs and targets of a batch to its root.
Factor = Callable[[Tensor, "Tensor | None"], Root]
#: Numbers that per-sample gradients may take at once.
_ROOM: Final = 1 << 25


class _Network:
    """A model as a function of its parameters; buffers are copies, so that nothing it does to them is seen."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = {
            name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.is_floating_point()
        }
        self.buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
        self.leaves = list(self.parameters.values())
        if not self.leaves:
            raise SpecError("sensitivity: the network has no floating parameters")
        self.device = self.leaves[0].device
        self.size = sum(p.numel() for p in self.leaves)

    def __call__(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        outputs = functional_call(self.model, ({**parameters}, self.buffers), (inputs,))
        if not isinstance(outputs, Tensor) or outputs.ndim < 1 or len(outputs) != len(inputs):
            raise SpecError("sensitivity: the network must return one tensor whose first axis runs over the samples")
        return outputs

    def zeros(self) -> Values:
        return {name: torch.zeros_like(p, requires_grad=False) for name, p in self.parameters.items()}


@contextmanager
def _judged(model: nn.Module) -> Iterator[_Network]:
    """Evaluation mode inside; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield _Network(model)
    finally:
        for module, mode in modes:
            module.training = mode


def first_order(
    what: str,
    model: nn.Module,
    loader: Iterable[Any],
    factor: Factor,
    exact: bool,
    draws: int,
    seed: int,
    progress: bool,
    labels: bool = True,
) -> Values:
    """Half the mean over samples of ``diag(J^T R R^T J)``, R R^T the curvature in the outputs that `factor` splits."""
    check_count(what, "draws", draws)
    with _judged(model) as network, torch.enable_grad():
        generator = _generator(seed, network.device)
        total, seen = network.zeros(), 0
        for inputs, targets in _batches(what, loader, network.device, progress, labels):
            outputs = network(network.parameters, inputs)
            columns, mix = factor(outputs.detach(), targets)
            if exact:
                if len(columns) > 1:
                    raise SpecError(
                        f"{what}: exact needs outputs of shape (batch, classes), not {tuple(outputs.shape)}"
                    )
                unit = torch.eye(columns[0], device=outputs.device, dtype=outputs.dtype)
                cotangents = torch.stack([mix(row.expand(len(inputs), -1)) for row in unit], 1)
                for name, square in _each_squared(network, inputs, cotangents).items():
                    total[name] += square
            for draw in range(0 if exact else draws):
                signs = _signs((len(inputs), *columns), generator, outputs.dtype)
                pulled = torch.autograd.grad(
                    outputs, network.leaves, mix(signs), retain_graph=draw + 1 < draws, materialize_grads=True
                )
                for name, gradient in zip(total, pulled, strict=True):
                    total[name] += gradient.square() / draws
            seen += len(inputs)
        _seen_some(what, seen)
        half = {name: square * (0.5 / seen) for name, square in total.items()}
        return half | _statistics(model, half, None)


def second_order(
    what: str, model: nn.Module, loader: Iterable[Any], loss: Loss, samples: int, seed: int, progress: bool
) -> Values:
    """Half the diagonal of the Hessian of the mean loss, estimated with `samples` random directions per batch."""
    check_count(what, "samples", samples)
    with _judged(model) as network, torch.enable_grad():
        generator = _generator(seed, network.device)
        curvature, slopes, seen = network.zeros(), network.zeros(), 0
        for inputs, targets in _batches(what, loader, network.device, progress):
            value = loss(network(network.parameters, inputs), needed(targets))
            first = torch.autograd.grad(value, network.leaves, create_graph=True, materialize_grads=True)
            for name, slope in zip(curvature, first, strict=True):
                slopes[name] += slope.detach() * len(inputs)
            for _ in range(samples):
                signs = [_signs(p.shape, generator, p.dtype) for p in network.leaves]
                second = _product(first, signs, network.leaves)
                for name, sign, part in zip(curvature, signs, second, strict=True):
                    curvature[name] += sign * part * (len(inputs) / samples)
            seen += len(inputs)
        _seen_some(what, seen)
        half = {name: total * (0.5 / seen) for name, total in curvature.items()}
        return half | _statistics(model, half, {name: total / seen for name, total in slopes.items()})


def _each_squared(network: _Network, inputs: Tensor, cotangents: Tensor) -> Values:
    """Sum over samples and columns of squared gradients; cotangents have shape (batch, columns, ...)."""

    def one(sample: Tensor, columns: Tensor) -> Values:
        pull = vjp(lambda p: network(p, sample[None])[0], network.parameters)[1]
        gradients: Values = vmap(lambda column: pull(column)[0])(columns)
        return {name: gradient.square().sum(0) for name, gradient in gradients.items()}

    size = max(1, _ROOM // (network.size * cotangents.shape[1]))
    total = network.zeros()
    for x, u in zip(inputs.split(size), cotangents.split(size), strict=True):
        try:
            squares = vmap(one)(x, u)
        except RuntimeError:
            # vmap refuses, for example, branches on values and writes in place; plain backward passes do not.
            squares = {name: part[None] for name, part in _one_by_one(network, x, u).items()}
        for name, part in squares.items():
            total[name] += part.sum(0)
    return total


def _one_by_one(network: _Network, inputs: Tensor, cotangents: Tensor) -> Values:
    total = network.zeros()
    for sample, columns in zip(inputs, cotangents, strict=True):
        outputs = network(network.parameters, sample[None])
        for column in columns:
            pulled = torch.autograd.grad(
                outputs, network.leaves, column[None], retain_graph=True, materialize_grads=True
            )
            for name, gradient in zip(total, pulled, strict=True):
                total[name] += gradient.square()
    return total


def softmax_factor(outputs: Tensor, targets: Tensor | None) -> Root:
    """Root of ``diag(p) - p p^T``, the curvature of cross-entropy and of KL in the scores."""
    p = outputs.softmax(-1)
    root = p.sqrt()
    return tuple(outputs.shape[1:]), lambda signs: root * signs - p * (root * signs).sum(-1, keepdim=True)


def convex_factor(loss: Loss) -> Factor:
    """Root of the loss's Hessian in the outputs, by eigenvalues."""

    def factor(outputs: Tensor, targets: Tensor | None) -> Root:
        flat = outputs.flatten(1)

        def one(scores: Tensor, target: Tensor) -> Tensor:
            return loss(scores.reshape(1, *outputs.shape[1:]), target[None])

        values, vectors = torch.linalg.eigh(vmap(jacrev(grad(one)))(flat, needed(targets)))
        root = vectors * values.clamp(min=0).sqrt()[:, None, :]
        return (flat.shape[1],), lambda signs: (root @ signs[:, :, None]).reshape(outputs.shape)

    return factor


def _statistics(model: nn.Module, half: Values, slopes: Values | None) -> Values:
    """Sensitivities of batch-norm statistics, which torch does not differentiate, from those of scale and shift.

    ``y = scale (x - mean) / sqrt(var + eps) + shift``: a change of the mean acts as one of the shift, a change of the
    variance as one of the scale. The second derivative of that scale counts where gradients are given.
    """
    found: Values = {}
    for path, module in model.named_modules():
        scale, shift = (f"{path}.{part}".lstrip(".") for part in ("weight", "bias"))
        if not isinstance(module, _BatchNorm) or scale not in half or shift not in half:
            continue
        mean, var = module.running_mean, module.running_var
        if mean is None or var is None:
            continue
        gain, spread = module.weight.detach(), var.detach() + module.eps
        found[f"{path}.running_mean".lstrip(".")] = half[shift] * gain.square() / spread
        part = half[scale] * (gain / (2 * spread)).square()
        if slopes is not None:
            part = part + 0.375 * slopes[scale] * gain / spread.square()
        found[f"{path}.running_var".lstrip(".")] = part
    return found


def _product(first: tuple[Tensor, ...], signs: list[Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Hessian times a direction."""
    along = torch.stack([(slope * sign).sum() for slope, sign in zip(first, signs, strict=True)]).sum()
    if not along.requires_grad:
        return tuple(torch.zeros_like(p) for p in leaves)
    return torch.autograd.grad(along, leaves, retain_graph=True, materialize_grads=True)


def _batches(
    what: str, loader: Iterable[Any], device: torch.device, progress: bool, labels: bool = True
) -> Iterator[tuple[Tensor, Tensor | None]]:
    for item in tqdm(loader, desc=what, unit="batch", leave=False, disable=None if progress else True):
        parts = item if isinstance(item, (tuple, list)) else (item,)
        if len(parts) < 1 + labels or not all(isinstance(part, Tensor) for part in parts[: 1 + labels]):
            wanted = "pairs of tensors (inputs, targets)" if labels else "tensors, or tuples that start with one"
            raise SpecError(f"{what}: the loader must give {wanted}; found {type(item).__name__}")
        if len(parts[0]):
            yield parts[0].to(device), parts[1].to(device) if labels else None


def needed(targets: Tensor | None) -> Tensor:
    """Insist on targets."""
    if targets is None:
        raise SpecError("sensitivity: this curvature needs targets; give batches of (inputs, targets)")
    return targets


def _generator(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(rng.key(seed, "sensitivity") >> 1)


def _signs(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator, device=generator.device).to(dtype) * 2 - 1


def _seen_some(what: str, seen: int) -> None:
    if seen == 0:
        raise SpecError(f"{what}: the loader gave no samples; an iterator that was used up gives none either")
