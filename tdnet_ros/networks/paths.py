"""What a sub-network sees of a frame: backbones with the context module behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from tdnet_ros.networks.heads import PooledContext, PyramidPooling
from tdnet_ros.networks.layers import ConvNorm, lift
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.networks.resnet import DilatedResNet


class PathFeature(NamedTuple):
    """A path's feature z (B, C, h, w) and the finer features of the same frame that its head may want."""

    z: Tensor
    details: Sequence[Tensor]


class PyramidPath(nn.Module):
    """ResNet and one group of a pyramid pooling module: image (B, 3, H, W) -> feature (B, C, H/8, W/8).

    ``depth`` is the ResNet's, C is twice its channels (512, from depth 50 on 2048) over ``groups``.
    """

    stride = 8

    def __init__(self, depth: int, group: int, groups: int) -> None:
        super().__init__()
        self.backbone = DilatedResNet(depth)
        self.pyramid = PyramidPooling(self.backbone.channels, group, groups)
        self.channels = self.pyramid.channels

    def forward(self, image: Tensor) -> PathFeature:
        return PathFeature(self.pyramid(self.backbone(image)), ())


class MobilePath(nn.Module):
    """MobileNetV2, context at stride 32 and one step of a ladder decoder (SwiftNet, CVPR 2019, section 3).

    Image -> feature (B, C, H/16, W/16) and details at H/4 and H/8.
    """

    stride = 16

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.backbone = MobileNetV2()
        *_, sixteenth, coarsest = self.backbone.channels
        self.context = PooledContext(coarsest, channels)
        self.lateral16 = ConvNorm(sixteenth, channels)
        self.refine16 = ConvNorm(channels, channels, 3, activation=nn.ReLU(inplace=True))
        self.channels = channels

    def forward(self, image: Tensor) -> PathFeature:
        quarter, eighth, sixteenth, coarsest = self.backbone(image)
        return PathFeature(
            self.refine16(lift(self.context(coarsest), sixteenth) + self.lateral16(sixteenth)), (quarter, eighth)
        )
