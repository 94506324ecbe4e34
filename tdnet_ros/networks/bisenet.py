"""BiSeNet (Yu et al., ECCV 2018, arXiv 1808.00897): as a path of TDNet, and whole as a branch of AR-Seg.

The path of TDNet is a reconstruction: the TDNet paper reports TD4-Bise18, its authors published the class and soon
removed it from their repository, and they never published weights. What stands here gives what that removed class
gives. It differs from BiSeNet's paper in that there is no spatial path: the backbone's second stage takes its place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm, upsample
from tdnet_ros.networks.paths import PathFeature
from tdnet_ros.networks.resnet import StridedResNet18

_WIDTH = 128
#: Slope below zero of the activations in TDNet's path; AR-Seg's branches have none.
_LEAK = 0.01


class AttentionRefinement(nn.Module):
    """Reduced feature times a gate from its own mean over the map: (B, C, h, w) -> (B, outputs, h, w)."""

    def __init__(self, channels: int, outputs: int, leak: float = _LEAK) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, outputs, 3, activation=_leaky(leak))
        self.gate = ConvNorm(outputs, outputs, activation=nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        gated: Tensor = reduced * self.gate(_mean(reduced))
        return gated


class ContextPath(nn.Module):
    """ResNet-18 down to 1/32 and back: image (B, 3, H, W) -> fine and context feature, both (B, 128, H/8, W/8).

    From the coarsest stage upwards, each refined stage takes up what the coarser ones say, the coarsest one the mean
    over the picture.
    """

    def __init__(self, leak: float = _LEAK) -> None:
        super().__init__()
        self.backbone = StridedResNet18(first_stride=1, leak=leak)
        _, _, third, fourth = self.backbone.channels
        self.overview = ConvNorm(fourth, _WIDTH, activation=_leaky(leak))
        self.refine32 = AttentionRefinement(fourth, _WIDTH, leak)
        self.smooth32 = ConvNorm(_WIDTH, _WIDTH, 3, activation=_leaky(leak))
        self.refine16 = AttentionRefinement(third, _WIDTH, leak)
        self.smooth16 = ConvNorm(_WIDTH, _WIDTH, 3, activation=_leaky(leak))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        _, eighth, sixteenth, coarsest = self.backbone(image)
        context = self.refine32(coarsest) + self.overview(_mean(coarsest))
        context = self.smooth32(self.to_sixteenth(context, sixteenth))
        context = self.refine16(sixteenth) + context
        return eighth, self.smooth16(self.to_eighth(context, eighth))

    def to_sixteenth(self, context: Tensor, sixteenth: Tensor) -> Tensor:
        """From 1/32 to the size of the stage at 1/16."""
        return _spread(context, sixteenth)

    def to_eighth(self, context: Tensor, eighth: Tensor) -> Tensor:
        """From 1/16 to the size of the stage at 1/8."""
        return _spread(context, eighth)


class DoublingContextPath(ContextPath):
    """AR-Seg's: each step up doubles the size, so an odd number of rows at 1/8 comes out one larger."""

    def __init__(self) -> None:
        super().__init__(leak=0.0)

    def to_sixteenth(self, context: Tensor, sixteenth: Tensor) -> Tensor:
        return upsample(_double(context), (sixteenth.shape[2], sixteenth.shape[3]), align_corners=True)

    def to_eighth(self, context: Tensor, eighth: Tensor) -> Tensor:
        return _double(context)


class SpatialPath(nn.Module):
    """Three strided convolutions: image (B, 3, H, W) -> (B, 128, H/8, W/8), sizes rounded up."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 7, 2, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvNorm(64, 64, 3, 2, activation=nn.ReLU(inplace=True))
        self.conv3 = ConvNorm(64, 64, 3, 2, activation=nn.ReLU(inplace=True))
        self.project = ConvNorm(64, _WIDTH, activation=nn.ReLU(inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        fine: Tensor = self.project(self.conv3(self.conv2(self.conv1(image))))
        return fine


class GatedMix(nn.Module):
    """BiSeNet's feature fusion with one convolution for the gate: two features (B, 128, h, w) -> (B, 256, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = ConvNorm(channels, channels, activation=nn.ReLU(inplace=True))
        self.gate = ConvNorm(channels, channels, activation=nn.Sigmoid())

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        mixed = self.mix(torch.cat((fine, context), dim=1))
        fused: Tensor = mixed * (1 + self.gate(_mean(mixed)))
        return fused


class BiSeNetBranch(nn.Module):
    """A whole BiSeNet but for its classifier: image (B, 3, H, W) -> feature (B, 256, 2 ceil(H/16), 2 ceil(W/16))."""

    def __init__(self) -> None:
        super().__init__()
        self.context = DoublingContextPath()
        self.spatial = SpatialPath()
        self.fusion = GatedMix(2 * _WIDTH)
        self.channels = 2 * _WIDTH
        self.refine = ConvNorm(self.channels, self.channels, 3, activation=nn.ReLU(inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        _, context = self.context(image)
        fine = upsample(self.spatial(image), (context.shape[2], context.shape[3]), align_corners=True)
        feature: Tensor = self.refine(self.fusion(fine, context))
        return feature


class FeatureFusion(nn.Module):
    """One path's share of BiSeNet's feature fusion: two features (B, 128, h, w) -> (B, 256 / groups, h, w).

    The gate of every channel depends on the means of all, so all channels are mixed before the group takes its own.
    """

    def __init__(self, channels: int, group: int, groups: int) -> None:
        super().__init__()
        self.mix = ConvNorm(channels, channels, activation=_leaky())
        self.squeeze = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.expand = nn.Conv2d(channels // 4, channels, 1, bias=False)
        self.channels = channels // groups
        self.group = group

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        mixed = self.mix(torch.cat((fine, context), dim=1))
        gate = torch.sigmoid(self.expand(F.relu(self.squeeze(_mean(mixed)))))
        return self._share(mixed) * (1 + self._share(gate))

    def _share(self, x: Tensor) -> Tensor:
        return x[:, self.group * self.channels : (self.group + 1) * self.channels]


class BiSeNetPath(nn.Module):
    """Context path and one group of the fusion: image (B, 3, H, W) -> feature (B, 256 / groups, H/8, W/8)."""

    stride = 8

    def __init__(self, group: int, groups: int) -> None:
        super().__init__()
        self.context = ContextPath()
        self.fusion = FeatureFusion(2 * _WIDTH, group, groups)
        self.channels = self.fusion.channels

    def forward(self, image: Tensor) -> PathFeature:
        return PathFeature(self.fusion(*self.context(image)), ())


def _mean(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1)


def _spread(x: Tensor, like: Tensor) -> Tensor:
    """To the size of the other one by the nearest neighbour."""
    return F.interpolate(x, size=(like.shape[2], like.shape[3]), mode="nearest")


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _leaky(leak: float = _LEAK) -> nn.Module:
    return nn.LeakyReLU(leak, inplace=True) if leak else nn.ReLU(inplace=True)
