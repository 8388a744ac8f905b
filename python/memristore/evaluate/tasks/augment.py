"""Training images in random order, shifted and mirrored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from memristore.evaluate.tasks.data import Images, TaskData
from memristore.evaluate.tasks.training import generator_for

#: Images are shifted by up to their side over this.
_REACH = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """Batches of labelled images drawn at random, the same for the same seed and epoch.

    Parameters
    ----------
    data : Images
    count : int
        Images in all.
    batch : int
        Images at a time.
    reach : int
        Largest shift, pixels.
    flip : bool
        Mirror every other image, at random.
    ground : float
        What comes in from outside.
    seed, epoch : int
    """

    data: Images
    count: int
    batch: int = 128
    reach: int = 0
    flip: bool = False
    ground: float = 0.0
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = generator_for(self.seed, "batches", self.epoch)
        order = torch.randint(len(self.data), (self.count,), generator=generator)
        for chosen in order.split(self.batch):
            some = replace(self.data, images=self.data.images[chosen], labels=self.data.labels[chosen])
            images, labels = next(some.batches(len(chosen)))
            rows, columns = images.shape[-2:]
            wide = functional.pad(images, (self.reach,) * 4, value=self.ground)
            at = torch.randint(2 * self.reach + 1, (len(chosen), 2), generator=generator)
            y = (at[:, :1] + torch.arange(rows))[:, None, :, None]
            x = (at[:, 1:] + torch.arange(columns))[:, None, None, :]
            which = torch.arange(len(chosen))[:, None, None, None]
            moved = wide[which, torch.arange(images.shape[1])[None, :, None, None], y, x]
            if self.flip:
                mirrored = torch.rand(len(chosen), generator=generator) < 0.5
                moved = torch.where(mirrored[:, None, None, None], moved.flip(-1), moved)
            yield moved, labels


def batches_of(task: TaskData, count: int, *, batch: int = 128, seed: int = 0, epoch: int = 0) -> Batches:
    """Batches of a task's training images, shifted by up to an eighth of their side; colour images also mirrored.

    Parameters
    ----------
    task : TaskData
    count, batch : int
        Images in all, and at a time.
    seed, epoch : int
        Name the draw.
    """
    images = task.train.images
    colour = images.shape[1] == 3
    return Batches(
        data=task.train, count=count, batch=batch, reach=images.shape[-1] // _REACH, flip=colour,
        ground=0.0 if colour else float(next(task.train.batches(len(task.train)))[0].min()), seed=seed, epoch=epoch,
    )  # fmt: skip
