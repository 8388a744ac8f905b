"""Calibration without retraining: batch norm is folded, then set anew for weights that carry errors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

#: Variance of a channel's output, relative to the largest of its layer, below which it does not vary: its scale, which
#: would be huge and say nothing, is left out.
_DEAD: Final = 1e-12
#: Variance, relative to that of the output, below which a channel says nothing about its scale.
_LEAST: Final = 1e-12


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Batch norms with statistics and parameters of their own, by name; what calibration can set."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
        and module.track_running_stats
        and module.affine
    }


def folded(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that answers alike, with the statistics of batch norms in their parameters.

    Means become 0 and variances 1 (less the constant that batch norm adds), so that they take no cells to speak of.
    """
    out = copy.deepcopy(model).eval()
    for module in norms_of(out).values():
        norm: Any = module
        with torch.no_grad():
            variance = norm.running_var.double()
            scale = norm.weight.double() / torch.sqrt(variance + norm.eps)
            said = (scale.square() * variance).nan_to_num(nan=0.0)
            scale = torch.where(said <= _DEAD * said.max(), 0.0, scale)
            norm.bias.copy_(norm.bias.double() - scale * norm.running_mean.double())
            norm.weight.copy_(scale)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
    return out


class Calibration:
    """Sets scale and bias of every batch norm so that its output comes closest to that of the original network.

    Norm by norm in the order of computation, behind weights with errors and norms already set: per channel the
    regression of the original output on what comes in, least in squared error over the inputs. One number each for
    scale and bias is stored in any case, so that this takes no cells.

    Parameters
    ----------
    model : Module
        The original network.
    batches : sequence of Tensor
        Inputs, joined to one batch; not those that the network is judged by.

    Notes
    -----
    After the bias correction of M. Nagel et al., "Data-free quantization through weight equalization and bias
    correction", ICCV 2019, arXiv:1906.04721, and the re-estimation of statistics of batch norm for quantised weights
    in X. Sun et al., "Hybrid 8-bit floating point training and inference for deep neural networks", NeurIPS 2019.
    """

    def __init__(self, model: nn.Module, batches: Sequence[torch.Tensor]) -> None:
        self.network = folded(model)
        self._inputs = torch.cat(list(batches))
        self._copy = copy.deepcopy(self.network)
        self._wanted: dict[str, torch.Tensor] = {}
        calls: dict[str, int] = {}
        handles = []
        for name, norm in norms_of(self.network).items():

            def keep(_: nn.Module, __: Any, out: torch.Tensor, name: str = name) -> None:
                calls[name] = calls.get(name, 0) + 1
                self._wanted[name] = out.clone()

            handles.append(norm.register_forward_hook(keep))
        self._run(self.network, handles)
        # A norm that is used twice has no single output to come close to.
        self._wanted = {name: out for name, out in self._wanted.items() if calls[name] == 1}

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def __call__(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return scale and bias of the norms, by names of the state_dict, for a network with these weights."""
        self._copy.load_state_dict(dict(state))
        norms: dict[str, Any] = norms_of(self._copy)
        handles = []
        for name, wanted in self._wanted.items():

            def settle(norm: Any, inputs: tuple[torch.Tensor, ...], wanted: torch.Tensor = wanted) -> None:
                _regress(norm, inputs[0], wanted)

            handles.append(norms[name].register_forward_pre_hook(settle))
        self._run(self._copy, handles)
        return {
            f"{name}.{part}": getattr(norms[name], part).detach().clone()
            for name in self._wanted
            for part in ("weight", "bias")
        }

    def _run(self, network: nn.Module, handles: list[Any]) -> None:
        try:
            with torch.no_grad():
                network(self._inputs)
        finally:
            for handle in handles:
                handle.remove()


def _regress(norm: Any, inputs: torch.Tensor, wanted: torch.Tensor) -> None:
    """Set scale and bias of a folded norm by least squares over all axes but that of the channels."""
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    shape = [1, -1] + [1] * (inputs.ndim - 2)
    x_mean, y_mean = inputs.mean(axes), wanted.mean(axes)
    x = inputs - x_mean.reshape(shape)
    power = x.square().mean(axes).double()
    product = (x * (wanted - y_mean.reshape(shape))).mean(axes).double()
    # A channel that does not vary keeps its scale; one whose numbers are not finite keeps everything.
    scale = torch.where(power > _LEAST * wanted.double().var(axes), product / power, norm.weight.double())
    bias = y_mean.double() - scale * x_mean.double()
    fine = torch.isfinite(scale) & torch.isfinite(bias)
    norm.weight.copy_(torch.where(fine, scale, norm.weight.double()))
    norm.bias.copy_(torch.where(fine, bias, norm.bias.double()))
