"""Magnitude pruning: the smallest weights become zero, at once or gradually with fine-tuning in between."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.streams import AnalogStream, Payload, Stream
from memristore.transform import Compressor, Context

if TYPE_CHECKING:
    import torch
    from torch import nn


F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Prune(Compressor):
    """Set the smallest weights to zero.

    Exactly ``round(sparsity * n)`` values are set to zero (``n`` over all pruned tensors or in each); values that are
    zero already count. Equal magnitudes go by position. By itself it saves no cells: a later stage must drop the zeros.

    Parameters
    ----------
    sparsity : float, optional
        Share of values to remove, in [0, 1); of channels or blocks if these are the structure. Not with ``"n:m"``.
    scope : {"global", "layer"}
        Whether magnitudes are compared in the whole network or within each tensor.
    minimum_dim : int
        Tensors with fewer dimensions (biases, normalisation) are left alone.
    structure : str
        What is removed together. ``"value"``; ``"channel"``, a slice of the first axis; ``"block:k"``, k values next to
        each other in memory; each judged by its root mean square. ``"n:m"``, for example ``"2:4"``: n of each m values
        next to each other are kept (A. Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021,
        arXiv:2104.08378); an incomplete last group keeps up to n.

    Raises
    ------
    SpecError
        If a field is out of range.
    """

    name: ClassVar[str] = "prune"
    source: ClassVar[str] = "M. Zhu and S. Gupta 2017, arXiv:1710.01878 (schedule)"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"sparsity": 0.9},
        {"sparsity": 0.5, "scope": "layer"},
        {"sparsity": 0.5, "structure": "channel", "scope": "layer"},
        {"sparsity": 0.7, "structure": "block:4"},
        {"structure": "2:4"},
    )
    sparsity: float | None = None
    scope: str = "global"
    minimum_dim: int = 2
    structure: str = "value"

    def __post_init__(self) -> None:
        kind, _ = _structure(self.structure)
        if kind == "n:m":
            if self.sparsity is not None:
                raise SpecError(f"prune: structure {self.structure!r} sets the sparsity; leave sparsity out")
        elif self.sparsity is None:
            raise SpecError("prune: sparsity is missing: the share of values to remove, in [0, 1)")
        check_number("prune", "sparsity", self.share if self.sparsity is None else self.sparsity, 0, 1)
        if self.share == 1:
            raise SpecError("prune: sparsity must be less than 1; a network without weights has nothing to store")
        if self.scope not in ("global", "layer"):
            raise SpecError(f"prune: scope must be 'global' or 'layer', not {self.scope!r}")
        check_number("prune", "minimum_dim", self.minimum_dim, 0, 64, integer=True)

    @property
    def share(self) -> float:
        """Share of values that goes, whatever sets it."""
        kind, (keep, of) = _structure(self.structure)
        return 1 - keep / of if kind == "n:m" else float(self.sparsity or 0.0)

    def drops(self, arrays: Sequence[F32], share: float | None = None) -> list[npt.NDArray[np.bool_]]:
        """Choose what goes from arrays of the tensors' shapes; `share` instead of the sparsity, on the way to it."""
        share = self.share if share is None else share
        kind, (size, of) = _structure(self.structure)
        if kind == "value":
            return drop_masks(arrays, share, self.scope)
        if kind == "n:m":
            return [_drop_within(array, of, size, share) for array in arrays]
        groups = [_rows(array, kind, size) for array in arrays]
        means = [np.sqrt(_mean_squares(rows)).astype(np.float32) for rows in groups]
        chosen = drop_masks(means, share, self.scope)
        return [
            np.broadcast_to(drop[:, None], rows.shape).reshape(-1)[: array.size].reshape(array.shape)
            for drop, rows, array in zip(chosen, groups, arrays, strict=True)
        ]

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Set the smallest values of the analog streams to zero."""
        shapes = context.shapes
        chosen = [s for s in payload.analog_streams() if s.name in shapes and len(shapes[s.name]) >= self.minimum_dim]
        drops = self.drops([_shaped(s.values, shapes[s.name]) for s in chosen])
        pruned: dict[str, Stream] = {
            s.name: AnalogStream(s.name, np.where(drop.reshape(-1), np.float32(0), s.values), s.sensitivity)
            for s, drop in zip(chosen, drops, strict=True)
        }
        return Payload(pruned.get(s.name, s) for s in payload)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Return the payload: nothing is left to undo."""
        return payload


def _structure(text: str) -> tuple[str, tuple[int, int]]:
    """Kind of structure and its numbers: values of a block, or how many of how many are kept."""
    if text in ("value", "channel"):
        return text, (1, 1)
    found = re.fullmatch(r"block:([1-9]\d{0,6})|([1-9]\d{0,3}):([1-9]\d{0,3})", text) if isinstance(text, str) else None
    if found and found[1]:
        return "block", (int(found[1]), 1)
    if found and int(found[2]) <= int(found[3]):
        return "n:m", (int(found[2]), int(found[3]))
    raise SpecError(f"prune: structure must be 'value', 'channel', 'block:k' or 'n:m' with n <= m, not {text!r}")


def _shaped(values: F32, shape: tuple[int, ...]) -> F32:
    if math.prod(shape) != values.size:
        raise TensorError(f"prune: {values.size} values do not fill a tensor of shape {shape}")
    return values.reshape(shape)


