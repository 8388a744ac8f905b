"""Residual networks for ImageNet, 18 to 152 layers, with the tensor names that torchvision uses."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

from memristore.errors import SpecError

#: Depth to (blocks of the four stages, whether blocks are bottlenecks).
DEPTHS: Final[dict[int, tuple[tuple[int, int, int, int], bool]]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


class _Basic(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut."""

    expansion: Final = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of shape (n, inputs, h, w) to (n, width, h / stride, w / stride)."""
        out = functional.relu(self.bn1(self.conv1(maps)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + (maps if self.downsample is None else self.downsample(maps)))


class _Bottleneck(nn.Module):
    """A 1x1 convolution to fewer channels, a 3x3, and a 1x1 back to four times as many, added to the shortcut."""

    expansion: Final = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        # The stride is in the 3x3 convolution, as in the weights that are in use today ("v1.5").
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of shape (n, inputs, h, w) to (n, 4 width, h / stride, w / stride)."""
        out = functional.relu(self.bn1(self.conv1(maps)))
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return functional.relu(out + (maps if self.downsample is None else self.downsample(maps)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class ImageNetResNet(nn.Module):
    """conv7x7(64, stride 2) - max pool - four stages with 64, 128, 256 and 512 channels - global average - linear.

    Parameters
    ----------
    depth : {18, 34, 50, 101, 152}
        Layers. 18 has 11,689,512 parameters, 50 has 25,557,032.
    classes : int
        Outputs.

    Raises
    ------
    SpecError
        For another depth.

    Notes
    -----
    Table 1 of K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015, arXiv:1512.03385,
    with shortcuts of option B.
    """

    def __init__(self, depth: int = 18, classes: int = 1000) -> None:
        super().__init__()
        if isinstance(depth, bool) or depth not in DEPTHS:
            raise SpecError(f"ImageNetResNet: depth must be one of {', '.join(map(str, DEPTHS))}, not {depth!r}")
        blocks, bottleneck = DEPTHS[depth]
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        kind = _Bottleneck if bottleneck else _Basic
        width = 64
        stages = []
        for stage, count in enumerate(blocks):
            narrow = 64 << stage
            layers: list[nn.Module] = []
            for block in range(count):
                layers.append(kind(width, narrow, 2 if stage > 0 and block == 0 else 1))
                width = narrow * kind.expansion
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class scores, shape (n, classes), of images, shape (n, 3, 224, 224)."""
        maps = functional.relu(self.bn1(self.conv1(images)))
        maps = functional.max_pool2d(maps, 3, stride=2, padding=1)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        scores: torch.Tensor = self.fc(maps.mean((2, 3)))
        return scores
