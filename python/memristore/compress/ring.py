"""Tensor rings: a tensor as traces of chains of small cores, found by an SVD sweep and alternating least squares."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.compress.factors import on_grid, product

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Axes from this length on are split in two, so that more cores share the work.
_SPLIT_FROM: Final = 16
#: What is added to the diagonal of normal equations, as a share of their trace: cores of too high rank stay bounded.
_RIDGE: Final = 1e-11
#: What negative partial products may be multiplied with, 1 for linear rings; steps of the optimiser at each other one.
SLOPES: Final = (1.0, 0.75, 0.5, 0.25)
_STEPS: Final = 50


def axes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of the ring of a tensor: channels split into two near-equal factors, the kernel's places as one."""
    axes: list[int] = []
    for length in (*shape[:2], math.prod(shape[2:])):
        root = next((d for d in range(math.isqrt(length), 1, -1) if length % d == 0), 1)
        axes += [root, length // root] if length >= _SPLIT_FROM and root > 1 else [length]
    return tuple(axis for axis in axes if axis > 1)


def value_count(axes: tuple[int, ...], rank: int) -> int:
    """Values of all cores."""
    return rank * rank * sum(axes)


def _bent(values: F64, slope: float) -> F64:
    return values if slope == 1 else np.where(values < 0, slope * values, values)


def _chain(cores: list[F32] | list[F64], slope: float) -> F64:
    """Contract neighbouring cores, shape (a, d, b), term by term; each product bends. Shape (a, D, b)."""
    whole = cores[0].astype(np.float64)
    for core in cores[1:]:
        first, size, inner = whole.shape
        rows = whole.transpose(2, 0, 1).reshape(inner, first * size)
        columns = core.reshape(inner, -1)
        joined = product(rows, columns, (rows.shape[1], columns.shape[1]))
        whole = _bent(joined, slope).reshape(first, -1, core.shape[2])
    return whole


def contract(cores: list[F32], slope: float = 1.0) -> F64:
    """Return the tensor of a ring, flat: the same bits on every machine.

    Parameters
    ----------
    cores : list of ndarray, shapes (rank, axis, rank)
        At least two.
    slope : float
        1: the ring is linear. Else each product of two cores and more, in the first and in the second half of the
        ring, has its negative values multiplied with it before the next contraction.

    Returns
    -------
    ndarray, shape (product of axes,), float64
    """
    if cores[0].size == 0:
        return np.zeros(math.prod(core.shape[1] for core in cores))
    half = (len(cores) + 1) // 2
    left, right = _chain(cores[:half], slope), _chain(cores[half:], slope)
    rank_a, size_left, rank_b = left.shape
    rows = left.transpose(0, 2, 1).reshape(rank_a * rank_b, size_left)
    columns = right.transpose(2, 0, 1).reshape(rank_a * rank_b, -1)
    return product(rows, columns, (size_left, columns.shape[1])).reshape(-1)


def _start(tensor: F64, rank: int) -> list[F64]:
    """One sweep of truncated SVDs; ranks that are too high are filled with zeros.

    Source: Q. Zhao et al., "Tensor Ring Decomposition", 2016, arXiv:1606.05535, algorithm 1.
    """
    axes = tensor.shape
    left, singular, right = np.linalg.svd(tensor.reshape(axes[0], -1), full_matrices=False)
    kept = min(rank * rank, singular.size)
    first = np.zeros((axes[0], rank * rank))
    rest = np.zeros((rank * rank, right.shape[1]))
    first[:, :kept], rest[:kept] = left[:, :kept], singular[:kept, None] * right[:kept]
    cores = [first.reshape(axes[0], rank, rank).swapaxes(0, 1)]
    rest = np.moveaxis(rest.reshape(rank, rank, -1), 0, 2).reshape(rank, -1)
    for axis in axes[1:-1]:
        left, singular, right = np.linalg.svd(rest.reshape(rank * axis, -1), full_matrices=False)
        kept = min(rank, singular.size)
        core = np.zeros((rank * axis, rank))
        rest = np.zeros((rank, right.shape[1]))
        core[:, :kept], rest[:kept] = left[:, :kept], singular[:kept, None] * right[:kept]
        cores.append(core.reshape(rank, axis, rank))
    cores.append(rest.reshape(rank, axes[-1], rank))
    return cores


def _others(cores: list[F64], k: int) -> F64:
    """Contract all cores but one, from the one behind it round to the one before it; shape (rank, rest, rank)."""
    ring = cores[k + 1 :] + cores[:k]
    whole = ring[0]
    for core in ring[1:]:
        whole = np.tensordot(whole, core, axes=(2, 0)).reshape(whole.shape[0], -1, core.shape[2])
    return whole


def fit_ring(tensor: F64, rank: int, sweeps: int) -> list[F64]:
    """Fit a linear ring by an SVD sweep and `sweeps` rounds of alternating least squares; squared error never grows."""
    cores = _start(tensor, rank)
    for _ in range(sweeps):
        for k, axis in enumerate(tensor.shape):
            others = _others(cores, k).transpose(2, 0, 1).reshape(rank * rank, -1)
            order = (k, *range(k + 1, tensor.ndim), *range(k))
            unfolded = tensor.transpose(order).reshape(axis, -1)
            normal = others @ others.T
            normal[np.diag_indices_from(normal)] += _RIDGE * np.trace(normal) + 1e-300
            solved = np.linalg.solve(normal, others @ unfolded.T)
            cores[k] = np.asarray(solved.reshape(rank, rank, axis).swapaxes(1, 2), np.float64)
    return cores


def fit_bent_rings(tensor: F64, cores: list[F64]) -> list[list[F64]]:
    """Fit a non-linear ring for each of `SLOPES` but the first by quasi-Newton steps, each from the one before on."""
    import torch

    wanted = torch.from_numpy(tensor.reshape(-1))
    energy = float(wanted.square().sum())
    # Least squares leave cores of very different norms, which no gradient likes.
    made = [torch.from_numpy(np.array(core, np.float64, order="C")).requires_grad_() for core in level(cores, 1.0)]
    half = (len(made) + 1) // 2

    def chain(part: list[torch.Tensor], slope: float) -> torch.Tensor:
        whole = part[0]
        for core in part[1:]:
            joined = torch.einsum("adb,bec->adec", whole, core).reshape(whole.shape[0], -1, core.shape[2])
            whole = torch.nn.functional.leaky_relu(joined, slope)
        return whole

    found_rings = []
    for slope in SLOPES[1:]:
        optimiser = torch.optim.LBFGS(
            made, max_iter=_STEPS, history_size=20, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def loss(slope: float = slope, optimiser: torch.optim.LBFGS = optimiser) -> torch.Tensor:
            optimiser.zero_grad()
            found = torch.einsum("adb,bea->de", chain(made[:half], slope), chain(made[half:], slope))
            error = (found.reshape(-1) - wanted).square().sum() / energy
            error.backward()
            return error

        optimiser.step(loss)
        found_rings.append([core.detach().numpy().copy() for core in made])
    return found_rings


def level(cores: list[F64], top: float) -> list[F32]:
    """Give all cores the same norm, put the scale `top` of the tensor back in, and round to a grid."""
    norms = [float(np.sqrt(np.square(core).sum())) for core in cores]
    if min(norms) == 0 or not all(math.isfinite(norm) for norm in norms):
        return [np.zeros(core.shape, np.float32) for core in cores]
    # Logarithms, since the product of many norms may be out of range; the grid hides their last bits.
    mean = math.exp(math.fsum(math.log(norm) for norm in norms) / len(cores) + math.log(top) / len(cores))
    return [on_grid(core * (mean / norm)) for core, norm in zip(cores, norms, strict=True)]
