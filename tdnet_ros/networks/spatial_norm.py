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
        self.weight = nn.Parameter(torch.ones(height, width))
        self.bias = nn.Parameter(torch.zeros(height, width))

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        affine = upsample(torch.stack((self.weight, self.bias))[None], size, align_corners=True)
        return F.layer_norm(x, size, affine[0, 0], affine[0, 1])
