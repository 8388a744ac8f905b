"""A small trained network, and batches of what it was trained on."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import nn

import memristore as ms


class Batches:
    """Vectors whose class is the largest of four sums."""

    def __init__(self, count: int = 4096, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(count, 32, generator=draw)
        self.labels = self.inputs.reshape(count, 4, 8).sum(2).argmax(1)

    def __len__(self) -> int:
        return 32

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from zip(self.inputs.chunk(32), self.labels.chunk(32), strict=True)


def trained() -> nn.Module:
    """The network, right on nearly all of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        start = nn.Sequential(nn.Linear(32, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 4))
    spec, adam = ms.StorageSpec(), functools.partial(torch.optim.Adam, lr=0.01)
    return ms.train.robust_finetune(
        start, spec, Batches(), epochs=12, noise=None, optimizer=adam, progress=False
    ).model  # fmt: skip


def answers(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        classes: torch.Tensor = model(inputs).argmax(1)
    return classes


def accuracy(model: nn.Module) -> float:
    test = Batches(2000, seed=1)
    with torch.inference_mode():
        return float((model.eval()(test.inputs).argmax(1) == test.labels).float().mean())
