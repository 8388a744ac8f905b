"""Fine-tuning with weights on a grid, bits in the loss: networks that take few bits when their levels are coded."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.spec import StorageSpec
from memristore.train.loop import Loader, Trained
from memristore.train.robust import robust_finetune

Rules = float | Sequence[tuple[str, float]]

#: Halvings of the interval in which a step is sought.
_HALVINGS: Final = 40
#: Values that a step is chosen by.
_SAMPLE: Final = 65536
#: Levels that the slope of bits against magnitude is taken from: zero and its neighbours.
_NEAR: Final = 1


class GridQuantizer:
    """Quantises weights in each forward pass and counts their bits; a `noise` for :func:`robust_finetune`.

    Every tensor of two dimensions and more has a step, which stays; weights become multiples of it, and gradients pass
    straight through. The price adds ``price * bits`` to the loss. Bits grow with a weight's magnitude as they do from
    level 0 to level 1 in the tensor's own histogram, so that the penalty pulls weights to zero the harder, the dearer a
    level is; batch norm takes up the scale, and layers that stand fewer levels end up with fewer.

    Parameters
    ----------
    model : Module
        Steps are chosen for its weights.
    sdr : float or sequence of (str, float)
        Signal-to-distortion ratio that rounding leaves at the start, dB; or pairs of a pattern (``fnmatch``) of
        parameter names and a ratio, the first that matches counts, and tensors that none matches stay as they are.
    price : float
        Nats of loss that a bit is worth.
    threshold : float
        Share of a step beyond which a magnitude is rounded up, in [0.5, 1].
    refresh : int
        Steps between two looks at the histograms.

    Raises
    ------
    SpecError
        If a number is out of range or no tensor has a step.
    TensorError
        If a weight is not finite.

    Notes
    -----
    Straight-through quantisation after M. Courbariaux et al., arXiv:1511.00363; with the entropy of levels in the loss
    after S. Wiedemann et al., "Entropy-constrained training of deep neural networks", IJCNN 2019, arXiv:1812.07520.
    """

    def __init__(
        self, model: nn.Module, sdr: Rules = 8.0, *, price: float = 5e-6, threshold: float = 0.6, refresh: int = 20
    ) -> None:
        check_number("quantized", "price", price, 0, 1e3)
        check_number("quantized", "threshold", threshold, 0.5, 1)
        check_number("quantized", "refresh", refresh, 1, 10**9, integer=True)
        self.price, self.threshold, self.every = price, threshold, refresh
        self.steps: dict[str, float] = {}
        for name, weight in model.named_parameters():
            ratio = _ratio(sdr, name)
            if weight.dim() < 2 or not weight.is_floating_point() or ratio is None:
                continue
            flat = weight.detach().reshape(-1)
            if not bool(torch.isfinite(flat).all()):
                raise TensorError(f"quantized: {name} holds values that are not finite; repair them first")
            step = self._step(_sample(flat).cpu().double(), ratio) if flat.numel() else 0.0
            if step > 0:
                self.steps[name] = step
        if not self.steps:
            raise SpecError("quantized: no tensor of two dimensions or more to quantise")
        self._slopes: dict[str, float] = {}
        self._calls = 0

    def _step(self, weight: torch.Tensor, ratio: float) -> float:
        power = float(weight.var(correction=0))
        if power == 0:
            return 0.0
        low, high = 0.0, 4 * float(weight.abs().max())
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            error = float((weight - middle * self.levels(weight, middle)).square().mean())
            low, high = (middle, high) if error <= power * 10 ** (-ratio / 10) else (low, middle)
        # A float32 number, so that levels times the step are what a float32 network holds.
        return float(torch.tensor(low or high, dtype=torch.float32))

    def levels(self, weight: torch.Tensor, step: float) -> torch.Tensor:
        """Multiples of the step, as floating numbers of at least 32 bits."""
        wide = weight if weight.dtype == torch.float64 else weight.float()
        return torch.sign(wide) * torch.floor(wide.abs() / step + (1 - self.threshold))

    def __call__(self, model: nn.Module, strength: float = 1.0) -> dict[str, torch.Tensor]:
        """Return the quantised weights by name; `strength` is the share of the rounding error that is let through."""
        weights = dict(model.named_parameters())
        if self._calls % self.every == 0:
            self._look(model)
        self._calls += 1
        out = {}
        for name, step in self.steps.items():
            weight = weights[name]
            error = (self.levels(weight.detach(), step) * step).to(weight.dtype) - weight.detach()
            out[name] = weight + (strength * error if strength != 1.0 else error)
        return out

    def _look(self, model: nn.Module) -> None:
        weights = dict(model.named_parameters())
        self._slopes = {name: self._slope(weights[name].detach(), step) for name, step in self.steps.items()}

    def _slope(self, weight: torch.Tensor, step: float) -> float:
        """Bits from level 0 to level 1, its sign included."""
        near = (self.levels(weight, step).abs() <= _NEAR).sum()
        zero = (self.levels(weight, step) == 0).sum()
        return max(1.0 + math.log2((float(zero) + 1) / (float(near - zero) + 1)), 0.0)

    def penalty(self, model: nn.Module) -> torch.Tensor:
        """Price of all bits, nats; only its gradient matters, so that bits are counted from level 0."""
        if not self._slopes:
            self._look(model)
        weights = dict(model.named_parameters())
        rates = [
            weights[name].abs().sum(dtype=torch.float32) * (slope / self.steps[name])
            for name, slope in self._slopes.items()
        ]
        return self.price * torch.stack(rates).sum()

    def bits(self, model: nn.Module) -> float:
        """Entropy of all levels, bits: about what coding them takes."""
        weights, total = dict(model.named_parameters()), 0.0
        for name, step in self.steps.items():
            _, counts = torch.unique(self.levels(weights[name].detach(), step), return_counts=True)
            share = counts.cpu().double() / float(counts.sum())
            total -= float(counts.sum() * (share * share.log2()).sum())
        return total

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        """Put a model's weights on the grid, as forward passes saw them."""
        weights = dict(model.named_parameters())
        for name, step in self.steps.items():
            weights[name].copy_(self.levels(weights[name], step) * step)

    def state_dict(self) -> dict[str, Any]:
        """Steps and what is known of the histograms, for checkpoints."""
        settings = {"price": self.price, "threshold": self.threshold, "refresh": self.every}
        return settings | {"steps": dict(self.steps), "slopes": dict(self._slopes), "calls": self._calls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`; `SpecError` if it belongs to another grid or price."""
        mine = self.state_dict()
        other = [name for name in ("price", "threshold", "refresh", "steps") if mine[name] != state.get(name)]
        if other:
            raise SpecError(
                f"quantized: the checkpoint belongs to a run with another {', '.join(other)}; use the same sdr, price, "
                f"threshold and network, or another file"
            )
        self._slopes = dict(state["slopes"])
        self._calls = int(state["calls"])


def quantized_finetune(
    model: nn.Module,
    loader: Loader,
    *,
    sdr: Rules = 8.0,
    price: float = 5e-6,
    threshold: float = 0.6,
    **options: Any,
) -> Trained:
    """Fine-tune a network with its weights on a grid and their bits in the loss.

    The result's matrices and kernels hold multiples of one step each. :class:`memristore.RateDistortion` finds them and
    codes them exactly, at about their entropy, where that takes fewer bits than its own levels at the ratio asked for;
    so ask for a high one. Vectors (biases, batch norm) are trained as they are.

    Parameters
    ----------
    model : Module
        Left untouched; a copy is trained.
    loader : iterable or callable
        As for :func:`robust_finetune`.
    sdr, price, threshold
        See :class:`GridQuantizer`: coarser steps (fewer dB) and a higher price take fewer bits.
    **options
        As for :func:`robust_finetune`: epochs, optimizer, scheduler, teacher, checkpoints and so on.

    Returns
    -------
    Trained
        The network on its grid. History holds the entropy of its levels, ``bits``, after each epoch.

    Examples
    --------
    >>> import torch, memristore as ms
    >>> from memristore.train import quantized_finetune
    >>> x = torch.randn(64, 16)
    >>> tuned = quantized_finetune(torch.nn.Linear(16, 4), [(x, x[:, :4].argmax(1))], sdr=10, progress=False)
    >>> recipe = ms.StorageSpec(compress=(ms.RateDistortion(sdr=35),), bits=ms.Densest())
    >>> back = ms.prepare(tuned.model, recipe).decode_clean()
    >>> bool((back["weight"] == tuned.model.weight).all())
    True
    """
    quantizer = GridQuantizer(model, sdr, price=price, threshold=threshold)
    options.setdefault("noise_schedule", "constant")
    trained = robust_finetune(model, StorageSpec(), loader, noise=quantizer, **options)
    quantizer.settle(trained.model)
    return trained


def _sample(flat: torch.Tensor) -> torch.Tensor:
    """Values to choose a step by: all, or so many drawn at random, as regular ones would all be of one kernel tap."""
    if flat.numel() <= _SAMPLE:
        return flat
    chosen = torch.randint(flat.numel(), (_SAMPLE,), generator=torch.Generator().manual_seed(0))
    some = flat[chosen.to(flat.device)]
    return some if bool((some != some[0]).any()) else flat


def _ratio(sdr: Rules, name: str) -> float | None:
    if isinstance(sdr, (int, float)):
        check_number("quantized", "sdr", sdr, 0, 120, open_low=True)
        return float(sdr)
    for rule in sdr:
        if not isinstance(rule, tuple | list) or len(rule) != 2 or not isinstance(rule[0], str):
            raise SpecError(f"quantized: sdr is a number or pairs of a pattern and a number, not {rule!r}")
        if fnmatch.fnmatchcase(name, rule[0]):
            check_number("quantized", f"sdr of {rule[0]!r}", rule[1], 0, 120, open_low=True)
            return float(rule[1])
    return None
