"""What stands behind a backbone: context modules that make a path's feature, and heads that make its scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm, SeparableConv, lift, upsample


class PooledShare(ConvNorm):
    """The 1x1 convolution of one pooled map: (B, C, b, b) -> (B, rows, b, b), of all its outputs those in ``rows``.

    Weights have all rows, as official files do. Folding the batch norm leaves only those that are computed.
    """

    def __init__(self, inputs: int, outputs: int, rows: slice) -> None:
        super().__init__(inputs, outputs, activation=nn.ReLU(inplace=True))
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, self.rows]

    def fold(self) -> None:
        super().fold()
        weight, bias = self.conv.weight[self.rows], self.conv.bias
        self.conv.weight = nn.Parameter(weight.clone())
        self.conv.bias = None if bias is None else nn.Parameter(bias[self.rows].clone())
        self.conv.out_channels = len(weight)
        self.rows = slice(None)


class PyramidPooling(nn.Module):
    """One path's share of a pyramid pooling module (PSPNet, CVPR 2017, section 3.2; TDNet, section 3.3).

    (B, C, h, w) -> (B, 2 * C / groups, h, w): the group's slice of the input beside its slices of the four pooled
    maps.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, channels: int, group: int, groups: int) -> None:
        super().__init__()
        width = channels // 4 // groups
        rows = slice(group * width, (group + 1) * width)
        self.pooled = nn.ModuleList(PooledShare(channels, channels // 4, rows) for _ in self.BINS)
        self.group, self.groups = group, groups
        self.channels = 2 * channels // groups

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        parts = [self._share(x)]
        for bins, reduce in zip(self.BINS, self.pooled, strict=True):
            parts.append(upsample(reduce(F.adaptive_avg_pool2d(x, bins)), size, align_corners=True))
        return torch.cat(parts, dim=1)

    def _share(self, x: Tensor) -> Tensor:
        width = x.shape[1] // self.groups
        return x[:, self.group * width : (self.group + 1) * width]


class PooledContext(nn.Module):
    """Reduced feature beside averages of it over ever larger surroundings, mixed: (B, C, h, w) -> (B, outputs, h, w).

    Pooled as in DDRNet (arXiv 2101.06085, section 3.3), by strides rather than into a fixed number of bins, so that the
    surroundings are the same number of pixels at any size of the image.
    """

    #: (size, stride) of the averages, beside that of the whole map.
    WINDOWS = ((5, 2), (9, 4))

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        share = outputs // 4
        self.reduce = ConvNorm(channels, outputs, activation=nn.ReLU(inplace=True))
        # Without norms: a batch has too few averages of whole maps for statistics.
        self.pooled = nn.ModuleList(nn.Conv2d(outputs, share, 1) for _ in (*self.WINDOWS, None))
        self.mix = ConvNorm(outputs + len(self.pooled) * share, outputs, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        averages = [F.avg_pool2d(x, size, stride, size // 2, count_include_pad=False) for size, stride in self.WINDOWS]
        averages.append(x.mean((2, 3), keepdim=True))
        parts = [x]
        for average, convolution in zip(averages, self.pooled, strict=True):
            parts.append(lift(F.relu(convolution(average)), x))
        mixed: Tensor = self.mix(torch.cat(parts, dim=1))
        return mixed


class FCNHead(nn.Module):
    """3x3 convolution and classifier: feature (B, C, h, w) -> scores (B, classes, h, w). Needs no details.

    ``activation`` stands between the two (a ReLU unless given), ``bias`` is the classifier's.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        classes: int,
        activation: nn.Module | None = None,
        dropout: float = 0.1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, hidden, 3, activation=activation or nn.ReLU(inplace=True))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(hidden, classes, 1, bias=bias)

    def forward(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self.classifier(self.dropout(self.embed(feature, details)))
        return scores

    def embed(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        """What the classifier sees: (B, C, h, w) -> (B, hidden, h, w)."""
        embedded: Tensor = self.conv(feature)
        return embedded


class DetailDecoder(nn.Module):
    """Joins a coarse feature with the frame's own finer ones.

    Feature (B, C, H/16, W/16), details (B, C4, H/4, W/4) and (B, C8, H/8, W/8) -> (B, hidden, H/4, W/4).
    """

    def __init__(self, channels: int, hidden: int, detail_channels: Sequence[int]) -> None:
        super().__init__()
        quarter, eighth = detail_channels
        self.channels = channels
        self.lateral8 = ConvNorm(eighth, channels)
        self.refine8 = ConvNorm(channels, hidden, 3, activation=nn.ReLU(inplace=True))
        self.lateral4 = ConvNorm(quarter, hidden)

    def forward(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        quarter, eighth = details
        x = self.refine8(lift(feature, eighth) + self.lateral8(eighth))
        joined: Tensor = lift(x, quarter) + self.lateral4(quarter)
        return joined


class DetailHead(DetailDecoder):
    """Decoder that refines the recomposed feature with the frame's own finer features.

    Feature (B, C, H/16, W/16), details (B, C4, H/4, W/4) and (B, C8, H/8, W/8) -> scores (B, classes, H/4, W/4).
    """

    def __init__(self, channels: int, hidden: int, detail_channels: Sequence[int], classes: int) -> None:
        super().__init__(channels, hidden, detail_channels)
        self.refine4 = SeparableConv(hidden, hidden)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(hidden, classes, 1)

    def forward(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self.classifier(self.dropout(self.embed(feature, details)))
        return scores

    def embed(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        """What the classifier sees: arguments as of ``forward`` -> (B, hidden, H/4, W/4)."""
        embedded: Tensor = self.refine4(super().forward(feature, details))
        return embedded
