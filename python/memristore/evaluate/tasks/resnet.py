"""The small residual networks for CIFAR-10: 6n + 2 layers, shortcuts without parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from memristore.errors import SpecError

_WIDTHS = (16, 32, 64)


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.more = outputs - inputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of shape (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        out = functional.relu(self.bn1(self.conv1(maps)))
        out = self.bn2(self.conv2(out))
        if self.more:
            # Every second pixel; the new channels are zero, half of them in front.
            front = self.more // 2
            maps = functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.more - front))
        return functional.relu(out + maps)


class CifarResNet(nn.Module):
    """conv3x3(16) - three stages of n blocks with 16, 32 and 64 channels - global average - linear.

    Parameters
    ----------
    depth : int
        6n + 2: 20, 32, 44, 56, 110. Depth 20 has 269,722 parameters.
    classes : int
        Outputs.

    Raises
    ------
    SpecError
        If the depth is not 6n + 2.

    Notes
    -----
    Section 4.2 of K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015,
    arXiv:1512.03385, with shortcuts of option A.
    """

    def __init__(self, depth: int = 20, classes: int = 10) -> None:
        super().__init__()
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
            raise SpecError(f"CifarResNet: depth must be 6n + 2 (20, 32, 44, ...), not {depth!r}")
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        blocks = (depth - 2) // 6
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], blocks, 1)
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], blocks, 2)
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], blocks, 2)
        self.linear = nn.Linear(_WIDTHS[2], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class scores, shape (n, classes), of images, shape (n, 3, 32, 32)."""
        maps = functional.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        scores: torch.Tensor = self.linear(maps.mean((2, 3)))
        return scores


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [_Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(inputs, outputs, stride), *rest)
