"""Blocks of weights that share one number: averages over them, and the bits that tell a decoder of choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from memristore.errors import SpecError

GRANULARITIES: Final = ("value", "block", "channel", "tensor")


def average(values: Mapping[str, Tensor], granularity: str = "tensor", block: int = 64) -> dict[str, Tensor]:
    """Average over blocks of each tensor; shapes stay, with one value throughout a block.

    Parameters
    ----------
    values : mapping of str to Tensor
        For example what `memristore.allocate.sensitivity.fisher` returns.
    granularity : {"value", "block", "channel", "tensor"}
        Blocks are single values, runs of `block` values in memory order (the last may be shorter), slices of the first
        axis (output channels), or whole tensors.
    block : int
        Values of a block.

    Raises
    ------
    SpecError
        If the granularity is unknown or the block is not a positive integer.

    Notes
    -----
    A decoder must be told what was chosen for each block: :func:`side_information` counts the bits.
    """
    _check_granularity(granularity, block)
    return {name: _averaged(tensor.detach(), granularity, block) for name, tensor in values.items()}


def side_information(shapes: Mapping[str, tuple[int, ...]], granularity: str, options: int = 8, block: int = 64) -> int:
    """Bits that tell a decoder which of `options` was chosen for each block of tensors of these shapes.

    Shapes are known to the decoder, so this is the number of blocks times ``ceil(log2(options))``.

    Raises
    ------
    SpecError
        If an argument is not valid.
    """
    _check_granularity(granularity, block)
    check_count("side_information", "options", options)
    blocks = 0
    for shape in shapes.values():
        size = torch.Size(shape).numel()
        ways = {"value": size, "block": -(-size // block), "channel": shape[0] if shape else 1, "tensor": 1}
        blocks += min(ways[granularity], size)
    return blocks * (options - 1).bit_length()


def per_tensor(values: Mapping[str, Tensor]) -> tuple[tuple[str, float], ...]:
    """Return the mean of each tensor, at least 0, as pairs: what `memristore.allocate.Sensitive` takes."""
    return tuple(
        (name, max(0.0, float(tensor.double().mean()))) for name, tensor in values.items() if tensor.numel() > 0
    )


def _averaged(tensor: Tensor, granularity: str, block: int) -> Tensor:
    if granularity == "value" or tensor.numel() == 0:
        return tensor
    if granularity == "tensor" or (granularity == "channel" and tensor.ndim == 0):
        return tensor.mean().expand(tensor.shape)
    if granularity == "channel" and tensor.ndim == 1:
        return tensor
    if granularity == "channel":
        return tensor.flatten(1).mean(1).reshape(-1, *[1] * (tensor.ndim - 1)).expand(tensor.shape)
    padded = functional.pad(tensor.flatten(), (0, -tensor.numel() % block)).reshape(-1, block)
    counts = torch.full((len(padded), 1), block, dtype=tensor.dtype, device=tensor.device)
    counts[-1] -= padded.numel() - tensor.numel()
    means = padded.sum(1, keepdim=True) / counts
    return means.expand(-1, block).reshape(-1)[: tensor.numel()].reshape(tensor.shape)


def check_count(what: str, field: str, value: object) -> None:
    """Raise `SpecError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{what}: {field} must be an integer of at least 1, not {value!r}")


def _check_granularity(granularity: str, block: int) -> None:
    if granularity not in GRANULARITIES:
        raise SpecError(f"granularity must be one of {', '.join(GRANULARITIES)}, not {granularity!r}")
    check_count("granularity", "block", block)
