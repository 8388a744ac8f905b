"""Fine-tuning and distillation with the weights as cells give them back in every forward pass."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from memristore.errors import SpecError
from memristore.spec import StorageSpec
from memristore.train.loop import Loader, Loop, Noise, Settings, Trained, schedule
from memristore.train.surrogate import Surrogate
from memristore.units import Time

Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Scheduler = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


def robust_finetune(
    model: nn.Module,
    spec: StorageSpec,
    loader: Loader,
    *,
    epochs: int = 1,
    optimizer: Optimizer | None = None,
    scheduler: Scheduler | None = None,
    loss: Callable[[torch.Tensor, Any], torch.Tensor] | None = None,
    teacher: nn.Module | None = None,
    kl: float = 0.5,
    temperature: float = 2.0,
    noise: str | Noise | None = "channel",
    noise_schedule: str | Callable[[float], float] = "ramp",
    at: Time | None = None,
    refresh: int = 100,
    gradient: str = "pathwise",
    clip: float | None = None,
    keep_zeros: bool = True,
    freeze_norm: float | None = None,
    amp: torch.dtype | None = None,
    metric: Callable[[nn.Module], float] | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Trained:
    """Fine-tune a network so that it stands being stored with a recipe: every forward pass sees weights as read back.

    Parameters
    ----------
    model : torch.nn.Module
        Left untouched; a copy is trained.
    spec : StorageSpec
        The recipe that it will be stored with.
    loader : iterable or callable
        Batches ``(inputs, labels)``, or inputs alone where the teacher says everything; ``loader(epoch)`` may return
        the batches of an epoch, counted from 0. torch's ``DataLoader`` will do.
    epochs : int
        Passes over the data.
    optimizer : callable, optional
        ``optimizer(parameters)`` returns any torch optimiser; by default AdamW with a rate of 0.001.
    scheduler : callable, optional
        ``scheduler(optimizer)`` returns a learning-rate schedule, which steps after each batch.
    loss : callable, optional
        ``loss(outputs, labels)``; by default the cross entropy.
    teacher : torch.nn.Module, optional
        Its class scores are to be matched, for example those of `model` itself without noise. It is not changed.
    kl : float
        Weight of the divergence from the teacher, in [0, 1]; the labels have the rest. Without a teacher, 0.
    temperature : float
        Of the divergence.
    noise : "channel", None or callable
        ``"channel"``: the surrogate of :func:`memristore.train.channel`. None: no noise. A function
        ``noise(model, strength)`` returns the weights of a forward pass by name; what state it keeps is its own.
    noise_schedule : "ramp", "constant" or callable
        Share of the error let through, against the share of the run that is done. ``"ramp"`` grows from 0 to 1 in the
        first quarter.
    at : float or str, optional
        Age of the cells; by default the retention time.
    refresh, gradient
        See :func:`memristore.train.channel`.
    clip : float, optional
        After each step weights are clipped at as many standard deviations of their tensor's weights that are not zero
        (tensors of two dimensions and more): rare large weights widen everybody's window.
    keep_zeros : bool
        Weights that are exactly zero at the start (pruned ones, in tensors of two dimensions and more) stay zero.
    freeze_norm : float, optional
        Share of the run, in [0, 1], after which batch-norm layers use the statistics gathered so far, as they will in a
        stored network. Statistics of each batch undo part of what noise does to a layer, which no stored network can.
    amp : torch.dtype, optional
        ``torch.bfloat16`` or ``torch.float16`` for automatic mixed precision; storage is simulated in float32.
    metric : callable, optional
        ``metric(model) -> float``, judged once an epoch on the network stored in an array of its own and read back.
    seed : int
        Seed of the noise. torch's global generator is used by the network and the loader only.
    checkpoint : path, optional
        File written after each epoch: network, optimiser, schedules, generators (of the noise, of torch and of the
        loader, if it has one), history.
    resume : bool
        Continue from the checkpoint if there is one. With a loader whose order depends on these generators or on the
        epoch, the result is that of an undisturbed run, bit for bit.
    progress : bool
        Show a bar with loss and noisy accuracy on standard error if that is a terminal.

    Returns
    -------
    Trained
        The trained copy and its history.

    Raises
    ------
    SpecError
        If an argument is not valid, if the loss is not finite, or if the checkpoint belongs to another run.
    FileError
        If the checkpoint is damaged.

    Notes
    -----
    Training with the noise of the medium in the forward pass goes back to A. F. Murray and P. J. Edwards, IEEE Trans.
    Neural Networks 5 (1994), doi:10.1109/72.317730; for phase-change memory to V. Joshi et al., Nat. Commun. 11, 2473
    (2020), doi:10.1038/s41467-020-16108-9, who also clip weights.
    """
    title = "robust_finetune"
    trained = copy.deepcopy(model)
    channel = Surrogate(spec, at=at, seed=seed, refresh=refresh, gradient=gradient)
    run: dict[str, Any] = {"spec": json.dumps(spec.to_dict(), sort_keys=True)}
    run |= {"at": channel.at, "seed": seed, "refresh": refresh, "gradient": gradient, "clip": clip, "amp": str(amp)}
    run |= {
        "noise": noise if isinstance(noise, str | None) else "function",
        "keep_zeros": keep_zeros,
        "freeze_norm": freeze_norm,
    }
    if isinstance(noise, str) and noise != "channel":
        raise SpecError(f"{title}: noise must be 'channel', None or a function, not {noise!r}")
    settings = Settings(
        epochs=epochs, optimizer=optimizer, scheduler=scheduler, loss=loss, teacher=teacher, kl=kl,
        temperature=temperature, strength=schedule(title, noise_schedule), clip=clip, keep_zeros=keep_zeros,
        freeze_norm=freeze_norm, amp=amp,
        metric=metric, seed=seed, checkpoint=checkpoint, resume=resume, progress=progress, title=title,
    )  # fmt: skip
    source = channel if isinstance(noise, str) else noise
    history = Loop(trained, source, settings, run).run(loader)
    return Trained(trained, history)


def distill(
    teacher: nn.Module,
    student: nn.Module,
    loader: Loader,
    spec: StorageSpec | None = None,
    *,
    kl: float = 0.9,
    temperature: float = 4.0,
    **options: Any,
) -> Trained:
    """Train a (smaller) student to give a teacher's class scores.

    Parameters
    ----------
    teacher, student : torch.nn.Module
        Left untouched; a copy of the student is trained.
    loader : iterable or callable
        As for :func:`robust_finetune`; with ``kl=1`` batches need no labels.
    spec : StorageSpec, optional
        With a recipe the student learns through its channel; without one, clean.
    kl, temperature : float
        Weight of the divergence from the teacher and the temperature that both are softened by (G. Hinton, O. Vinyals
        and J. Dean, 2015, arXiv:1503.02531).
    **options
        As for :func:`robust_finetune`.

    Returns
    -------
    Trained
        The trained student.
    """
    if spec is None:
        options.setdefault("noise", None)
        if options["noise"] == "channel":
            raise SpecError("distill: noise='channel' needs a recipe; give spec=StorageSpec(...)")
    return robust_finetune(
        student, spec if spec is not None else StorageSpec(), loader, teacher=teacher, kl=kl, temperature=temperature,
        **options,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Distill:
    """Distillation as a step before storing: a smaller network in place of the original.

    A compressor turns weights into streams and back, so it cannot train; this object stands before
    :func:`memristore.store` instead. Cells per weight of a stored student are to be compared by its teacher's number of
    parameters.

    Parameters
    ----------
    student : torch.nn.Module or callable
        The network to train, or a function that makes one.
    through_channel : bool
        Whether the student learns through the channel of the recipe that `apply` is given.
    options : dict, optional
        As for :func:`distill`.
    """

    student: nn.Module | Callable[[], nn.Module]
    through_channel: bool = True
    options: dict[str, Any] | None = None

    def apply(self, model: nn.Module, loader: Loader, spec: StorageSpec | None = None) -> Trained:
        """Train the student on a teacher; see :func:`distill`.

        Raises
        ------
        SpecError
            If the student is no module, or learning through the channel lacks a recipe.
        """
        student = self.student if isinstance(self.student, nn.Module) else self.student()
        if not isinstance(student, nn.Module):
            raise SpecError(f"distill: the student must be a torch module, not {type(student).__name__}")
        if self.through_channel and spec is None:
            raise SpecError("distill: learning through the channel needs a recipe; give spec, or through_channel=False")
        return distill(model, student, loader, spec if self.through_channel else None, **(self.options or {}))
