"""Images with labels, the accuracy on them, and what a task hands out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import nn

from memristore.errors import SpecError, TensorError
from memristore.evaluate.tasks.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Parameters
    ----------
    images : Tensor, shape (n, channels, height, width), float32 or uint8
        Normalised pixels; or bytes, a quarter of the memory, which `batches` normalises by `offset` and `scale`.
    labels : Tensor, shape (n,), int64
        Classes, as outputs of the network are numbered.
    offset, scale : tuple of float, optional
        Of each channel: a network is given ``(images - offset) * scale``. Needed for bytes.

    Raises
    ------
    SpecError
        If numbers of images and labels differ, or bytes come without `offset` and `scale`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    offset: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise SpecError(f"Images: {len(self.images)} images, but {len(self.labels)} labels")
        if (self.offset is None) != (self.scale is None) or (self.scale is None and self.images.dtype == torch.uint8):
            raise SpecError("Images: give offset and scale together; bytes need them")

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Images:
        """Return the first `count` images, or all there are, in the same memory."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def split(self, share: float) -> tuple[Images, Images]:
        """Return a share of the images, at equal distances from one another, and the others, each in their order.

        Both are copies.

        Raises
        ------
        SpecError
            If either part has no image.
        """
        taken = (torch.arange(len(self) + 1, dtype=torch.float64) * share).floor().diff() > 0
        if not (math.isfinite(share) and bool(taken.any()) and bool((~taken).any())):
            raise SpecError(f"Images: a share of {share:g} of {len(self)} images leaves one part without any")
        some, rest = (replace(self, images=self.images[m], labels=self.labels[m]) for m in (taken, ~taken))
        return some, rest

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield normalised images, float32, and their labels, up to `size` at a time."""
        for start in range(0, len(self), size):
            images = self.images[start : start + size]
            if self.offset is not None and self.scale is not None:
                shape = (1, -1, 1, 1)
                images = images.float().sub_(torch.tensor(self.offset).reshape(shape))
                images = images.mul_(torch.tensor(self.scale).reshape(shape))
            yield images, self.labels[start : start + size]


def scores_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the class scores, shape (n, classes), of a network that returns them, or an object with ``logits``.

    The inputs go to where the network's parameters are; scores come back to the CPU.

    Raises
    ------
    TensorError
        If what the network returns is neither.
    """
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = model(images.to(place))
    found = getattr(found, "logits", found)
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(images):
        what = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise TensorError(f"the network must return scores of shape ({len(images)}, classes), but returned {what}")
    return found.cpu()


#: Divergence of an image counts at most this much, nats: a network whose scores are not finite has some divergence too.
MOST_NATS: Final = 100.0
#: Range of the temperature that probabilities are softened by, and halvings (of its logarithm) in which it is sought.
_TEMPERATURES: Final = (0.05, 20.0)
_HALVINGS: Final = 40


