"""What stands behind a backbone: context modules that make a path's feature, and heads that make its scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm, SeparableConv, upsample


class PyramidPooling(nn.Module):
    """One path's share of a pyramid pooling module (PSPNet, CVPR 2017, section 3.2; TDNet, section 3.3).

    (B, C, h, w) -> (B, 2 * C / groups, h, w): the group's slice of the input beside its slices of the four pooled
    maps. Only the rows of the 1x1 convolutions that the group needs are computed.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, channels: int, group: int, groups: int) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(
            ConvNorm(channels, channels // 4, activation=nn.ReLU(inplace=True)) for _ in self.BINS
        )
        self.group, self.groups = group, groups
        self.channels = 2 * channels // groups

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        parts = [self._share(x)]
        for bins, reduce in zip(self.BINS, self.pooled, strict=True):
            pooled = self._share(reduce(F.adaptive_avg_pool2d(x, bins)))
            parts.append(upsample(pooled, size, align_corners=True))
        return torch.cat(parts, dim=1)

    def _share(self, x: Tensor) -> Tensor:
        width = x.shape[1] // self.groups
        return x[:, self.group * width : (self.group + 1) * width]


class GatedContext(nn.Module):
    """Reduced feature times a global gate (LR-ASPP, MobileNetV3, ICCV 2019, section 6.4).

    (B, C, h, w) -> (B, outputs, h, w).
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, outputs, activation=nn.ReLU(inplace=True))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, outputs, 1), nn.Sigmoid())
        self.channels = outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.reduce(x) * self.gate(x)
        return y


class FCNHead(nn.Module):
    """3x3 convolution and classifier: feature (B, C, h, w) -> scores (B, classes, h, w). Needs no details."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, hidden, 3, activation=nn.ReLU(inplace=True))
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(hidden, classes, 1)

    def forward(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self.classifier(self.dropout(self.conv(feature)))
        return scores


class DetailHead(nn.Module):
    """Decoder that refines the recomposed feature with the frame's own finer features.

    Feature (B, C, H/16, W/16), details (B, C4, H/4, W/4) and (B, C8, H/8, W/8) -> scores (B, classes, H/4, W/4).
    """

    def __init__(self, channels: int, detail_channels: Sequence[int], classes: int) -> None:
        super().__init__()
        quarter, eighth = detail_channels
        self.lateral8 = ConvNorm(eighth, channels)
        self.refine8 = SeparableConv(channels, channels // 2)
        self.lateral4 = ConvNorm(quarter, channels // 2)
        self.refine4 = SeparableConv(channels // 2, channels // 2)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(channels // 2, classes, 1)

    def forward(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        quarter, eighth = details
        x = self.refine8(_lift(feature, eighth) + self.lateral8(eighth))
        x = self.refine4(_lift(x, quarter) + self.lateral4(quarter))
        scores: Tensor = self.classifier(self.dropout(x))
        return scores


def _lift(x: Tensor, like: Tensor) -> Tensor:
    return upsample(x, (like.shape[2], like.shape[3]), align_corners=False)
