"""What a metric is given: a network with weights as read, whose memory is not held twice."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from memristore.errors import SpecError, TensorError

if TYPE_CHECKING:
    from memristore.torch_io import StateDict


class Probe:
    """A copy of a module that borrows tensors instead of holding its own, or the bare weights.

    Parameters
    ----------
    model : Module or state_dict
        Not changed.
    """

    def __init__(self, model: nn.Module | StateDict) -> None:
        self._model = model
        self.module: nn.Module | None = None
        self.subject: Any = model
        if isinstance(model, nn.Module):
            # Tensors of the copy start as views of the model's memory: a network is never copied whole.
            # Buffers, which are small and which a network may change, and parameters of other classes are copied.
            memo: dict[int, Any] = {
                id(tensor): nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
                for tensor in model.parameters()
                if type(tensor) is nn.Parameter
            }
            self.module = copy.deepcopy(model, memo)
            self.subject = self.module
            self._own = {name: tensor.detach() for name, tensor in self._targets(self.module).items()}

    @staticmethod
    def _targets(module: nn.Module) -> dict[str, torch.Tensor]:
        return dict(module.state_dict(keep_vars=True))

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take weights, every one of them, or say which do not fit; the tensors given are used, not copied."""
        if self.module is None:
            self.subject = state
            return
        targets = self._targets(self.module)
        known = {id(t) for t in (*self.module.parameters(), *self.module.buffers())}
        if any(id(tensor) not in known for tensor in targets.values()):
            # A module that makes its state_dict up must take it apart itself, into memory of its own.
            self._copied(state)
            return
        if wrong := _misfit(targets, state):
            raise TensorError(f"evaluate: the stored network does not fit the model given: {wrong}")
        for name, tensor in targets.items():
            tensor.data = state[name].to(device=tensor.device, dtype=tensor.dtype)

    def release(self) -> None:
        """Let go of the weights taken last: the network is the model given again."""
        if self.module is None:
            self.subject = self._model
            return
        for name, tensor in self._targets(self.module).items():
            if name in self._own and self._own[name].shape == tensor.shape:
                tensor.data = self._own[name]

    def _copied(self, state: Mapping[str, torch.Tensor]) -> None:
        if self.module is None:
            return
        for parameter in (*self.module.parameters(), *self.module.buffers()):
            parameter.data = parameter.data.clone()
        try:
            self.module.load_state_dict(dict(state), strict=True)
        except RuntimeError as error:
            raise TensorError(f"evaluate: the stored network does not fit the model given: {error}") from error


def _misfit(targets: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    for name in targets:
        if name not in state:
            return f"it lacks {name}"
    for name, tensor in state.items():
        if name not in targets:
            return f"the model has no {name}"
        if tensor.shape != targets[name].shape:
            return f"{name} has shape {tuple(tensor.shape)} there, {tuple(targets[name].shape)} in the model"
    return ""


def number_of(value: Any, when: str) -> float:
    """Insist on a finite number from a metric."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = "; end it with .item()" if isinstance(value, torch.Tensor) else ""
        raise SpecError(
            f"evaluate: the metric must return a float, but {when} it returned {type(value).__name__}{hint}"
        )
    number = float(value)
    if number - number != 0:
        raise SpecError(f"evaluate: the metric returned {number} {when}; it must be a finite number for every read")
    return number


class Judge:
    """A metric, and what it measures besides; see `memristore.evaluate.evaluate`.

    Parameters
    ----------
    metric : callable
        With an optional method ``against(model)`` that returns a metric which remembers the model's own answers, and,
        of that or of itself, ``measure(model)`` that returns the metric by its name among other numbers.
    model : Module or state_dict
        The network that was stored.
    """

    def __init__(self, metric: Callable[[Any], float], model: Any) -> None:
        against = getattr(metric, "against", None)
        self.metric: Any = against(model) if callable(against) and isinstance(model, nn.Module) else metric
        self._measure = getattr(self.metric, "measure", None)
        self._name = str(getattr(self.metric, "name", "metric"))

    def clean(self, copied: Callable[[], Any]) -> float:
        """Metric of the original network, given a way to copy it; not computed where the metric has it already."""
        known = getattr(self.metric, "clean_value", None)
        return self(copied(), "for the original network")[0] if known is None else float(known)

    def __call__(self, subject: Any, when: str) -> tuple[float, dict[str, float]]:
        """Return the metric of a network, and the other numbers."""
        if not callable(self._measure):
            return number_of(self.metric(subject), when), {}
        found = dict(self._measure(subject))
        if self._name not in found:
            raise SpecError(f"evaluate: the metric's measure() must return {self._name!r} among its numbers")
        numbers_found = {name: number_of(value, when) for name, value in found.items()}
        return numbers_found.pop(self._name), numbers_found
