"""ResNet with output stride 8 as TDNet and PSPNet use it (dilated, multi-grid in the last stage).

He et al., CVPR 2016; dilation as in Yu et al., "Dilated Residual Networks", CVPR 2017; multi-grid as in DeepLabV3.
"""

from __future__ import annotations

from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm

#: Blocks per stage.
DEPTHS = {18: (2, 2, 2, 2)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: (B, Cin, H, W) -> (B, Cout, H/s, W/s).

    The first convolution uses ``dilation``, the second ``stage_dilation``: in a multi-grid stage they differ.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, stage_dilation: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 3, stride, dilation, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvNorm(outputs, outputs, 3, 1, stage_dilation)
        self.downsample = ConvNorm(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv2(self.conv1(x)) + self.downsample(x))
        return y


class DilatedResNet18(nn.Module):
    """Image (B, 3, H, W) -> features (B, 512, ceil(H/8), ceil(W/8))."""

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 64, 7, 2, activation=nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        depths = DEPTHS[18]
        # Dilation of each block's first convolution; the second one has the stage's own (1, 1, 2, 4).
        self.layer1 = _stage(64, 64, 1, (1,) * depths[0], 1)
        self.layer2 = _stage(64, 128, 2, (1,) * depths[1], 1)
        self.layer3 = _stage(128, 256, 1, (1, 2), 2)
        self.layer4 = _stage(256, 512, 1, (4, 8), 4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.maxpool(self.stem(image))  # (B, 64, H/4, W/4)
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


def _stage(inputs: int, outputs: int, stride: int, dilations: tuple[int, ...], stage_dilation: int) -> nn.Sequential:
    blocks = [
        BasicBlock(inputs if index == 0 else outputs, outputs, stride if index == 0 else 1, dilation, stage_dilation)
        for index, dilation in enumerate(dilations)
    ]
    return nn.Sequential(*blocks)
