"""The training loop: noise in the forward pass, labels and teacher, masks of pruned weights, checkpoints."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from tqdm import tqdm

from memristore import rng
from memristore.config import check_number
from memristore.errors import SpecError
from memristore.storage import store
from memristore.train.checkpoint import load_checkpoint, save_checkpoint
from memristore.train.surrogate import Surrogate

Batch = Any
#: A collection of batches that can be gone through once an epoch, or ``loader(epoch)`` that returns one.
Loader = Iterable[Batch] | Callable[[int], Iterable[Batch]]
Noise = Callable[[nn.Module, float], Mapping[str, torch.Tensor]]


@runtime_checkable
class Source(Protocol):
    """Noise that has a state, and a price for what weights take."""

    def __call__(self, model: nn.Module, strength: float = 1.0) -> Mapping[str, torch.Tensor]:
        """Return the weights of a forward pass by name."""

    def penalty(self, model: nn.Module) -> torch.Tensor:
        """Return what is added to the loss."""

    def bits(self, model: nn.Module) -> float:
        """Return the bits that the weights take."""

    def settle(self, model: nn.Module) -> None:
        """Give a model the weights that forward passes see."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for checkpoints."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""


#: Share of the run after which a ramp lets all noise through.
_RAMP: Final = 0.25


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and how it got there.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    history : list of dict
        For each epoch: ``epoch``, mean ``loss``, ``accuracy`` on the batches under noise (None without labels of
        classes) and, where a metric was given, ``noisy``: the metric of the network stored once and read back; in
        training on a grid ``bits``, the entropy of its levels.
    """

    model: nn.Module
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True, eq=False)
class Settings:
    """What the loop needs to know; see :func:`memristore.train.robust_finetune`."""

    epochs: int
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None
    scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None
    loss: Callable[[torch.Tensor, Any], torch.Tensor] | None
    teacher: nn.Module | None
    kl: float
    temperature: float
    strength: Callable[[float], float]
    clip: float | None
    keep_zeros: bool
    freeze_norm: float | None
    amp: torch.dtype | None
    metric: Callable[[nn.Module], float] | None
    seed: int
    checkpoint: str | os.PathLike[str] | None
    resume: bool
    progress: bool
    title: str

    def __post_init__(self) -> None:
        check_number(self.title, "epochs", self.epochs, 0, 10**6, integer=True)
        check_number(self.title, "kl", self.kl, 0, 1)
        check_number(self.title, "temperature", self.temperature, 0, 1e6, open_low=True)
        if self.freeze_norm is not None:
            check_number(self.title, "freeze_norm", self.freeze_norm, 0, 1)
        if self.clip is not None:
            check_number(self.title, "clip", self.clip, 0, 1e6, open_low=True)
        if self.amp not in (None, torch.bfloat16, torch.float16):
            raise SpecError(f"{self.title}: amp must be torch.bfloat16, torch.float16 or None, not {self.amp!r}")
        if self.resume and self.checkpoint is None:
            raise SpecError(f"{self.title}: resume needs a checkpoint file to continue from")


def schedule(owner: str, noise_schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    """Return the share of the noise at each share of the run, from its name."""
    if callable(noise_schedule):
        return noise_schedule
    named: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "ramp": lambda done: min(1.0, done / _RAMP),
    }
    if noise_schedule not in named:
        raise SpecError(
            f"{owner}: noise_schedule must be one of {', '.join(named)} or a function, not {noise_schedule!r}"
        )
    return named[noise_schedule]


class Loop:
    """Trains a network in place.

    Parameters
    ----------
    model : torch.nn.Module
    noise : Surrogate, callable or None
        Gives the weights of each forward pass.
    settings : Settings
    run : dict
        Plain values that name the run, for checkpoints.
    """

    def __init__(
        self, model: nn.Module, noise: Surrogate | Noise | None, settings: Settings, run: dict[str, Any]
    ) -> None:
        self.model = model
        self.noise = noise
        self.settings = settings
        self.run_name = run | {"epochs": settings.epochs, "kl": settings.kl, "temperature": settings.temperature}
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise SpecError(f"{settings.title}: the model has no parameter that needs a gradient")
        self.device = parameters[0].device
        # A module used under several names has its weights put in once, or they would not come out again.
        self.named = dict(model.named_parameters(remove_duplicate=False))
        self.places = [
            (f"{prefix}.{name}" if prefix else name, parameter)
            for prefix, module in model.named_modules()
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        ]
        make = settings.optimizer or (lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-4))
        self.optimizer = make(parameters)
        self.scheduler = None if settings.scheduler is None else settings.scheduler(self.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.amp == torch.float16)
        wide = [p for p in model.parameters() if p.is_floating_point() and p.dim() >= 2]
        masks = [(p, p.detach() == 0) for p in wide] if settings.keep_zeros else []
        self.masks = [(p, mask) for p, mask in masks if bool(mask.any())]
        self.clipped = wide if settings.clip is not None else []
        # A copy of its own, so that nobody's module changes its mode.
        self.teacher = settings.teacher
        if self.teacher is not None:
            self.teacher = copy.deepcopy(self.teacher).eval().requires_grad_(False).to(self.device)
        self.norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.history: list[dict[str, Any]] = []

    def run(self, loader: Loader) -> list[dict[str, Any]]:
        """Train all epochs that are left; returns what happened in each."""
        settings = self.settings
        first = self._restore(loader)
        for epoch in range(first, settings.epochs):
            if isinstance(self.noise, Surrogate):
                self.noise.refresh()
            self._epoch(loader, epoch)
            if settings.checkpoint is not None:
                save_checkpoint(settings.checkpoint, self.run_name, self._state(loader))
        self.model.eval()
        return self.history

    def _epoch(self, loader: Loader, epoch: int) -> None:
        settings = self.settings
        batches = loader if isinstance(loader, Iterable) else loader(epoch)
        total, right, seen, known = 0.0, 0, 0, True
        self.model.train()
        length = len(batches) if isinstance(batches, Sized) else None
        bar = tqdm(
            total=length, desc=f"{settings.title} {epoch + 1}/{settings.epochs}", leave=False,
            disable=None if settings.progress else True,
        )  # fmt: skip
        with bar:
            for step, batch in enumerate(batches):
                # Without a length the noise grows from epoch to epoch.
                done = (epoch + (step / length if length else 0.0)) / settings.epochs
                if settings.freeze_norm is not None and done >= settings.freeze_norm:
                    self._freeze()
                loss, hits, count = self._step(batch, done)
                total, seen, known = total + loss * count, seen + count, known and hits is not None
                right += hits or 0
                accuracy = f"{right / max(seen, 1):.4f}" if known else "-"
                bar.set_postfix(loss=f"{total / max(seen, 1):.4f}", noisy_accuracy=accuracy, refresh=False)
                bar.update()
        if seen == 0:
            raise SpecError(f"{settings.title}: the loader gave no batches in epoch {epoch + 1}; give it data")
        line = {"epoch": epoch + 1, "loss": total / seen, "accuracy": right / seen if known else None}
        if isinstance(self.noise, Source):
            line["bits"] = self.noise.bits(self.model)
        if settings.metric is not None:
            line["noisy"] = self._noisy_metric(epoch)
        self.history.append(line)

    def _freeze(self) -> None:
        """Batch norm as a stored network has it: statistics are kept, not those of the batch and its noisy weights."""
        for layer in self.norms:
            layer.eval()

    def _step(self, batch: Batch, done: float) -> tuple[float, int | None, int]:
        """Train on one batch; returns its loss, its right answers (None where labels are no classes), its size."""
        inputs, targets = _split(batch, self.device)
        with torch.autocast(self.device.type, dtype=self.settings.amp, enabled=self.settings.amp is not None):
            loss, outputs = self._loss(inputs, targets, done)
        if not bool(torch.isfinite(loss)) and not self.scaler.is_enabled():
            raise SpecError(f"{self.settings.title}: the loss became {loss.item()}; use a smaller learning rate")
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scheduler is not None:
            self.scheduler.step()
        self._hold()
        count = len(outputs) if outputs.dim() else 1
        classes = isinstance(targets, torch.Tensor) and targets.dtype == torch.int64 and targets.shape == (count,)
        hits = int((outputs.detach().argmax(1) == targets).sum()) if classes and outputs.dim() == 2 else None
        return float(loss.detach()), hits, count

    def _loss(self, inputs: Any, targets: Any, done: float) -> tuple[torch.Tensor, torch.Tensor]:
        settings = self.settings
        weights: Mapping[str, torch.Tensor] = {}
        if isinstance(self.noise, Surrogate):
            weights = self.noise(self.model, strength=min(max(float(settings.strength(done)), 0.0), 1.0))
        elif self.noise is not None:
            weights = self.noise(self.model, float(settings.strength(done)))
        outputs: torch.Tensor = functional_call(self.model, self._placed(weights), (inputs,), tie_weights=False)
        loss = outputs.new_zeros(())
        share = settings.kl if self.teacher is not None else 0.0
        if share < 1.0:
            if targets is None:
                raise SpecError(f"{settings.title}: batches have no labels; give a teacher and kl=1")
            judge = settings.loss or functional.cross_entropy
            loss = loss + (1.0 - share) * judge(outputs, targets)
        if self.teacher is not None and share > 0.0:
            with torch.no_grad():
                wanted = self.teacher(inputs)
            loss = loss + share * divergence(outputs, wanted, settings.temperature)
        if isinstance(self.noise, Source):
            loss = loss + self.noise.penalty(self.model)
        return loss, outputs

    def _placed(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights by every place that uses them, each once."""
        known = {id(self.named[name]): tensor for name, tensor in weights.items() if name in self.named}
        placed = {name: known[id(parameter)] for name, parameter in self.places if id(parameter) in known}
        return {name: tensor for name, tensor in weights.items() if name not in self.named} | placed

    @torch.no_grad()
    def _hold(self) -> None:
        """Pruned weights stay zero, and weights within their clipping range."""
        for parameter, mask in self.masks:
            parameter.masked_fill_(mask, 0)
        for parameter in self.clipped:
            kept = parameter[parameter != 0]
            if kept.numel() > 1 and self.settings.clip is not None:
                reach = float(kept.float().std()) * self.settings.clip
                parameter.clamp_(-reach, reach)

    def _noisy_metric(self, epoch: int) -> float:
        """Metric of the network stored in an array of its own and read back, by the product's own path."""
        judge = self.settings.metric
        if judge is None:
            raise RuntimeError("there is no metric")
        judged = copy.deepcopy(self.model).eval()
        if isinstance(self.noise, Surrogate):
            stored = store(judged, self.noise.spec, seed=rng.key(self.settings.seed, "metric", epoch), trace=False)
            stored.load_into(judged, at=self.noise.at)
        elif isinstance(self.noise, Source):
            self.noise.settle(judged)
        return float(judge(judged))

    def _state(self, loader: Loader) -> dict[str, Any]:
        generator = getattr(loader, "generator", None)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "noise": self.noise.state_dict() if isinstance(self.noise, (Surrogate, Source)) else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "loader": generator.get_state() if isinstance(generator, torch.Generator) else None,
            "history": self.history,
        }

    def _restore(self, loader: Loader) -> int:
        """Continue from the checkpoint where there is one; returns the first epoch to train."""
        path = self.settings.checkpoint
        if path is None or not self.settings.resume or not Path(path).exists():
            return 0
        state = load_checkpoint(path, self.run_name)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if isinstance(self.noise, (Surrogate, Source)):
            self.noise.load_state_dict(state["noise"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if state["loader"] is not None:
            getattr(loader, "generator").set_state(state["loader"])  # noqa: B009 (not every loader has one)
        self.history = list(state["history"])
        return len(self.history)


def divergence(outputs: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of class scores, shape (..., classes), from a teacher's, softened by a temperature.

    Times the temperature squared, which keeps the size of its gradients (G. Hinton, O. Vinyals and J. Dean, "Distilling
    the knowledge in a neural network", 2015, arXiv:1503.02531); a mean over all but the last axis.
    """
    student = functional.log_softmax(outputs.float() / temperature, dim=-1).flatten(0, -2)
    teacher = functional.log_softmax(wanted.float() / temperature, dim=-1).flatten(0, -2)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _split(batch: Batch, device: torch.device) -> tuple[Any, Any]:
    """Inputs and labels of a batch, on the network's device; no labels in a batch that is one tensor."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device), None
    if isinstance(batch, list | tuple) and len(batch) == 2:
        inputs, targets = (part.to(device) if isinstance(part, torch.Tensor) else part for part in batch)
        return inputs, targets
    raise SpecError(f"a batch must be a tensor or a pair (inputs, labels), not {type(batch).__name__}")
