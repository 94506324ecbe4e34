"""AR-Seg's two PSPNets without their classifiers (PSPNet: Zhao et al., CVPR 2017; AR-Seg: arXiv 2303.07224)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.heads import PyramidPooling
from tdnet_ros.networks.layers import ConvNorm, upsample
from tdnet_ros.networks.resnet import DilatedResNet, StageShape

_DEPTH = 18


class PyramidBranch(nn.Module):
    """That for Cityscapes: image (B, 3, H, W) -> feature (B, 512, ceil(H/8), ceil(W/8)).

    In the last two stages the first convolution of a stage is not dilated, all others are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = DilatedResNet(_DEPTH, (StageShape(1, 2, (1, 2)), StageShape(1, 4, (1, 4))))
        self.pyramid = PyramidPooling(self.backbone.channels, group=0, groups=1)
        self.channels = 512
        self.refine = ConvNorm(self.pyramid.channels, self.channels, 3, activation=nn.ReLU(inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        feature: Tensor = self.refine(self.pyramid(self.backbone(image)))
        return feature


class DecodedPyramidBranch(nn.Module):
    """That for CamVid, with a decoder: image (B, 3, H, W) -> feature (B, 64, 8 ceil(H/8), 8 ceil(W/8)).

    In the last two stages neither convolution of the first block is dilated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = DilatedResNet(_DEPTH, (StageShape(1, None, (1, 2)), StageShape(1, None, (1, 4))))
        self.pyramid = MixedPyramid(self.backbone.channels, 1024)
        self.drop_pyramid = nn.Dropout2d(0.3)
        self.lifts = nn.ModuleList(Lift(inputs, outputs) for inputs, outputs in ((1024, 256), (256, 64), (64, 64)))
        self.drop_lift = nn.Dropout2d(0.15)
        self.channels = 64

    def forward(self, image: Tensor) -> Tensor:
        x: Tensor = self.drop_pyramid(self.pyramid(self.backbone(image)))
        for lift in self.lifts:
            x = self.drop_lift(lift(x))
        return x


class MixedPyramid(nn.Module):
    """Pyramid pooling whose pooled maps keep all channels: (B, C, h, w) -> (B, outputs, h, w)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        bins = PyramidPooling.BINS
        self.pooled = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in bins)
        self.mix = nn.Conv2d((len(bins) + 1) * channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        parts = [
            upsample(project(F.adaptive_avg_pool2d(x, bins)), size, align_corners=False)
            for bins, project in zip(PyramidPooling.BINS, self.pooled, strict=True)
        ]
        return F.relu(self.mix(torch.cat((*parts, x), dim=1)))


class Lift(ConvNorm):
    """Twice the size, then a 3x3 convolution: (B, Cin, h, w) -> (B, Cout, 2h, 2w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, activation=nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(upsample(x, (2 * x.shape[2], 2 * x.shape[3]), align_corners=False))
