"""A quirk that TDNet's published weights depend on: a layer norm over the map, with weights per pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import upsample


class SpatialLayerNorm(nn.Module):
    """Normalises each channel over its map: (B, C, h, w) -> same.

    The affine part is one weight and one bias per pixel, shared by the channels, so the weights belong to one map
    size. For another size the two maps are resized (bilinear, corners aligned), which is the author's advice.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.take_size(height, width)

    def take_size(self, height: int, width: int) -> None:
        """Fresh weights for a map of that size: a file has weights for the size that it was trained at."""
        self.weight = nn.Parameter(torch.ones(height, width))
        self.bias = nn.Parameter(torch.zeros(height, width))

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        return F.layer_norm(x, size, *self.affine(size))

    def affine(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Weight and bias for maps of that size, (h, w) each."""
        maps = upsample(torch.stack((self.weight, self.bias))[None], size, align_corners=True)
        return maps[0, 0], maps[0, 1]


class StripSpatialNorm(nn.Module):
    """As the given norm, some channels at a time, for inference on a CPU: torch's copies its input to contiguous."""

    _CHANNELS = 64

    def __init__(self, norm: SpatialLayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        weight, bias = self.norm.affine(size)
        result = torch.empty_like(x)
        for source, target in zip(
            torch.split(x, self._CHANNELS, 1), torch.split(result, self._CHANNELS, 1), strict=True
        ):
            target.copy_(F.layer_norm(source, size, weight, bias))
        return result
