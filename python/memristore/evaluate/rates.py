"""What a compressor alone makes of a network: values and bits by kind, and distortion, before any channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from memristore.protect import Entropy
from memristore.spec import StorageSpec
from memristore.storage import PreparedModel, prepare
from memristore.streams import AnalogStream
from memristore.torch_io import base_of
from memristore.transform import Compressor

#: Name of the row over all tensors.
TOTAL: Final = "total"
#: Bits that an analog value counts as where only bits are counted.
ANALOG_BITS: Final = 32


@dataclass(frozen=True)
class Rate:
    """One tensor, or all, as compressed.

    Parameters
    ----------
    tensor : str
        Name; ``"total"`` for the sum.
    weights : int
        Weights of the original, as in cells per weight: no integer counters.
    analog_values : int
        Values left for analog cells.
    bits : dict
        Number of bits by kind of stream (``"sign"``, ``"scale"``, ...).
    sdr_db : float
        Variance over mean squared error, dB; infinite where all came back exactly.
    """

    tensor: str
    weights: int
    analog_values: int
    bits: dict[str, int]
    sdr_db: float

    @property
    def bits_per_weight(self) -> float:
        """All bits per weight, an analog value counted as 32."""
        return (sum(self.bits.values()) + ANALOG_BITS * self.analog_values) / max(1, self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict without infinities: null stands for an exact copy."""
        return {
            "tensor": self.tensor,
            "weights": self.weights,
            "analog_values": self.analog_values,
            "bits": self.bits,
            "bits_per_weight": self.bits_per_weight,
            "sdr_db": self.sdr_db if math.isfinite(self.sdr_db) else None,
        }


def compression_report(
    source: nn.Module | Mapping[str, torch.Tensor],
    compressor: Compressor | Sequence[Compressor],
    *,
    entropy: bool = False,
    threads: int = 0,
) -> list[Rate]:
    """Compress a network and report rate and distortion on perfect cells.

    Parameters
    ----------
    source : Module or state_dict
        Left untouched.
    compressor : Compressor or sequence of Compressor
        Applied in order.
    entropy : bool
        Whether bits are counted after `Entropy`, as a recipe with it would store them.
    threads : int
        Threads for kernels; 0 means all.

    Returns
    -------
    list of Rate
        A row per distinct tensor (tied ones once), then ``"total"``.

    Raises
    ------
    SpecError
        If these are no compressors.
    TensorError
        If a tensor cannot be stored.

    Examples
    --------
    >>> import torch
    >>> from memristore import Quantize, compression_report
    >>> rows = compression_report(torch.nn.Linear(64, 64), Quantize(bits=8))
    >>> rows[-1].tensor, round(rows[-1].bits_per_weight, 2), rows[-1].sdr_db > 40
    ('total', 8.02, True)
    """
    prepared = compressed(source, compressor, entropy=entropy, threads=threads)
    return rates(source, prepared)


def compressed(
    source: nn.Module | Mapping[str, torch.Tensor],
    compressor: Compressor | Sequence[Compressor],
    *,
    entropy: bool = False,
    threads: int = 0,
) -> PreparedModel:
    """Compress a network for perfect cells; see :func:`compression_report`."""
    chain = (compressor,) if isinstance(compressor, Compressor) else tuple(compressor)
    spec = StorageSpec(device="ideal", compress=chain, protect=(Entropy(),) if entropy else ())
    return prepare(source, spec, threads=threads)


def rates(source: nn.Module | Mapping[str, torch.Tensor], prepared: PreparedModel) -> list[Rate]:
    """Rows of :func:`compression_report` for a network that was compressed already."""
    original = source.state_dict() if isinstance(source, nn.Module) else source
    found = prepared.decode_clean()
    analog: dict[str, int] = {}
    bits: dict[str, dict[str, int]] = {}
    for stream in prepared.payload:
        base = base_of(stream.name)
        if isinstance(stream, AnalogStream):
            analog[base] = analog.get(base, 0) + len(stream)
        else:
            kinds = bits.setdefault(base, {})
            kinds[stream.kind] = kinds.get(stream.kind, 0) + len(stream)
    rows, all_bits, power, error = [], dict[str, int](), 0.0, 0.0
    for entry in prepared.entries:
        if entry.kind == "alias":
            continue
        mine, off = _moments(original[entry.name], found[entry.name])
        power, error = power + mine, error + off
        kinds = bits.get(entry.base, {})
        for kind, count in kinds.items():
            all_bits[kind] = all_bits.get(kind, 0) + count
        weights = entry.size if entry.parameter else 0
        rows.append(Rate(entry.name, weights, analog.get(entry.base, 0), kinds, _decibels(mine, off)))
    weights = sum(row.weights for row in rows)
    rows.append(Rate(TOTAL, weights, sum(analog.values()), all_bits, _decibels(power, error)))
    return rows


def _moments(original: torch.Tensor, found: torch.Tensor) -> tuple[float, float]:
    """Sum of squares about the mean, and of errors."""
    if not original.numel() or not original.is_floating_point():
        return 0.0, 0.0
    a, b = original.detach().to("cpu", torch.float64), found.to(torch.float64)
    same = (a == b) | (a.isnan() & b.isnan())  # exact tensors may hold what has no difference
    error = float(torch.where(same, torch.zeros_like(a), a - b).square().sum())
    return float((a - a.mean()).square().sum()), error


def _decibels(power: float, error: float) -> float:
    if error == 0:
        return math.inf
    return 10 * math.log10(power / error) if power > 0 else -math.inf
