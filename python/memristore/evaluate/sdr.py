"""Signal-to-distortion ratio of weights: how much of a network came back, without any data to judge it by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from memristore.errors import TensorError
from memristore.evaluate.result import EXACT


class Sdr:
    """Metric: variance of the weights over their mean squared error, dB, all floating tensors together.

    Each tensor's variance is taken about its own mean. A copy that is exact (or better than 200 dB) scores 200.

    Parameters
    ----------
    reference : Module or state_dict
        The original network.

    Raises
    ------
    TensorError
        If it holds no weights that vary.
    """

    name: ClassVar[str] = "SDR"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, reference: nn.Module | Mapping[str, torch.Tensor]) -> None:
        self._reference = {k: v.detach().double().clone() for k, v in _weights(reference).items() if v.numel()}
        self._power = sum(float((v - v.mean()).square().sum()) for v in self._reference.values())
        if self._power <= 0:
            raise TensorError("SDR: the network holds no weights that differ from each other")

    def __call__(self, subject: nn.Module | Mapping[str, torch.Tensor]) -> float:
        """Return the SDR of a network with the same tensors, dB."""
        found: Mapping[str, Any] = _weights(subject)
        errors = sum(float((v - found[k].double()).square().sum()) for k, v in self._reference.items())
        if math.isnan(errors) or math.isinf(errors):
            return -EXACT
        return EXACT if errors <= self._power * 10 ** (-EXACT / 10) else 10 * math.log10(self._power / errors)


def _weights(subject: nn.Module | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = subject.state_dict() if isinstance(subject, nn.Module) else subject
    return {k: v for k, v in state.items() if v.is_floating_point()}
