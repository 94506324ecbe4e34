"""ResNets: with output stride 8 as TDNet and PSPNet use it (dilated, multi-grid in the last stage), and strided.

He et al., CVPR 2016; dilation as in Yu et al., "Dilated Residual Networks", CVPR 2017; multi-grid as in DeepLabV3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm

#: Blocks per stage, by depth; from depth 50 on they are bottlenecks.
DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_WIDTHS = (64, 128, 256, 512)


class StageShape(NamedTuple):
    """How a stage looks at its input: the first block's stride, the stage's dilation, and each block's own one.

    With a stage dilation of None every block uses its own one throughout.
    """

    stride: int
    dilation: int | None
    blocks: tuple[int, ...]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: (B, Cin, H, W) -> (B, width, H/s, W/s).

    The first convolution uses ``dilation``, the second ``stage_dilation``: in a multi-grid stage they differ.
    ``leak`` is the slope below zero of the activation between the two.
    """

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int = 1, stage_dilation: int = 1, leak: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, width, 3, stride, dilation, activation=_activation(leak))
        self.conv2 = ConvNorm(width, width, 3, 1, stage_dilation)
        self.downsample = _shortcut(inputs, width, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv2(self.conv1(x)).add_(self.downsample(x)))
        return y


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut: (B, Cin, H, W) -> (B, 4 * width, H/s, W/s).

    The 3x3 convolution has the stride and ``dilation``; ``stage_dilation`` plays no part.
    """

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int = 1, stage_dilation: int = 1, leak: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, width, activation=_activation(leak))
        self.conv2 = ConvNorm(width, width, 3, stride, dilation, activation=_activation(leak))
        self.conv3 = ConvNorm(width, 4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))).add_(self.downsample(x)))
        return y


class ResNet(nn.Module):
    """Image (B, 3, H, W) -> stem and max pool at H/4 -> four stages. Sizes are rounded up.

    The stem is one 7x7 convolution to 64 channels, or with bottlenecks (``deep stem``) three 3x3 ones to 128.
    ``widths`` are the four stages' channels. ``leak`` is the slope below zero of the activations in the stem and
    inside the blocks; behind a shortcut stands a plain ReLU.
    """

    def __init__(self, depth: int, shapes: Sequence[StageShape], leak: float = 0.0) -> None:
        super().__init__()
        block = Bottleneck if depth >= 50 else BasicBlock
        self.widths = tuple(width * block.expansion for width in _WIDTHS)
        self.prestem: nn.Module = nn.Identity()
        if block is Bottleneck:
            self.prestem = nn.Sequential(
                ConvNorm(3, 64, 3, 2, activation=_activation(leak)), ConvNorm(64, 64, 3, activation=_activation(leak))
            )
            self.stem = ConvNorm(64, 128, 3, activation=_activation(leak))
        else:
            self.stem = ConvNorm(3, 64, 7, 2, activation=_activation(leak))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 128 if block is Bottleneck else 64
        stages = []
        for width, shape in zip(_WIDTHS, shapes, strict=True):
            blocks: list[nn.Module] = []
            for index, dilation in enumerate(shape.blocks):
                common = dilation if shape.dilation is None else shape.dilation
                blocks.append(block(inputs, width, 1 if index else shape.stride, dilation, common, leak))
                inputs = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def stages(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four stages' features."""
        first = self.layer1(self.begin(image))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)

    def begin(self, image: Tensor) -> Tensor:
        """What the first stage sees: (B, 64 or 128, H/4, W/4)."""
        x: Tensor = self.maxpool(self.stem(self.prestem(image)))
        return x


class DilatedResNet(ResNet):
    """Image (B, 3, H, W) -> features (B, 512 or with bottlenecks 2048, ceil(H/8), ceil(W/8)).

    ``last`` are the shapes of the two dilated stages, by default those of TDNet and its teachers.
    """

    def __init__(self, depth: int, last: tuple[StageShape, StageShape] | None = None) -> None:
        counts = DEPTHS[depth]
        if last is None:
            last = (StageShape(1, 2, (1,) + (2,) * (counts[2] - 1)), StageShape(1, 4, (4, 8, 16)[: counts[3]]))
        super().__init__(depth, (StageShape(1, 1, (1,) * counts[0]), StageShape(2, 1, (1,) * counts[1]), *last))
        self.channels = self.widths[-1]

    def forward(self, image: Tensor) -> Tensor:
        # Nested, so that no stage's output outlives its use.
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.begin(image)))))
        return features


class StridedResNet18(ResNet):
    """Image (B, 3, H, W) -> the four stages' features: 64, 128, 256, 512 channels, each half the size of the former.

    The first one is H/4 (``first_stride`` 1: BiSeNet) or H/8 (2: FANet), all sizes rounded up. Activations leak as
    in TDNet's official code; with ``leak`` 0 they are plain ones.
    """

    channels = _WIDTHS

    def __init__(self, first_stride: int, leak: float = 0.01) -> None:
        strides = (first_stride, 2, 2, 2)
        super().__init__(18, [StageShape(stride, 1, (1, 1)) for stride in strides], leak)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.stages(image)


def _activation(leak: float) -> nn.Module:
    return nn.LeakyReLU(leak, inplace=True) if leak else nn.ReLU(inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    return ConvNorm(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()
