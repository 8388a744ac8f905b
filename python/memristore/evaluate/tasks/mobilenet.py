"""MobileNetV2 with batch norm folded into the convolutions and TensorFlow's padding."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

#: Stages: expansion, channels, blocks, stride of the first block.
_STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: outputs are inputs / stride rounded up, the odd pixel goes behind."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        edges: list[int] = []
        for size, kernel, stride in zip(maps.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            whole = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            edges += [whole // 2, whole - whole // 2]
        if any(edges):
            maps = functional.pad(maps, edges)
        return functional.conv2d(maps, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _Block(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1; added to the input where sizes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _Same(inputs, wide, 1) if expansion > 1 else None
        self.dw = _Same(wide, wide, 3, stride=stride, groups=wide)
        self.project = _Same(wide, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of shape (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        out: torch.Tensor = maps if self.expand is None else functional.relu6(self.expand(maps))
        out = self.project(functional.relu6(self.dw(out)))
        return out + maps if self.adds else out


class MobileNetV2(nn.Module):
    """conv3x3(32, stride 2) - 17 inverted residual blocks - conv1x1(1280) - global average - linear.

    Parameters
    ----------
    classes : int
        Outputs; 1001 where the first one is "background".

    Notes
    -----
    M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018, arXiv:1801.04381, table 2;
    every convolution has a bias, into which batch norm is folded. 3,489,097 parameters with 1001 outputs. Tensors are
    named ``conv0``, ``blocks.{0..16}.{expand,dw,project}``, ``conv1``, ``fc``. This is not the module of the same name
    in torchvision, which has batch norms and pads alike on all sides.
    """

    def __init__(self, classes: int = 1001) -> None:
        super().__init__()
        self.conv0 = _Same(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        width = 32
        for expansion, outputs, count, first in _STAGES:
            for block in range(count):
                blocks.append(_Block(width, outputs, expansion, first if block == 0 else 1))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv1 = _Same(width, 1280, 1)
        self.fc = nn.Linear(1280, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class scores, shape (n, classes), of images, shape (n, 3, 224, 224)."""
        maps = self.blocks(functional.relu6(self.conv0(images)))
        maps = functional.relu6(self.conv1(maps))
        scores: torch.Tensor = self.fc(maps.mean((2, 3)))
        return scores
