"""LeNet-5 with ReLU and max pooling, for 28x28 images and, padded, for 8x8 ones."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from memristore.errors import SpecError


class LeNet5(nn.Module):
    """conv5x5(6, pad 2) - pool2 - conv5x5(16) - pool2 - fc120 - fc84 - fc10.

    Parameters
    ----------
    size : {28, 8}
        Side of the square grey images. 28 gives the 61,706 parameters of the original layout; for 8 the second
        convolution is padded as well (pad 2), which leaves 2x2 pixels for the first full layer: 21,386 parameters.

    Raises
    ------
    SpecError
        For any other size.

    Notes
    -----
    Structure after LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998,
    in today's usual form: ReLU for tanh, max pooling for learned averaging, full connections between the maps.
    """

    def __init__(self, size: int = 28) -> None:
        super().__init__()
        if size not in (8, 28):
            raise SpecError(f"LeNet5: size must be 8 or 28, not {size!r}")
        pad, side = (0, 5) if size == 28 else (2, 2)
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=pad)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class scores, shape (n, 10), of images, shape (n, 1, size, size)."""
        maps = functional.relu(functional.max_pool2d(self.conv1(images), 2))
        maps = functional.relu(functional.max_pool2d(self.conv2(maps), 2))
        hidden = functional.relu(self.fc1(maps.flatten(1)))
        scores: torch.Tensor = self.fc3(functional.relu(self.fc2(hidden)))
        return scores


def new_lenet5(size: int, generator: torch.Generator) -> LeNet5:
    """Make a LeNet5 with initial weights from `generator`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        model = LeNet5(size)
    for layer in (model.conv1, model.conv2, model.fc1, model.fc2, model.fc3):
        # torch's default start for both layer types: uniform in +-1/sqrt(inputs per output), weight and bias.
        bound = 1.0 / math.sqrt(layer.weight[0].numel())
        for parameter in (layer.weight, layer.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return model
