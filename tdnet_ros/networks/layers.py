"""The building blocks that several networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation: (B, Cin, H, W) -> (B, Cout, ceil(H/s), ceil(W/s)).

    ``same`` pads as TensorFlow does: at stride 2 an even size gets its single padding pixel at the far end, which
    is what weights trained there expect. Otherwise padding is symmetric.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
        same: bool = False,
    ) -> None:
        super().__init__()
        self.same = same and stride > 1
        padding = 0 if self.same else dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.activation = activation if activation is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = _convolve_same(self.conv, x) if self.same else self.conv(x)
        result: Tensor = self.activation(self.norm(y))
        return result

    def fold(self) -> None:
        """Merge the batch norm into the convolution: the same function in eval mode, one pass less over memory."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class SeparableConv(nn.Sequential):
    """3x3 depthwise then 1x1: (B, Cin, H, W) -> (B, Cout, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            ConvNorm(inputs, inputs, 3, groups=inputs, activation=nn.ReLU(inplace=True)),
            ConvNorm(inputs, outputs, activation=nn.ReLU(inplace=True)),
        )


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position: (B, C, H, W) -> same. Independent of size and batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def upsample(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, H, W)."""
    if (x.shape[2], x.shape[3]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def lift(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the height and width of another map, corners not aligned."""
    return upsample(x, (like.shape[2], like.shape[3]), align_corners=False)


def fold_batch_norm(network: nn.Module) -> None:
    """Fold the batch norm of every ConvNorm in the network, in place; the network must be in eval mode."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ConvNorm):
                module.fold()


def _convolve_same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution with TensorFlow's padding, which may be one pixel more at the far end than at the near one.

    The image is padded by the larger of the two on both sides and the kernel by zeros on its near side, which is the
    same sum. Padding the image unevenly would copy it: an eighth of the time of a td2_mnv2 at 480x360 on one thread.
    """
    (top, bottom), (left, right) = (
        _same_padding(length, kernel, stride)
        for length, kernel, stride in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)
    )
    weight = F.pad(conv.weight, (right - left, 0, bottom - top, 0))
    return F.conv2d(x, weight, conv.bias, conv.stride, (bottom, right), groups=conv.groups)


def _same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2
