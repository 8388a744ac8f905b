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
#: Values that the share of levels in a row, a column or at a tap is drawn to the mean by.
_SHRINK: Final = 4.0
#: With a goal: share of the run in which to get there; what being off course by a factor of e adds to the logarithm of
#: the price, at once and over a whole run; the most that this may be.
_COURSE: Final = 0.85
_QUICK: Final = 20.0
_SLOW: Final = 100.0
_REACH: Final = 3.0
#: What checkpoints hold, and where it is found.
_SETTINGS: Final = {"price": "price", "threshold": "threshold", "refresh": "every", "goal": "goal", "passes": "calls"}
_STATE: Final = {"calls": "_calls", "factor": "_factor", "sum": "_sum", "first": "_first"}


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
    goal : float, optional
        Bits that all levels are to take in the end. The price is then where to start: it rises while there are more
        bits than on a straight course from the first look to the goal, and falls while there are fewer, by a factor of
        20 at most.
    calls : int, optional
        Forward passes of the whole run, which a goal needs; the course takes the first 85 % of them.
    steps : mapping of str to float, optional
        Step of each tensor, by the name of its parameter, instead of those that `sdr` asks for: to go on with a network
        that is on a grid already.

    Raises
    ------
    SpecError
        If a number is out of range, no tensor has a step, or steps are given for what is no tensor to quantise.
    TensorError
        If a weight is not finite.

    Notes
    -----
    Straight-through quantisation after M. Courbariaux et al., arXiv:1511.00363; with the entropy of levels in the loss
    after S. Wiedemann et al., "Entropy-constrained training of deep neural networks", IJCNN 2019, arXiv:1812.07520.
    """

    def __init__(
        self, model: nn.Module, sdr: Rules = 8.0, *, price: float = 5e-6, threshold: float = 0.6, refresh: int = 20,
        goal: float | None = None, calls: int | None = None, steps: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        check_number("quantized", "price", price, 0, 1e3)
        check_number("quantized", "threshold", threshold, 0.5, 1)
        check_number("quantized", "refresh", refresh, 1, 10**9, integer=True)
        if (goal is None) != (calls is None):
            raise SpecError("quantized: a goal needs the forward passes in which to get there; give goal and calls")
        if goal is not None and calls is not None:
            check_number("quantized", "goal", goal, 0, 1e15, open_low=True)
            check_number("quantized", "calls", calls, 1, 10**12, integer=True)
            check_number("quantized", "price (with a goal)", price, 0, 1e3, open_low=True)
        self.price, self.threshold, self.every, self.goal, self.calls = price, threshold, refresh, goal, calls
        wide = {name: w.detach() for name, w in model.named_parameters() if w.dim() >= 2 and w.is_floating_point()}
        self.steps = self._chosen(wide, sdr) if steps is None else _given(wide, steps)
        if not self.steps:
            raise SpecError("quantized: no tensor of two dimensions or more to quantise")
        self._slopes: dict[str, torch.Tensor] = {}
        self._calls = 0
        self._factor, self._sum, self._first = 1.0, 0.0, 0.0

    def _chosen(self, wide: Mapping[str, torch.Tensor], sdr: Rules) -> dict[str, float]:
        """Steps with which rounding leaves the ratios asked for; none for tensors that say nothing."""
        found = {}
        for name, weight in wide.items():
            ratio = _ratio(sdr, name)
            if ratio is not None and weight.numel():
                _check_finite(name, weight)
                found[name] = self._step(_sample(weight.reshape(-1)).cpu().double(), ratio)
        return {name: step for name, step in found.items() if step > 0}

    def _step(self, weight: torch.Tensor, ratio: float) -> float:
        power = float(weight.var(correction=0))
        if power == 0:
            return 0.0
        low, high = 0.0, 4 * float(weight.abs().max())
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            error = float((weight - middle * self.levels(weight, middle)).square().mean())
            low, high = (middle, high) if error <= power * 10 ** (-ratio / 10) else (low, middle)
        return _float32(low or high)

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

    @torch.no_grad()
    def _look(self, model: nn.Module) -> None:
        """Take slopes from the levels, and set the price by their bits."""
        weights = dict(model.named_parameters())
        bits = 0.0
        for name, step in self.steps.items():
            self._slopes[name], taken = _rate(self.levels(weights[name], step))
            bits += taken
        if self.goal is not None and self.calls is not None:
            self._steer(bits, self._calls / self.calls)

    def _steer(self, bits: float, done: float) -> None:
        """Set the price by how far the bits are from their course, now and so far."""
        self._first = self._first or bits
        goal = self.goal or bits
        course = self._first + (goal - self._first) * min(done / _COURSE, 1.0)
        off = math.log(max(bits, 1.0) / course)
        self._sum = min(max(self._sum + _SLOW * off * self.every / (self.calls or 1), -_REACH), _REACH)
        self._factor = math.exp(min(max(_QUICK * off + self._sum, -_REACH), _REACH))

    def penalty(self, model: nn.Module) -> torch.Tensor:
        """Price of all bits, nats; only its gradient matters, so that bits are counted from level 0."""
        if not self._slopes:
            self._look(model)
        weights = dict(model.named_parameters())
        rates = [
            (weights[name].abs() * slope).sum(dtype=torch.float32) / self.steps[name]
            for name, slope in self._slopes.items()
        ]
        return self.price * self._factor * torch.stack(rates).sum()

    @torch.no_grad()
    def bits(self, model: nn.Module) -> float:
        """Bits of all levels: some percent more than coding them takes, which knows more of their neighbours."""
        weights = dict(model.named_parameters())
        return sum(_rate(self.levels(weights[name], step))[1] for name, step in self.steps.items())

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        """Put a model's weights on the grid, as forward passes saw them."""
        weights = dict(model.named_parameters())
        for name, step in self.steps.items():
            weights[name].copy_(self.levels(weights[name], step) * step)

    def state_dict(self) -> dict[str, Any]:
        """Steps and what is known of the histograms, for checkpoints."""
        settings = {name: getattr(self, attribute) for name, attribute in _SETTINGS.items()}
        state = {name: getattr(self, attribute) for name, attribute in _STATE.items()}
        return settings | state | {"steps": dict(self.steps), "slopes": dict(self._slopes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`; `SpecError` if it belongs to another grid or price."""
        mine = self.state_dict()
        other = [name for name in (*_SETTINGS, "steps") if mine[name] != state.get(name)]
        if other:
            raise SpecError(
                f"quantized: the checkpoint belongs to a run with another {', '.join(other)}; use the same sdr, price, "
                f"threshold and network, or another file"
            )
        self._slopes = dict(state["slopes"])
        for name, attribute in _STATE.items():
            setattr(self, attribute, state[name])


def quantized_finetune(
    model: nn.Module,
    loader: Loader,
    *,
    sdr: Rules = 8.0,
    price: float = 5e-6,
    threshold: float = 0.6,
    goal: float | None = None,
    calls: int | None = None,
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
    sdr, price, threshold, goal, calls
        See :class:`GridQuantizer`: coarser steps (fewer dB) and a higher price take fewer bits; a goal steers the
        price.
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
    quantizer = GridQuantizer(model, sdr, price=price, threshold=threshold, goal=goal, calls=calls)
    options.setdefault("noise_schedule", "constant")
    trained = robust_finetune(model, StorageSpec(), loader, noise=quantizer, **options)
    quantizer.settle(trained.model)
    return trained


def _rate(levels: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Bits from level 0 to level 1 at each place, and of all levels.

    How probable a level is that is not zero, follows from how many there are in its row (output channel), its column
    (input channel) and at its tap: their logits add up, as contexts do that the levels are coded in.
    """
    size = levels.numel()
    cube = levels.reshape(levels.shape[0], levels.shape[1], -1)
    nonzero = (cube != 0).float()
    kept = float(nonzero.sum())
    mean = (kept + 0.5) / (size + 1)
    base = math.log(mean / (1 - mean))
    logit = torch.full((1, 1, 1), -2 * base, device=levels.device)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        share = (nonzero.sum(others, keepdim=True) + _SHRINK * mean) / (size / cube.shape[axis] + _SHRINK)
        logit = logit + torch.log(share / (1 - share))
    bits = torch.nn.functional.binary_cross_entropy_with_logits(logit.expand_as(cube), nonzero, reduction="sum")
    _, counts = torch.unique(cube[cube != 0], return_counts=True)
    part = counts.cpu().double() / max(kept, 1.0)
    ones = (float((cube.abs() == 1).sum()) + 1) / (kept + 1)
    slope = (1 - math.log2(ones) - logit / math.log(2)).clamp(min=0)
    kinds = (slope.shape[0], slope.shape[1], *levels.shape[2:])
    total = float(bits) / math.log(2) - float((counts.cpu() * part.log2()).sum())
    return slope.to(levels.dtype).reshape(kinds), total


def _given(wide: Mapping[str, torch.Tensor], steps: Mapping[str, float]) -> dict[str, float]:
    for name, step in steps.items():
        if name not in wide:
            raise SpecError(f"quantized: there is no parameter {name!r} of two dimensions or more to give a step to")
        check_number("quantized", f"step of {name!r}", step, 0, 1e38, open_low=True)
        _check_finite(name, wide[name])
    return {name: _float32(step) for name, step in steps.items()}


def _float32(step: float) -> float:
    """A float32 number, so that levels times the step are what a float32 network holds."""
    return float(torch.tensor(step, dtype=torch.float32))


def _check_finite(name: str, weight: torch.Tensor) -> None:
    if not bool(torch.isfinite(weight).all()):
        raise TensorError(f"quantized: {name} holds values that are not finite; repair them first")


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
