"""FANet as a path of TDNet (FANet: Hu et al., arXiv 2007.03815): a strided ResNet-18 and linear attention per stage.

The TDNet authors published the class that trains TD2-FA18 and neither a streaming class nor trained weights; what
stands here gives what that class gives in evaluation, and leaves out the layers whose output nothing reads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm, upsample
from tdnet_ros.networks.paths import PathFeature
from tdnet_ros.networks.resnet import StridedResNet18

_KEYS = 32
_WIDTH = 128


class FastAttention(nn.Module):
    """Global attention at linear cost, added to its input: (B, C, h, w) -> same (FANet, section on fast attention).

    Queries and keys have length one, so their product needs no softmax and the sums may change places:
    y = q (k^T v), 32 x C numbers in between instead of one for each pair of positions. As in the official code the
    sum over positions is not divided by their number, so its size follows that of the map: weights are for
    pictures near the size that they were trained at.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = ConvNorm(channels, _KEYS)
        self.key = ConvNorm(channels, _KEYS)
        self.value = ConvNorm(channels, channels, activation=_leaky())
        self.lateral = ConvNorm(channels, channels, activation=_leaky())

    def forward(self, x: Tensor) -> Tensor:
        query = F.normalize(self.query(x).flatten(2), dim=1)  # (B, 32, h * w)
        key = F.normalize(self.key(x).flatten(2), dim=1)
        content = self.value(x).flatten(2) @ key.transpose(1, 2)  # (B, C, 32)
        attended: Tensor = self.lateral((content @ query).unflatten(2, x.shape[2:]))
        return attended + x


class FramedConv(ConvNorm):
    """A quirk that weights depend on: a 1x1 convolution with a padding of 1, (B, C, h, w) -> (B, Cout, h+2, w+2).

    The frame around the map is what the convolution makes of zeros. Whoever resizes the result to another map thus
    shrinks its content a little towards the middle.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 1, 1, 1)))


class FANetPath(nn.Module):
    """Image (B, 3, H, W) -> feature (B, 256, H/8, W/8): the features at 1/32 (resized) and at 1/8, 128 channels each.

    Each stage's attended feature takes up that of the coarser one, from 1/64 upwards.
    """

    channels = 2 * _WIDTH
    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.backbone = StridedResNet18(first_stride=2)
        eighth, sixteenth, thirty_second, coarsest = self.backbone.channels
        self.attention8 = FastAttention(eighth)
        self.attention16 = FastAttention(sixteenth)
        self.attention32 = FastAttention(thirty_second)
        self.attention64 = FastAttention(coarsest)
        self.lift16 = FramedConv(sixteenth, eighth, activation=_leaky())
        self.lift32 = FramedConv(thirty_second, sixteenth, activation=_leaky())
        self.lift64 = FramedConv(coarsest, thirty_second, activation=_leaky())
        self.smooth8 = ConvNorm(eighth, _WIDTH, 3, activation=_leaky())
        self.smooth32 = ConvNorm(thirty_second, _WIDTH, 3, activation=_leaky())

    def forward(self, image: Tensor) -> PathFeature:
        eighth, sixteenth, thirty_second, coarsest = self.backbone(image)
        coarsest = self.attention64(coarsest)
        thirty_second = _add(self.attention32(thirty_second), self.lift64(coarsest))
        sixteenth = _add(self.attention16(sixteenth), self.lift32(thirty_second))
        eighth = _add(self.attention8(eighth), self.lift16(sixteenth))
        return PathFeature(torch.cat((_resize(self.smooth32(thirty_second), eighth), self.smooth8(eighth)), dim=1), ())


def _add(fine: Tensor, coarse: Tensor) -> Tensor:
    return fine + _resize(coarse, fine)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return upsample(x, (like.shape[2], like.shape[3]), align_corners=True)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.01, inplace=True)