def _rows(array: F32, kind: str, size: int) -> F32:
    """Groups as rows; an incomplete last block is filled up with its own values, which leaves its mean as it is."""
    if kind == "channel":
        return array.reshape(array.shape[0] if array.ndim > 1 else array.size, -1 if array.size else 1)
    flat = array.reshape(-1)
    missing = -flat.size % size
    if missing and flat.size:
        last = flat[flat.size - (size - missing) :]
        flat = np.concatenate([flat, np.resize(last, missing)])
    return flat.reshape(-1, size)


def _mean_squares(rows: F32) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.square(rows, dtype=np.float64).mean(axis=1)
    return found


def _drop_within(array: F32, of: int, keep: int, share: float) -> npt.NDArray[np.bool_]:
    """Drop the smallest of each group; fewer than in the end while `share` is less than that of the end."""
    flat = np.abs(array.reshape(-1))
    missing = -flat.size % of
    rows = np.concatenate([flat, np.full(missing, -1, np.float32)]).reshape(-1, of)
    count = min(round(share * of), of - keep) if share < 1 - keep / of else of - keep
    order = np.argsort(rows, axis=1, kind="stable")
    drop = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(drop, order[:, :count], True, axis=1)
    return drop.reshape(-1)[: array.size].reshape(array.shape)


def drop_masks(arrays: Sequence[F32], sparsity: float, scope: str) -> list[npt.NDArray[np.bool_]]:
    """Choose the smallest magnitudes.

    Parameters
    ----------
    arrays : sequence of ndarray, float32
        Values, of any shapes.
    sparsity : float
        Share to choose, in [0, 1).
    scope : {"global", "layer"}
        Compare across all arrays or within each.

    Returns
    -------
    list of ndarray, bool
        True for ``round(sparsity * n)`` values to drop, in all or in each; in the shapes of `arrays`.
    """
    if scope == "layer":
        return [mask for array in arrays for mask in drop_masks([array], sparsity, "global")]
    if not arrays:
        return []
    # The bits of magnitudes are ordered as the magnitudes are, and compare faster.
    order = np.concatenate([np.abs(array).reshape(-1).view(np.uint32) for array in arrays])
    count = round(sparsity * order.size)
    drop = np.zeros(order.size, np.bool_)
    if count > 0:
        limit = np.partition(order, count - 1)[count - 1]
        np.less(order, limit, out=drop)
        ties = np.flatnonzero(order == limit)
        drop[ties[: count - int(np.count_nonzero(drop))]] = True
    parts = np.split(drop, np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def prune_and_finetune(
    model: nn.Module, prune: Prune, finetune: Callable[[nn.Module, int], object], steps: int = 8
) -> nn.Module:
    """Prune a copy of a network gradually, training between the steps.

    After step ``i`` of ``n`` a share ``sparsity * (1 - (1 - i / n)**3)`` of the weights is zero (M. Zhu and S. Gupta,
    "To prune, or not to prune", 2017, arXiv:1710.01878). Gradients of removed weights are masked while `finetune` runs,
    so that a fresh optimiser leaves them at zero; the masks are applied again after each call, whatever it did.

    Masks act on parameters, not on modules: unlike ``torch.nn.utils.prune`` this works for tied parameters, recurrent
    layers and attention, and needs no reparametrisation that would have to be removed.

    Parameters
    ----------
    model : torch.nn.Module
        Left untouched.
    prune : Prune
        The final state; storing the result with it removes just the weights that are zero already.
    finetune : callable
        ``finetune(model, step)`` trains the model in place; step counts from 1. The parameters are the same objects in
        every call.
    steps : int
        Number of pruning steps, at least 1.

    Returns
    -------
    torch.nn.Module
        A pruned deep copy with exact zeros.

    Raises
    ------
    SpecError
        If `steps` is out of range or the model has nothing to prune.
    """
    import torch

    check_number("prune_and_finetune", "steps", steps, 1, 10**6, integer=True)
    pruned = copy.deepcopy(model)
    parameters = [p for p in pruned.parameters() if p.is_floating_point() and p.dim() >= prune.minimum_dim]
    if not parameters:
        raise SpecError(f"the model has no floating-point parameter of {prune.minimum_dim} or more dimensions to prune")
    for step in range(1, steps + 1):
        share = prune.share * (1.0 - (1.0 - step / steps) ** 3)
        arrays = [p.detach().to("cpu", torch.float32).contiguous().numpy() for p in parameters]
        drops = prune.drops(arrays, share)
        masks = [torch.from_numpy(drop).to(p.device) for drop, p in zip(drops, parameters, strict=True)]
        hooks = [
            p.register_hook(functools.partial(_mask_gradient, mask=mask))
            for p, mask in zip(parameters, masks, strict=True)
            if p.requires_grad
        ]
        try:
            _clear(parameters, masks)
            finetune(pruned, step)
            _clear(parameters, masks)
        finally:
            for hook in hooks:
                hook.remove()
    return pruned


def _mask_gradient(gradient: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # A sparse gradient (of an embedding) stays as it is: masking it would make it dense.
    return gradient if gradient.is_sparse else gradient.masked_fill(mask, 0)


def _clear(parameters: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> None:
    for parameter, mask in zip(parameters, masks, strict=True):
        parameter.detach().masked_fill_(mask, 0)
