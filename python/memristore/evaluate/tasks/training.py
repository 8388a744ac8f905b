"""Trains and prunes the networks of the tasks: deterministic, and without a trace on torch's global state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from memristore import rng
from memristore.errors import SpecError
from memristore.evaluate.tasks.cache import cached
from memristore.evaluate.tasks.data import Images, TaskData
from memristore.evaluate.tasks.lenet import new_lenet5
from memristore.evaluate.tasks.recipe import Recipe

#: Sums inside torch depend on how many threads share them, so training always uses one; so small a network gains little
#: from more.
_THREADS = 1


@contextmanager
def _reproducible() -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads inside; the caller's settings afterwards."""
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)


def generator_for(seed: int, *path: int | str) -> torch.Generator:
    """Return a generator of its own for a branch below `seed`."""
    return torch.Generator().manual_seed(rng.key(seed, *path) >> 1)


def _moved(images: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """Rotate, stretch, shear and shift each image at random within the recipe's bounds."""
    n, side = len(images), images.shape[-1]

    def uniform(bound: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * bound

    angle, scale, shear = uniform(recipe.rotate), 1 + uniform(recipe.stretch), uniform(recipe.stretch)
    maps = torch.zeros(n, 2, 3)
    maps[:, 0, 0] = scale * angle.cos()
    maps[:, 0, 1] = shear - angle.sin()
    maps[:, 1, 0] = angle.sin()
    maps[:, 1, 1] = scale * angle.cos()
    # affine_grid measures in half image sides.
    maps[:, 0, 2], maps[:, 1, 2] = uniform(recipe.shift) * 2 / side, uniform(recipe.shift) * 2 / side
    ground = images.min()  # what comes in from outside is background, not zero
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images - ground, grid, align_corners=False) + ground


def train(
    model: nn.Module,
    data: Images,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    epochs: int,
    rate: float,
    title: str = "training",
    progress: bool = True,
) -> None:
    """Train `model` in place.

    Parameters
    ----------
    model : Module
        Network.
    data : Images
        Training images.
    recipe : Recipe
        Batch size, weight decay, random affine maps.
    generator : Generator
        Order of the images and random maps; torch's global generator is not used.
    epochs : int
        Passes over the data.
    rate : float
        Largest learning rate.
    title : str
        Label of the progress bar.
    progress : bool
        Show a bar on standard error if that is a terminal.
    """
    steps = epochs * -(-len(data) // recipe.batch)
    augment = bool(recipe.rotate or recipe.stretch or recipe.shift)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    model.train()
    with _reproducible(), tqdm(total=steps, desc=title, leave=False, disable=None if progress else True) as bar:
        for _ in range(epochs):
            for chosen in torch.randperm(len(data), generator=generator).split(recipe.batch):
                images = data.images[chosen]
                if augment:
                    images = _moved(images, recipe, generator)
                loss = functional.cross_entropy(model(images), data.labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
    model.eval()


def trained_lenet5(
    task: str, data: Images, recipe: Recipe, seed: int, checksum: str, cache_dir: str | None, progress: bool = True
) -> nn.Module:
    """Return the LeNet-5 of a task, trained or from the cache, in evaluation mode."""

    def blank() -> nn.Module:
        return new_lenet5(recipe.size, generator_for(seed, "train", "start"))

    def make() -> nn.Module:
        model = blank()
        title = f"training LeNet-5 on {task}"
        generator = generator_for(seed, "train", "order")
        train(model, data, recipe, generator, epochs=recipe.epochs, rate=recipe.rate, title=title, progress=progress)
        return model

    key = {"task": task, "recipe": recipe.key(), "seed": seed, "data": checksum}
    return cached(f"{task}-lenet5", key, blank, make, cache_dir)


def pruned_model(task: TaskData, sparsity: float = 0.9, *, progress: bool = True) -> nn.Module:
    """Return the task's network pruned by magnitude in rounds, fine-tuned after each, from the cache if possible.

    Parameters
    ----------
    task : TaskData
        As `Task.load` returns it; its network is not changed.
    sparsity : float
        Share of the weights that end as zero, over the whole network, in [0, 1).
    progress : bool
        Show a bar on standard error if that is a terminal.

    Returns
    -------
    Module
        A pruned copy in evaluation mode.

    Raises
    ------
    SpecError
        If the sparsity is out of range.
    """
    from memristore.compress.prune import Prune, prune_and_finetune

    if not 0 <= sparsity < 1:
        raise SpecError(f"pruned_model: sparsity must be in [0, 1), not {sparsity!r}")
    recipe = task.recipe

    # Gradients of removed weights are masked by the caller, so a fresh optimiser leaves them at zero.
    def finetune(model: nn.Module, step: int) -> None:
        train(
            model,
            task.train,
            recipe,
            generator_for(task.seed, "prune", step),
            epochs=recipe.prune_epochs,
            rate=recipe.prune_rate,
            title=f"fine-tuning, round {step} of {recipe.prune_steps}",
            progress=progress,
        )

    def make() -> nn.Module:
        return prune_and_finetune(task.model, Prune(sparsity=sparsity), finetune, steps=recipe.prune_steps)

    key = {"task": task.name, "recipe": recipe.key(), "seed": task.seed, "data": task.checksum, "sparsity": sparsity}
    return cached(f"{task.name}-lenet5-pruned", key, lambda: copy.deepcopy(task.model), make, task.cache_dir)
