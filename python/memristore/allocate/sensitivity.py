"""Sensitivity: by how much the loss rises per squared error of each weight.

An error ``e`` of a weight, of mean zero and independent of the others, raises the mean loss by ``s * e**2`` to second
order, with ``s`` half the diagonal of a curvature matrix. All functions here return that ``s``, in units of loss per
squared unit of the weight (nats for cross-entropy and for :func:`kl`), as a dict from the names of the state_dict to
tensors of the parameters' shapes. Batch-norm statistics are weights like any other and are in the dict too.

Three curvatures: :func:`fisher` (gradients at the true labels), :func:`hessian` (second derivatives, or Gauss-Newton),
and :func:`kl` (how far the network's answers move, whatever the labels). The batches pass once, so memory is that of a
training step. The network is judged in evaluation mode; its modes, parameters, gradients and buffers are left alone.
Draws come from the seed only; sums inside torch may differ in the last digits with the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memristore.allocate.curvature import (
    Loss,
    Root,
    Values,
    convex_factor,
    first_order,
    needed,
    second_order,
    softmax_factor,
)
from memristore.allocate.granularity import average, per_tensor, side_information
from memristore.errors import SpecError

__all__ = ["average", "fisher", "hessian", "kl", "per_tensor", "side_information"]


def fisher(
    model: nn.Module,
    loader: Iterable[Any],
    loss: Loss = functional.cross_entropy,
    *,
    exact: bool = False,
    draws: int = 8,
    granularity: str = "value",
    block: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> Values:
    """Half the diagonal of the empirical Fisher matrix: half the mean squared gradient of a sample's loss.

    Parameters
    ----------
    model : Module
        Anything that is called with one tensor whose first axis runs over samples and returns one such tensor.
    loader : iterable of (inputs, targets)
        Batches.
    loss : callable
        ``loss(outputs, targets)``, the mean over the batch of the losses of its samples.
    exact : bool
        Square the gradient of every sample (``torch.func.vmap`` where the network allows it, one by one elsewhere).
        Otherwise, and much faster: gradients of the batch's losses with random signs, whose squares have the same mean.
    draws : int
        Draws of signs per batch; no use if `exact`.
    granularity, block : str, int
        See :func:`average`.
    seed : int
        Names the signs.
    progress : bool
        Show a bar on standard error if that is a terminal.

    Returns
    -------
    dict of str to Tensor
        Loss per squared error. Not negative.

    Raises
    ------
    SpecError
        If an argument, a batch or the number of batches is not valid.
    """

    def factor(outputs: Tensor, targets: Tensor | None) -> Root:
        free = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(free, needed(targets)), free)
        each = slope * len(outputs)
        return (1,), lambda signs: each * signs.reshape(-1, *[1] * (each.ndim - 1))

    found = first_order("fisher", model, loader, factor, exact, draws, seed, progress)
    return average(found, granularity, block)


def kl(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    exact: bool = False,
    draws: int = 8,
    granularity: str = "value",
    block: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> Values:
    """Half the curvature of KL(answers of the clean network || answers of the noisy one), nats per squared error.

    This is the Fisher matrix under the network's own answers, ``E_x sum_y p(y|x) grad log p grad log p^T``: it needs no
    labels, and unlike the empirical one it does not vanish where the network is right and sure only of some labels.

    Parameters
    ----------
    model : Module
        Returns scores before the softmax, classes on the last axis. With more axes (a language model) the KL of a
        sample is the sum over its positions.
    loader : iterable
        Batches: inputs, or tuples that start with inputs.
    exact : bool
        Exact expectation over classes and samples: one backward pass per class for every sample. Outputs must have
        shape (batch, classes). Otherwise one backward pass per batch and draw, unbiased.
    draws, granularity, block, seed, progress
        As for :func:`fisher`.

    Returns
    -------
    dict of str to Tensor
        Nats per squared error. Not negative.

    Raises
    ------
    SpecError
        If an argument, a batch or the number of batches is not valid.

    Notes
    -----
    Second-order expansion of the KL divergence: S. Amari, "Natural gradient works efficiently in learning", Neural
    Computation 10 (1998), doi:10.1162/089976698300017746.
    """
    found = first_order("kl", model, loader, softmax_factor, exact, draws, seed, progress, labels=False)
    return average(found, granularity, block)


def hessian(
    model: nn.Module,
    loader: Iterable[Any],
    loss: Loss = functional.cross_entropy,
    *,
    samples: int = 8,
    gauss_newton: bool = False,
    exact: bool = False,
    granularity: str = "value",
    block: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> Values:
    """Half the diagonal of the Hessian of the mean loss, by Hutchinson's estimator.

    Parameters
    ----------
    model, loader, loss
        As for :func:`fisher`.
    samples : int
        Random directions per batch, one Hessian-vector product each.
    gauss_newton : bool
        Of the Gauss-Newton matrix instead: the network taken as linear, never negative, and less noisy. The loss must
        be convex in the outputs.
    exact : bool
        Of the Gauss-Newton matrix only: no random directions, one backward pass per output for every sample.
    granularity, block, seed, progress
        As for :func:`fisher`.

    Returns
    -------
    dict of str to Tensor
        Loss per squared error. Without `gauss_newton` some may be negative, by noise or because the loss curves so.

    Raises
    ------
    SpecError
        If an argument, a batch or the number of batches is not valid.

    Notes
    -----
    ``diag(H) = E[r * (H r)]`` for random signs r: C. Bekas, E. Kokiopoulou, Y. Saad, "An estimator for the diagonal of
    a matrix", Applied Numerical Mathematics 57 (2007), doi:10.1016/j.apnum.2007.01.003.
    """
    if gauss_newton:
        general = convex_factor(loss)

        def factor(outputs: Tensor, targets: Tensor | None) -> Root:
            # Known in closed form for plain class scores; other shapes have their classes elsewhere.
            known = loss is functional.cross_entropy and outputs.ndim == 2
            return softmax_factor(outputs, targets) if known else general(outputs, targets)

        found = first_order("gauss-newton", model, loader, factor, exact, samples, seed, progress)
        return average(found, granularity, block)
    if exact:
        raise SpecError("hessian: exact is offered for gauss_newton=True; otherwise raise the number of samples")
    found = second_order("hessian", model, loader, loss, samples, seed, progress)
    return average(found, granularity, block)