@contextmanager
def judging(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside; the mode is put back afterwards, module by module."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True, eq=False)
class Accuracy:
    """The metric of the tasks: ``accuracy(model)`` is the share of images classified correctly, in [0, 1].

    Parameters
    ----------
    test : Images
        What to classify.
    batch : int
        Images at a time.
    """

    test: Images
    batch: int = 250

    #: Tables and plots print a fraction as percent.
    unit = "fraction"
    name = "accuracy"

    def __call__(self, model: nn.Module) -> float:
        """Classify all images in evaluation mode (the mode is put back) without gradients."""
        with judging(model):
            right = sum(
                int((scores_of(model, images).argmax(1) == labels).sum())
                for images, labels in self.test.batches(self.batch)
            )
        return right / max(len(self.test), 1)

    def against(self, model: nn.Module) -> Fidelity:
        """Return the metric that also compares a network's answers with those of `model`, computed once, here."""
        return Fidelity(self, model)


class Fidelity:
    """Accuracy, and beside it how near a network's answers are to those of a clean one.

    Called, it gives the accuracy; `measure` gives in the same pass also ``agreement`` (share of images that both
    networks put in the same class, in [0, 1]) and ``kl`` (mean Kullback-Leibler divergence of the network's class
    probabilities from the clean ones, nats, at most `MOST_NATS` an image). These see errors that leave the accuracy as
    it is: they are far less noisy measures of what storage does to a network, and need no labels.

    Parameters
    ----------
    accuracy : Accuracy
        Images, and how many at a time.
    clean : Module
        The network to compare with. Its scores on all images are kept: 4 bytes per image and class.
    """

    unit = Accuracy.unit
    name = Accuracy.name

    def __init__(self, accuracy: Accuracy, clean: nn.Module) -> None:
        self.accuracy = accuracy
        with judging(clean):
            self._clean = [scores_of(clean, images) for images, _ in accuracy.test.batches(accuracy.batch)]
        right = [
            int((scores.argmax(1) == labels).sum())
            for scores, labels in zip(self._clean, accuracy.test.labels.split(accuracy.batch), strict=True)
        ]
        #: What the clean network reaches.
        self.clean_value = sum(right) / max(len(accuracy.test), 1)

    def __call__(self, model: nn.Module) -> float:
        """Return the accuracy alone."""
        return self.accuracy(model)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return ``accuracy``, ``agreement`` and ``kl`` of one pass over the images."""
        right = same = 0
        divergence = 0.0
        with judging(model):
            for (images, labels), clean in zip(
                self.accuracy.test.batches(self.accuracy.batch), self._clean, strict=True
            ):
                scores = scores_of(model, images)
                answers = scores.argmax(1)
                right += int((answers == labels).sum())
                same += int((answers == clean.argmax(1)).sum())
                wanted, given = clean.double().log_softmax(1), scores.double().log_softmax(1)
                nats = (wanted.exp() * (wanted - given)).sum(1)
                divergence += float(nats.nan_to_num(nan=MOST_NATS).clamp(0.0, MOST_NATS).sum())
        count = max(len(self.accuracy.test), 1)
        return {self.name: right / count, "agreement": same / count, "kl": divergence / count}


class Expected:
    """Accuracy that is to be expected of a network's answers by what the clean network holds them to be worth.

    An answer counts as the probability that the clean network gives it, so that one that was a toss-up before costs
    nothing if it changes. With few images this tells losses far less noisily than counting right answers, as truly as
    those probabilities are (a ResNet-20: losses 1.2 to 1.9 times too large). They are softened by a temperature with
    which the clean network expects the accuracy that it has (C. Guo et al., "On calibration of modern neural
    networks", ICML 2017, arXiv:1706.04599).

    Parameters
    ----------
    accuracy : Accuracy
        Images, and how many at a time.
    clean : Module
        The network itself. Its probabilities are kept: 8 bytes per image and class.

    Raises
    ------
    TensorError
        If the clean network's scores are not finite.
    """

    unit = Accuracy.unit
    name = "expected accuracy"
    #: Losses come out too large; see :func:`memristore.fit`.
    stricter = True

    def __init__(self, accuracy: Accuracy, clean: nn.Module) -> None:
        self.accuracy = accuracy
        with judging(clean):
            scores = torch.cat([scores_of(clean, images) for images, _ in accuracy.test.batches(accuracy.batch)])
        if not bool(torch.isfinite(scores).all()):
            raise TensorError("the network's scores are not finite for all images, so that they say nothing of others")
        right = float((scores.argmax(1) == accuracy.test.labels).double().mean())
        low, high = _TEMPERATURES
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            sure = float((scores.double() / middle).softmax(1).amax(1).mean())
            low, high = (middle, high) if sure > right else (low, middle)
        self.temperature = math.sqrt(low * high)
        self._worth = (scores.double() / self.temperature).softmax(1)

    def __call__(self, model: nn.Module) -> float:
        """Return the mean worth of a network's answers, in [0, 1]."""
        total, start = 0.0, 0
        with judging(model):
            for images, _ in self.accuracy.test.batches(self.accuracy.batch):
                answers = scores_of(model, images).argmax(1)
                total += float(self._worth[start : start + len(answers)].gather(1, answers[:, None]).sum())
                start += len(answers)
        return total / max(start, 1)


@dataclass(frozen=True, eq=False)
class TaskData:
    """A trained network and how to judge it.

    Parameters
    ----------
    name : str
        Task.
    description : str
        Data set, network and sizes in one line.
    model : Module
        Trained network in evaluation mode.
    metric : Accuracy
        Accuracy on the test images, in [0, 1].
    train, test : Images
        Data.
    recipe : Recipe
        How the network was trained.
    seed : int
        Seed of the training.
    checksum : str
        SHA-256 of the data.
    cache_dir : str, optional
        Where trained networks are kept; None means the default.
    """

    name: str
    description: str
    model: nn.Module
    metric: Accuracy
    train: Images
    test: Images
    recipe: Recipe
    seed: int
    checksum: str
    cache_dir: str | None = None

    @property
    def test_samples(self) -> int:
        """Number of test images."""
        return len(self.test)


def checksum_of(*arrays: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes of arrays, as hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
